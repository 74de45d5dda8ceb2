//! A container between the start of its program and its readiness, and what is said when it does not get there.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use kernel::ports::{LogSource, LogStream};

use crate::{
    Run,
    fleet::remark,
    plan,
    probe::{self, GaveUp},
    reconcile::Failure,
    record::{Container, Probe, Revision},
    rules,
    runtime::{Exit, Running},
    together::Together,
    words,
};

/// How long an instance without a port must have run to count as started.
const STEADY: Duration = Duration::from_secs(1);
/// How many lines of output an error quotes.
const QUOTED_LINES: usize = 10;

/// A container whose program has been started.
pub(crate) struct Started {
    pub(crate) container: Container,
    pub(crate) takes_requests: bool,
    pub(crate) source: LogSource,
    pub(crate) port: u16,
    pub(crate) memory: u64,
    pub(crate) running: Arc<dyn Running>,
    pub(crate) ready: bool,
}

impl Started {
    /// What has more CPU than it is to have, and how much that is.
    pub(crate) fn boosted(&self) -> Option<(Weak<dyn Running>, u32)> {
        let cpu = rules::cpu(&self.container.cpu);
        (plan::boost(&self.container) > cpu).then(|| (Arc::downgrade(&self.running), cpu))
    }

    /// Waits until it is ready. One without port and probe is at once.
    pub(crate) async fn wait(&mut self, run: &Run) -> Result<(), Failure> {
        let probe = self.container.startup_probe.as_ref();
        if self.ready || (!self.takes_requests && probe.is_none()) {
            return Ok(());
        }
        let Err(end) = ready(&self.running, self.port, probe).await else {
            self.ready = true;
            return Ok(());
        };
        let (message, said) = self.sentences(&end);
        let message = explain(run, &self.source, message, self.memory, &end);
        run.ports.logs.line(&self.source, LogStream::System, &said);
        Err(Failure::new("HealthCheckContainerError", message))
    }

    /// What Cloud Run says of a container that did not get ready, and what it writes to the log.
    fn sentences(&self, end: &End) -> (String, String) {
        let (name, port) = (&self.container.name, self.port);
        let in_log = format!("{}-1", self.source.owner.name());
        match (&self.container.startup_probe, end) {
            _ if !self.takes_requests => (words::not_started(name), words::startup_failed(name)),
            (Some(asked), End::GaveUp(_)) => {
                let times = asked.failure_threshold.max(1);
                let said =
                    words::own_probe_failed(&in_log, probe::name(asked), &probe::asked(asked, port), times);
                match probe::asks_to_listen(asked, port) {
                    true => (words::not_listening(port), said),
                    false => (words::not_started(name), said),
                }
            }
            _ => (words::not_listening(port), words::probe_failed(&in_log, port)),
        }
    }
}

/// One container is its instance; several end together.
pub(crate) fn as_one(main: &Started, all: &[Started]) -> Arc<dyn Running> {
    match all {
        [only] => only.running.clone(),
        _ => Together::of(main.running.clone(), all.iter().map(|one| one.running.clone()).collect()),
    }
}

/// An instance that is not ready yet: it ends with whoever waits for it.
pub(crate) struct Unready {
    pub(crate) running: Arc<dyn Running>,
    waited_for: bool,
}

impl Unready {
    pub(crate) fn new(running: Arc<dyn Running>) -> Self {
        Unready { running, waited_for: true }
    }

    pub(crate) fn into_ready(mut self) -> Arc<dyn Running> {
        self.waited_for = false;
        self.running.clone()
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.waited_for, tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn(self.running.stop(Duration::ZERO)));
        }
    }
}

/// How a start ended that did not succeed.
enum End {
    Exited(Exit),
    GaveUp(String),
}

/// Waits for readiness or the end, whichever is first.
async fn ready(running: &Arc<dyn Running>, port: u16, startup: Option<&Probe>) -> Result<(), End> {
    tokio::select! {
        exit = running.ended() => Err(End::Exited(exit)),
        started = probe::started(running, port, startup) => started.map_err(|GaveUp(why)| End::GaveUp(why)),
    }
}

/// Makes sure that an instance without a port goes on working once it was started: nothing else shows that it does.
pub(crate) async fn is_steady(
    run: &Run,
    revision: &Revision,
    source: &LogSource,
    running: &Arc<dyn Running>,
) -> Result<(), Failure> {
    let Ok(exit) = tokio::time::timeout(STEADY, running.ended()).await else { return Ok(()) };
    let containers = revision.template.as_ref().map(|template| &template.containers[..]).unwrap_or_default();
    let memory = containers.first().map_or(0, |container| rules::memory(&container.memory));
    let message = explain(run, source, words::not_steady(&source.container), memory, &End::Exited(exit));
    Err(Failure::new("HealthCheckContainerError", message))
}

/// Cloud Run's sentence, what happened, and the last lines of output.
fn explain(run: &Run, source: &LogSource, failed: String, memory: u64, end: &End) -> String {
    let happened = match end {
        End::Exited(exit) => {
            remark(*exit, memory).unwrap_or_else(|| "The container ended with exit code 0.".into())
        }
        End::GaveUp(why) => format!("The startup probe failed: {why}."),
    };
    let mut quoted = run.ports.logs.tail(source, QUOTED_LINES);
    quoted.retain(|line| *line != happened);
    let mut text = format!("{failed} {happened}");
    if !quoted.is_empty() {
        text.push_str("\n\nThe last lines of its log:\n");
        text.push_str(&quoted.join("\n"));
    }
    text
}
