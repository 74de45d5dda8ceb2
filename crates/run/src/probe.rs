//! Probes: when an instance counts as started, whether it is still well, and whether it is ready.
//!
//! Without one of its own a container gets Cloud Run's: its port must accept a connection within 240 s
//! (<https://cloud.google.com/run/docs/configuring/healthchecks>). A port is tried again within milliseconds, not
//! once a period: the period only bounds how long failures may go on, and a fast start is the point.

mod health;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

use crate::{
    record::{HttpProbe, Probe, ProbeKind},
    runtime::Running,
};

/// The whole time that Cloud Run's own probe allows.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(240);
/// Between the first tries of a port; grows to `SLOWEST`.
const FASTEST: Duration = Duration::from_micros(500);
const SLOWEST: Duration = Duration::from_millis(25);
/// The most that is read of an answer's head.
const MAX_HEAD: usize = 8192;

/// Why a startup probe gave up.
#[derive(Debug)]
pub(crate) struct GaveUp(pub(crate) String);

/// Waits until the container listens and its startup probe has passed.
pub(crate) async fn started(
    instance: &Arc<dyn Running>,
    port: u16,
    probe: Option<&Probe>,
) -> Result<(), GaveUp> {
    let Some(probe) = probe else {
        return accepts(instance, port, Instant::now() + DEFAULT_PATIENCE).await;
    };
    sleep(Duration::from_secs(probe.initial_delay.into())).await;
    let patience =
        Duration::from_secs(u64::from(probe.period.max(1)) * u64::from(probe.failure_threshold.max(1)));
    let deadline = Instant::now() + patience.max(Duration::from_secs(probe.timeout.into()));
    accepts(instance, port_of(probe, port), deadline).await?;
    match &probe.kind {
        Some(ProbeKind::Http(_) | ProbeKind::Grpc(_)) => passes(instance, port, probe).await,
        Some(ProbeKind::Tcp(_)) | None => Ok(()),
    }
}

/// One check. Why it failed is a sentence without its full stop.
pub(crate) async fn check(instance: &Arc<dyn Running>, port: u16, probe: &Probe) -> Result<(), String> {
    let each = Duration::from_secs(probe.timeout.max(1).into());
    let answer = async {
        match &probe.kind {
            Some(ProbeKind::Http(http)) => healthy(get(instance, own(http.port, port), http).await?, http),
            Some(ProbeKind::Grpc(grpc)) => {
                health::serving(instance.connect(own(grpc.port, port)).await?, &grpc.service).await
            }
            Some(ProbeKind::Tcp(tcp)) => instance.connect(own(tcp.port, port)).await.map(drop),
            None => Ok(()),
        }
    };
    match timeout(each, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", each.as_secs())),
    }
}

/// What a probe asks, in a word for logs.
pub(crate) fn name(probe: &Probe) -> &'static str {
    match probe.kind {
        Some(ProbeKind::Http(_)) => "HTTP",
        Some(ProbeKind::Grpc(_)) => "GRPC",
        Some(ProbeKind::Tcp(_)) | None => "TCP",
    }
}

/// Where a probe asks, for logs: the port, and the path of a GET.
pub(crate) fn asked(probe: &Probe, port: u16) -> String {
    let port = port_of(probe, port);
    match &probe.kind {
        Some(ProbeKind::Http(http)) => format!("port {port} path \"{}\"", http.path),
        _ => format!("port {port}"),
    }
}

/// Whether a probe asks for no more than Cloud Run's own: that the container listens on its port.
pub(crate) fn asks_to_listen(probe: &Probe, port: u16) -> bool {
    matches!(probe.kind, Some(ProbeKind::Tcp(_)) | None) && port_of(probe, port) == port
}

/// The port that a probe asks at: its own or the container's.
fn port_of(probe: &Probe, port: u16) -> u16 {
    let asked = match &probe.kind {
        Some(ProbeKind::Http(http)) => http.port,
        Some(ProbeKind::Tcp(tcp)) => tcp.port,
        Some(ProbeKind::Grpc(grpc)) => grpc.port,
        None => 0,
    };
    own(asked, port)
}

fn healthy(status: u16, http: &HttpProbe) -> io::Result<()> {
    match status {
        200..=399 => Ok(()),
        _ => Err(io::Error::other(format!("GET {} was answered with status {status}", http.path))),
    }
}

fn own(asked: u32, port: u16) -> u16 {
    u16::try_from(asked).ok().filter(|asked| *asked != 0).unwrap_or(port)
}

async fn accepts(instance: &Arc<dyn Running>, port: u16, deadline: Instant) -> Result<(), GaveUp> {
    let (mut pause, begun) = (FASTEST, Instant::now());
    loop {
        if instance.connect(port).await.is_ok() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let seconds = begun.elapsed().as_secs();
            return Err(GaveUp(format!("nothing accepted a connection on port {port} within {seconds} s")));
        }
        sleep(pause).await;
        pause = (pause * 2).min(SLOWEST);
    }
}

/// Checks once a period until one check succeeds or as many have failed as may.
async fn passes(instance: &Arc<dyn Running>, port: u16, probe: &Probe) -> Result<(), GaveUp> {
    let (mut last, begun) = (String::new(), Instant::now());
    for attempt in 0..probe.failure_threshold.max(1) {
        if attempt > 0 {
            sleep(Duration::from_secs(probe.period.max(1).into())).await;
        }
        match check(instance, port, probe).await {
            Ok(()) => return Ok(()),
            Err(why) => last = why,
        }
    }
    let (port, seconds) = (port_of(probe, port), begun.elapsed().as_secs());
    Err(GaveUp(format!("{last}, last on port {port} after {seconds} s")))
}

/// The status of a GET.
async fn get(instance: &Arc<dyn Running>, port: u16, http: &HttpProbe) -> io::Result<u16> {
    let mut stream = instance.connect(port).await?;
    let path = if http.path.is_empty() { "/" } else { &http.path };
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: GoogleHC/1.0\r\nConnection: close\r\n"
    );
    for (name, value) in &http.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while answer.len() < MAX_HEAD && !answer.contains(&b'\n') {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    let status = std::str::from_utf8(&answer).ok().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    status.ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

#[cfg(test)]
mod tests;
