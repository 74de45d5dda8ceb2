//! `haar exec --capture`: a command in a network of its own, where every name and address leads to haar.
//!
//! For programs that heed no proxy. This process stays, to answer in that network: Google's names lead to haar's port,
//! and all else is asked of haar's forward proxy, so a captured program reaches what others reach by the proxy
//! variables, no more and no less.

use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ExitCode, ExitStatus},
    sync::Arc,
    time::Duration,
};

use kernel::BoxFuture;
use run::local::{
    captured::{self, Network},
    way::{Pipe, Target, Way},
};
use rustix::process::{Pid, Signal};
use sandbox::{
    Kind,
    capture::{self, Captured, Order},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    data::DataDir,
    environment::Environment,
    report::{Doing, Result, Trouble, tell},
};

/// Where programs look for certificates: Debian, Alpine and Go; Red Hat; OpenSSL's default; SUSE.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];
/// Any address does: questions for names are answered whomever they are sent to.
const RESOLVER: &str = "nameserver 169.254.169.254\n";
const NSSWITCH: &str = "/etc/nsswitch.conf";
/// How long haar's proxy may take, and the longest head of its answer.
const WAIT: Duration = Duration::from_secs(60);
const MAX_HEAD: usize = 8 << 10;

/// Runs a command to its end, and gives its exit code.
pub fn run(data: &DataDir, environment: &Environment, command: &[String]) -> Result<ExitCode> {
    let haar = data.require_running()?.listen;
    if !haar.ip().is_loopback() {
        return Err(Trouble::new(format!(
            "--capture works with a haar that listens on 127.0.0.1, not on {haar}"
        )));
    }
    let way: Arc<dyn Way> = Arc::new(Proxy(haar));
    let order = Order {
        offers: captured::offers(haar.port(), way.clone()),
        door: haar,
        covers: covers(data, environment)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing("start a runtime")?.block_on(async {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        let started = capture::start(&command, &order, |process| environment.apply(process));
        let Captured { child, offers, outward, door } =
            started.map_err(|error| refused(&command[0], &error))?;
        let tell = |sentence: String| tell!("haar exec: {sentence}");
        let answering = tokio::spawn(captured::serve(Network { offers, outward, door }, haar, way, tell));
        let ended = attend(child).await.doing("wait for the command");
        answering.abort();
        ended.map(exit_code)
    })
}

fn refused(program: &OsString, error: &sandbox::Error) -> Trouble {
    let program = program.display();
    match error.kind {
        Kind::NotFound => Trouble::new(format!("there is no command '{program}'"))
            .next("check the spelling, or install it; haar runs it unmodified"),
        Kind::Host => {
            Trouble::new(format!("this machine lets no command have a network of its own: {error}"))
                .next("run it without --capture; most programs heed the proxy variables")
        }
        _ => Trouble::new(format!("cannot run {error}")),
    }
}

/// Whom to ask for names, and whom to trust.
fn covers(data: &DataDir, environment: &Environment) -> Result<Vec<(PathBuf, PathBuf)>> {
    let write = |name: &str, text: &str| data.write(&format!("exec/{name}"), text.as_bytes());
    let mut covers = vec![(write("resolv.conf", RESOLVER)?, "/etc/resolv.conf".into())];
    if let Ok(before) = std::fs::read_to_string(NSSWITCH) {
        covers.push((write("nsswitch.conf", &by_resolver(&before))?, NSSWITCH.into()));
    }
    let bundle = Path::new(environment.bundle());
    covers.extend(BUNDLES.map(|path| (bundle.to_owned(), path.into())));
    Ok(covers)
}

/// Other sources of names, such as a resolver behind a socket, would know the real addresses.
fn by_resolver(nsswitch: &str) -> String {
    let others = nsswitch.lines().filter(|line| !line.trim_start().starts_with("hosts:"));
    others.chain(["hosts: files dns"]).map(|line| format!("{line}\n")).collect()
}

/// Waits for a command. What the terminal sends reaches it by itself; what is sent to this process alone is passed on.
async fn attend(mut child: Child) -> io::Result<ExitStatus> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut from_terminal = [SignalKind::interrupt(), SignalKind::quit()].map(signal);
    let mut stop = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    let [interrupt, quit] = &mut from_terminal;
    loop {
        let sent = tokio::select! {
            ended = &mut ended => return ended.map_err(io::Error::other)?,
            _ = stop.recv() => Signal::TERM,
            _ = hangup.recv() => Signal::HUP,
            _ = received(interrupt) => continue,
            _ = received(quit) => continue,
        };
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, sent);
        }
    }
}

async fn received(signal: &mut io::Result<tokio::signal::unix::Signal>) {
    match signal {
        Ok(signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// As shells tell it: a signal's number after 128.
fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// haar's forward proxy, which resolves names as this machine does and knows the proxy in front of it.
struct Proxy(SocketAddr);

impl Way for Proxy {
    fn needs_name(&self, _: &str) -> bool {
        true
    }

    fn dial(&self, target: Target) -> BoxFuture<'static, io::Result<Box<dyn Pipe>>> {
        let haar = self.0;
        Box::pin(async move {
            let stream = timeout(WAIT, connect(haar, &target.to_string())).await??;
            Ok(Box::new(stream) as Box<dyn Pipe>)
        })
    }
}

async fn connect(proxy: SocketAddr, target: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head is the other side's, and it may speak first.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    match head.get(9..12) {
        Some(status) if status.starts_with(b"2") => Ok(stream),
        _ => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files_and_the_resolver_only() {
        let before = "passwd: files systemd\nhosts: files mymachines resolve [!UNAVAIL=return] dns\n";
        assert_eq!(by_resolver(before), "passwd: files systemd\nhosts: files dns\n");
    }
}
