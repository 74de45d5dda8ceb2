//! The small parent that `haar up --detach` leaves behind.
//!
//! It holds the listening socket and hands it to haar as standard input, so that while a crashed haar is
//! started again new connections wait in the backlog instead of being refused. It does nothing else.

use std::{
    fs::{File, OpenOptions},
    net::TcpListener,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    data::{DataDir, Running},
    report::{Doing, Result, Trouble, tell},
    server,
};

/// Tells a process that it was started by another haar, and as what.
const ROLE: &str = "HAAR_ROLE";
/// Larger logs are begun anew when haar starts.
const LOG_LIMIT: u64 = 16 << 20;
/// How long a start may take before it counts as failed.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// A haar that ends sooner than this after it was started is started again only after a pause, so that one that
/// cannot live does not take the machine with it.
const SHORT_LIFE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
/// After this many failed starts in a row the supervisor gives up. A first start that ends with an exit code, not by a
/// signal, is not tried again at all.
const MAX_FAILED_STARTS: u32 = 5;

/// What this process was started as.
pub enum Role {
    /// By a person.
    Foreground,
    /// By `haar up --detach`, to supervise.
    Supervisor,
    /// By the supervisor, to serve.
    Supervised,
}

impl Role {
    /// Read from the environment.
    pub fn of_this_process() -> Self {
        match std::env::var(ROLE).as_deref() {
            Ok("supervisor") => Role::Supervisor,
            Ok("supervised") => Role::Supervised,
            _ => Role::Foreground,
        }
    }
}

/// The listening socket that a parent handed over as standard input.
pub fn inherited_listener() -> Result<TcpListener> {
    std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(TcpListener::from)
        .doing("take over the listening socket")
}

/// Starts a supervisor with this socket and waits until haar answers.
pub fn detach(data: &DataDir, listener: TcpListener) -> Result<Running> {
    let log = open_log(data)?;
    let mut child = again("supervisor", listener.into(), log)?.spawn().doing("start the supervisor")?;
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Some(running) = data.running().filter(|running| running.supervisor == Some(child.id() as i32))
        {
            return Ok(running);
        }
        if child.try_wait().doing("wait for haar")?.is_some() || Instant::now() > deadline {
            return Err(Trouble::new(format!("haar did not start:\n{}", last_lines(data)))
                .next(format!("the whole log is in {}", data.join("haar.log").display())));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs haar again and again until it is asked to stop.
pub fn supervise(data: &DataDir) -> Result<ExitCode> {
    let _ = rustix::process::setsid();
    let listener = inherited_listener()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start")?;
    runtime.block_on(watch_over(data, listener))
}

async fn watch_over(data: &DataDir, listener: TcpListener) -> Result<ExitCode> {
    let mut terminated = signal(SignalKind::terminate()).doing("wait for signals")?;
    tokio::spawn(server::let_go_of_the_start());
    let (mut failed_starts, mut has_served) = (0, false);
    loop {
        let began = Instant::now();
        let socket = listener.try_clone().doing("keep the listening socket")?;
        let mut child = tokio::process::Command::from(again("supervised", socket.into(), open_log(data)?)?)
            .spawn()
            .doing("start haar")?;
        let pid = child.id();
        let status = tokio::select! {
            status = child.wait() => status.doing("wait for haar")?,
            _ = terminated.recv() => return stop(child).await,
        };
        if status.success() {
            return Ok(ExitCode::SUCCESS);
        }
        // A haar that had said who it is was serving, however short its life.
        let was_serving = data.described().is_some_and(|running| Some(running.pid as u32) == pid);
        has_served |= was_serving;
        if !has_served && status.code().is_some() {
            // It said why it cannot start, and will say the same again.
            return Ok(ExitCode::FAILURE);
        }
        failed_starts = if was_serving { 0 } else { failed_starts + 1 };
        if failed_starts == MAX_FAILED_STARTS {
            return Err(Trouble::new(format!(
                "haar ended {MAX_FAILED_STARTS} times in a row ({status}); not starting it again"
            )));
        }
        tell!("haar ended ({status}); starting it again");
        let pause = match was_serving && began.elapsed() < SHORT_LIFE {
            true => PAUSE,
            false => Duration::from_millis(50) * failed_starts.pow(2),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = terminated.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn stop(mut child: tokio::process::Child) -> Result<ExitCode> {
    if let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let _ = child.wait().await;
    Ok(ExitCode::SUCCESS)
}

/// This very command line, in another role. The program is the one that runs, also when its file was replaced by
/// an upgrade or is gone.
fn again(role: &str, listener: OwnedFd, log: File) -> Result<Command> {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(std::env::args_os().skip(1))
        .env(ROLE, role)
        .stdin(Stdio::from(listener))
        .stdout(log.try_clone().doing("open the log")?)
        .stderr(log);
    Ok(command)
}

fn open_log(data: &DataDir) -> Result<File> {
    let path = data.make("")?.join("haar.log");
    let full = path.metadata().is_ok_and(|log| log.len() > LOG_LIMIT);
    if full {
        std::fs::rename(&path, path.with_extension("log.old")).doing("begin a new log")?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .doing(format_args!("open {}", path.display()))
}

fn last_lines(data: &DataDir) -> String {
    let log = std::fs::read_to_string(data.join("haar.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(4)..]
        .iter()
        .map(|line| format!("      {line}\n"))
        .collect::<String>()
        .trim_end()
        .to_owned()
}
