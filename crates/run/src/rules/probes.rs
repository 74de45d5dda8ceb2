//! Probes: defaults and limits (<https://cloud.google.com/run/docs/configuring/healthchecks>). The sentences are ours where
//! Google publishes none; the limits are Google's.
//!
//! That a readiness probe may fail three times at most is not on that page; Cloud Run says it when it refuses more.

use super::Faults;
use crate::record::{Container, Probe, ProbeKind, Template};

/// How long a startup may take over all its probes, and how long one may wait for another, in seconds.
const STARTUP: u32 = 240;
/// The same of a liveness probe, for one wait.
const LIVENESS: u32 = 3600;
/// The same of a readiness probe, and how often it may fail before it has failed.
const READINESS: u32 = 300;
const READINESS_FAILURES: u32 = 3;

/// Fills in what was left out. The startup probe that both forms show where there is none is none.
pub(super) fn complete(container: &mut Container) {
    for probe in [&mut container.startup_probe, &mut container.liveness_probe] {
        if probe.as_ref().is_some_and(is_default) {
            *probe = None;
        }
        if let Some(asked) = probe {
            complete_one(asked);
            // Once is what there is, and neither form shows it.
            asked.success_threshold = Some(asked.success_threshold).filter(|times| *times != 1).unwrap_or(0);
        }
    }
    if let Some(asked) = &mut container.readiness_probe {
        complete_one(asked);
        set_unset(&mut asked.success_threshold, 2);
    }
}

fn complete_one(asked: &mut Probe) {
    set_unset(&mut asked.timeout, 1);
    set_unset(&mut asked.period, 10);
    set_unset(&mut asked.failure_threshold, 3);
}

fn set_unset(field: &mut u32, usual: u32) {
    if *field == 0 {
        *field = usual;
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
    for (name, probe) in
        [("startup_probe", &container.startup_probe), ("liveness_probe", &container.liveness_probe)]
    {
        let times = probe.as_ref().map_or(0, |probe| probe.success_threshold);
        faults.check(times == 0, &format!("{path}.{name}.success_threshold"), || "must be 1 if set".into());
    }
    if let Some(probe) = &container.readiness_probe {
        check_readiness(&format!("{path}.readiness_probe"), probe, container, faults);
    }
}

fn check_readiness(path: &str, probe: &Probe, container: &Container, faults: &mut Faults) {
    let at = |field: &str| format!("{path}.{field}");
    if probe.kind.is_none() {
        return faults.add(path, "must have one of http_get or grpc");
    }
    check_one(path, probe, container, READINESS, faults);
    faults.check(probe.initial_delay == 0, &at("initial_delay_seconds"), || {
        "is not supported for a readiness probe".into()
    });
    faults.check(probe.failure_threshold <= READINESS_FAILURES, &at("failure_threshold"), || {
        format!("failure_threshold must be a number between 0 and {READINESS_FAILURES}.")
    });
    faults.check(!matches!(probe.kind, Some(ProbeKind::Tcp(_))), &at("tcp_socket"), || {
        "is not supported for a readiness probe: use http_get or grpc".into()
    });
}

/// Refuses readiness probes where no requests come.
pub(crate) fn check_no_readiness(path: &str, template: &Template, faults: &mut Faults) {
    for (index, container) in template.containers.iter().enumerate() {
        faults.check(
            container.readiness_probe.is_none(),
            &format!("{path}[{index}].readiness_probe"),
            || "is only supported for services: nothing else takes requests".into(),
        );
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
    use crate::record::{GrpcProbe, HttpProbe, TcpProbe};

    fn said(spoil: fn(&mut Container)) -> Option<String> {
        let probe = |kind| Some(Probe { kind: Some(kind), ..Probe::default() });
        let tcp = || probe(ProbeKind::Tcp(TcpProbe::default()));
        let mut container = Container {
            port: 8080,
            startup_probe: tcp(),
            liveness_probe: tcp(),
            readiness_probe: probe(ProbeKind::Http(HttpProbe::default())),
            ..Container::default()
        };
        complete(&mut container);
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

    fn readiness(container: &mut Container) -> &mut Probe {
        container.readiness_probe.as_mut().unwrap()
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let asked = || Probe { kind: Some(ProbeKind::Grpc(GrpcProbe::default())), ..Probe::default() };
        let mut container = Container {
            startup_probe: Some(Probe { success_threshold: 1, ..asked() }),
            readiness_probe: Some(asked()),
            ..Container::default()
        };
        complete(&mut container);
        let usual = Probe { timeout: 1, period: 10, failure_threshold: 3, ..asked() };
        assert_eq!(container.startup_probe, Some(usual.clone()));
        assert_eq!(container.liveness_probe, None);
        assert_eq!(container.readiness_probe, Some(Probe { success_threshold: 2, ..usual }));
        let once = container.clone();
        complete(&mut container);
        assert_eq!(container, once);
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
            |c| (readiness(c).period, readiness(c).timeout) = (300, 300),
            |c| (readiness(c).failure_threshold, readiness(c).success_threshold) = (1, 10),
            |c| readiness(c).kind = Some(ProbeKind::Grpc(GrpcProbe::default())),
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
            (|c| startup(c).success_threshold = 2, "c.startup_probe.success_threshold: must be 1 if set"),
            (|c| liveness(c).success_threshold = 2, "c.liveness_probe.success_threshold: must be 1 if set"),
        ] {
            let message = said(spoil).unwrap_or_else(|| panic!("{what} passes"));
            assert!(message.contains(what), "{message}");
        }
    }

    #[test]
    fn what_is_not_for_readiness_is_refused() {
        for (spoil, what) in [
            (
                (|c| readiness(c).period = 301) as fn(&mut Container),
                "c.readiness_probe.period_seconds: must be between 1 and 300",
            ),
            (|c| readiness(c).timeout = 301, "c.readiness_probe.timeout_seconds: must be between 1 and 300"),
            (|c| readiness(c).timeout = 11, "c.readiness_probe.timeout_seconds: must be less than or equal"),
            (|c| readiness(c).initial_delay = 1, "c.readiness_probe.initial_delay_seconds: is not supported"),
            (
                |c| readiness(c).failure_threshold = 4,
                "c.readiness_probe.failure_threshold: failure_threshold must be a number between 0 and 3.",
            ),
            (
                |c| readiness(c).kind = Some(ProbeKind::Tcp(TcpProbe::default())),
                "c.readiness_probe.tcp_socket: is not supported",
            ),
            (|c| readiness(c).kind = None, "c.readiness_probe: must have one of"),
            (
                |c| (c.port, c.startup_probe, c.liveness_probe) = (0, None, None),
                "c.readiness_probe.http_get.port: must be set",
            ),
        ] {
            let message = said(spoil).unwrap_or_else(|| panic!("{what} passes"));
            assert!(message.contains(what), "{message}");
        }
    }
}
