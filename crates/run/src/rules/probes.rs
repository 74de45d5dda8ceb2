//! Probes: defaults and limits (<https://cloud.google.com/run/docs/configuring/healthchecks>). The sentences are ours where
//! Google publishes none; the limits are Google's.

use super::Faults;
use crate::record::{Container, Probe, ProbeKind};

/// How long a startup may take over all its probes, and how long one may wait for another, in seconds.
const STARTUP: u32 = 240;
/// The same of a liveness probe, for one wait.
const LIVENESS: u32 = 3600;

/// Fills in what was left out. The startup probe that both forms show where there is none is none.
pub(super) fn complete(probe: &mut Option<Probe>) {
    let Some(asked) = probe else { return };
    if is_default(asked) {
        *probe = None;
        return;
    }
    for (field, usual) in
        [(&mut asked.timeout, 1), (&mut asked.period, 10), (&mut asked.failure_threshold, 3)]
    {
        if *field == 0 {
            *field = usual;
        }
    }
}

/// Whether this is the startup probe that both forms show where there is none. Its port follows the container's.
fn is_default(probe: &Probe) -> bool {
    let times = (probe.initial_delay, probe.timeout, probe.period, probe.failure_threshold);
    times == (0, 240, 240, 1) && matches!(probe.kind, Some(ProbeKind::Tcp(_)))
}

/// Refuses what the probes of a container cannot be.
pub(super) fn check(path: &str, container: &Container, faults: &mut Faults) {
    if let Some(probe) = &container.startup_probe {
        let path = format!("{path}.startup_probe");
        check_one(&path, probe, container, STARTUP, faults);
        let whole = u64::from(probe.failure_threshold) * u64::from(probe.period);
        faults.check(whole <= STARTUP.into(), &format!("{path}.failure_threshold"), || {
            format!("failure_threshold multiplied by period_seconds must not be greater than {STARTUP}")
        });
    }
    if let Some(probe) = &container.liveness_probe {
        check_one(&format!("{path}.liveness_probe"), probe, container, LIVENESS, faults);
    }
}

fn check_one(path: &str, probe: &Probe, container: &Container, longest: u32, faults: &mut Faults) {
    let at = |field: &str| format!("{path}.{field}");
    for (field, least, value) in [
        ("initial_delay_seconds", 0, probe.initial_delay),
        ("period_seconds", 1, probe.period),
        ("timeout_seconds", 1, probe.timeout),
    ] {
        faults.check((least..=longest).contains(&value), &at(field), || {
            format!("must be between {least} and {longest}, inclusive")
        });
    }
    faults.check(probe.timeout <= probe.period, &at("timeout_seconds"), || {
        "must be less than or equal to period_seconds".into()
    });
    let Some(kind) = &probe.kind else {
        return faults.add(path, "must have one of http_get, tcp_socket or grpc");
    };
    let (field, port) = match kind {
        ProbeKind::Http(http) => ("http_get.port", http.port),
        ProbeKind::Tcp(tcp) => ("tcp_socket.port", tcp.port),
        ProbeKind::Grpc(grpc) => ("grpc.port", grpc.port),
    };
    faults.check(port <= 65535, &at(field), || "must be between 1 and 65535".into());
    faults.check(port != 0 || container.port != 0, &at(field), || {
        "must be set for a container that exposes no port".into()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TcpProbe;

    fn said(spoil: fn(&mut Container)) -> Option<String> {
        let probe = || Some(Probe { kind: Some(ProbeKind::Tcp(TcpProbe::default())), ..Probe::default() });
        let mut container =
            Container { port: 8080, startup_probe: probe(), liveness_probe: probe(), ..Container::default() };
        complete(&mut container.startup_probe);
        complete(&mut container.liveness_probe);
        spoil(&mut container);
        let mut faults = Faults::default();
        check("c", &container, &mut faults);
        faults.into_result().err().map(|error| error.message().to_owned())
    }

    fn startup(container: &mut Container) -> &mut Probe {
        container.startup_probe.as_mut().unwrap()
    }

    fn liveness(container: &mut Container) -> &mut Probe {
        container.liveness_probe.as_mut().unwrap()
    }

    #[test]
    fn what_cloud_run_takes_passes() {
        for spoil in [
            (|_| ()) as fn(&mut Container),
            |c| (startup(c).period, startup(c).failure_threshold) = (10, 24),
            |c| (startup(c).period, startup(c).timeout, startup(c).failure_threshold) = (240, 240, 1),
            |c| startup(c).initial_delay = 240,
            |c| (liveness(c).period, liveness(c).timeout) = (3600, 3600),
            |c| (liveness(c).period, liveness(c).failure_threshold) = (60, 100),
        ] {
            assert_eq!(said(spoil), None);
        }
    }

    #[test]
    fn what_takes_too_long_is_refused() {
        for (spoil, what) in [
            (
                (|c| (startup(c).period, startup(c).failure_threshold) = (10, 25)) as fn(&mut Container),
                "c.startup_probe.failure_threshold: failure_threshold multiplied by period_seconds must not be greater than 240",
            ),
            (
                |c| startup(c).initial_delay = 241,
                "c.startup_probe.initial_delay_seconds: must be between 0 and 240",
            ),
            (
                |c| startup(c).timeout = 11,
                "c.startup_probe.timeout_seconds: must be less than or equal to period_seconds",
            ),
            (
                |c| liveness(c).initial_delay = 3601,
                "c.liveness_probe.initial_delay_seconds: must be between 0 and 3600",
            ),
            (|c| liveness(c).kind = None, "c.liveness_probe: must have one of"),
            (|c| c.port = 0, "c.startup_probe.tcp_socket.port: must be set"),
        ] {
            let message = said(spoil).unwrap_or_else(|| panic!("{what} passes"));
            assert!(message.contains(what), "{message}");
        }
    }
}
