//! Liveness probes: an instance that is no longer well is ended, and the ingress starts another where it is needed
//! (<https://cloud.google.com/run/docs/configuring/healthchecks>).
//!
//! An instance without requests may be frozen; it has its CPU while it is probed ([`Cpu`]).

use std::{sync::Arc, time::Duration};

use kernel::ports::{LogSource, LogStream, Logs};
use tokio::time::sleep;

use crate::{cpu::Cpu, probe, record::Probe, words};

/// Probes an instance until it ends, and ends it when too many probes in a row have failed.
pub(crate) async fn watch(cpu: Arc<Cpu>, port: u16, probe: Probe, source: LogSource, logs: Arc<dyn Logs>) {
    let gave_up = tokio::select! {
        why = gives_up(&cpu, port, &probe) => why,
        _ = cpu.running.ended() => return,
    };
    let kind = probe::name(&probe);
    let message = words::not_live(kind, probe.failure_threshold.max(1), source.owner.name(), port, &gave_up);
    logs.line(&source, LogStream::System, &message);
    cpu.thaw();
    cpu.running.stop(Duration::ZERO).await;
}

/// Resolves when as many probes in a row have failed as may, with what the last one found.
async fn gives_up(cpu: &Cpu, port: u16, probe: &Probe) -> String {
    sleep(Duration::from_secs(probe.initial_delay.into())).await;
    let mut failed = 0;
    loop {
        sleep(Duration::from_secs(probe.period.max(1).into())).await;
        let checked = {
            let _awake = cpu.wake();
            probe::check(&cpu.running, port, probe).await
        };
        match checked {
            Ok(()) => failed = 0,
            Err(why) => {
                failed += 1;
                if failed >= probe.failure_threshold.max(1) {
                    return why;
                }
            }
        }
    }
}
