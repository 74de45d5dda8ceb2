//! One step of a build: a program in the sandbox, as an unprivileged user, and what it says.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kernel::ports::{HostMount, MachineBase};
use sandbox::{
    Ending, Exit, Instance, Sandbox, Spec,
    spec::{Access, InsideFile, Limits, Mount, MountKind, Network, Writable},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Failure,
    disk::{self, Full},
    files::Files,
    output::{Tail, Teller},
    settings::{HOME, Surroundings},
};

/// Whom steps and images run as.
pub(crate) const USER: u32 = 1000;
/// How long a build may take in all.
pub(crate) const TIME: Duration = Duration::from_mins(10);
/// The most memory of a step; less where the machine has less than four thirds of it.
const MEMORY: u64 = 4 << 30;
/// Processes and threads of a step.
const PIDS: u32 = 4096;
/// The longest piece of output without a line end, in bytes: more is cut into lines.
const MAX_LINE: u64 = 8192;
/// How long output may keep us after a step's end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the steps of one build have in common.
pub(crate) struct Steps<'a> {
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) base: &'a MachineBase,
    pub(crate) around: &'a Surroundings,
    pub(crate) teller: &'a Teller,
    pub(crate) files: &'a Files,
    /// The most that a step may have on the disk, in bytes.
    pub(crate) disk: u64,
    /// When the build is over, done or not.
    pub(crate) deadline: Instant,
}

/// One step.
pub(crate) struct Step<'a> {
    /// Its name, for people.
    pub(crate) name: &'a str,
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// Layers over the base.
    pub(crate) layers: Vec<PathBuf>,
    /// Directories that it sees: where they are, where it sees them, and whether it may write.
    pub(crate) directories: Vec<(&'a Path, &'a str, Access)>,
    /// What it reaches.
    pub(crate) network: Network,
    /// Variables of its own.
    pub(crate) env: Vec<(&'a str, String)>,
}

impl<'a> Step<'a> {
    /// The directories that it may write to.
    fn writes(&self) -> impl Iterator<Item = &'a Path> {
        let all = self.directories.iter().filter(|(.., access)| *access == Access::ReadWrite);
        all.map(|(directory, ..)| *directory)
    }
}

/// How a step ended.
enum End {
    /// By itself.
    Itself(Exit),
    /// It was ended, for the build was not done in time.
    Late,
    /// It was ended, for it had filled the disk.
    Full(Full),
}

impl Steps<'_> {
    /// Runs a step to its end.
    ///
    /// # Errors
    /// When it cannot be started, ends with anything but 0, or is not done in time: with its last lines.
    pub(crate) async fn run(&self, step: Step<'_>) -> Result<(), Failure> {
        let tail = Tail::default();
        let name = step.name;
        match self.follow(step, &tail).await? {
            End::Itself(exit) if exit.how == Ending::Code(0) => Ok(()),
            End::Itself(exit) => Err(Failure { log: tail.take(), ..self.ended(name, exit) }),
            End::Late => Err(Failure { log: tail.take(), ..late(name) }),
            End::Full(full) => Err(Failure { log: tail.take(), ..too_much(name, full) }),
        }
    }

    /// Runs a step whose end does not matter, only that it ends: gives its last lines if it failed.
    pub(crate) async fn try_run(&self, step: Step<'_>) -> Result<Vec<String>, Failure> {
        let name = step.name;
        let tail = Tail::default();
        match self.follow(step, &tail).await? {
            End::Itself(exit) if exit.how == Ending::Code(0) => Ok(Vec::new()),
            End::Itself(_) => Ok(tail.take()),
            End::Late => Err(late(name)),
            End::Full(full) => Err(too_much(name, full)),
        }
    }

    /// Starts a step and ends it if it does not end by itself as it should.
    async fn follow(&self, step: Step<'_>, tail: &Tail) -> Result<End, Failure> {
        let scratch = self
            .files
            .scratch()
            .map_err(|error| Failure::new(format!("a step cannot be started: {error}")))?;
        let name = step.name;
        let places = [scratch.path()].into_iter().chain(step.writes()).map(Path::to_owned).collect();
        let started = self.sandbox.start(self.spec(step, scratch.path())).await;
        let mut instance =
            started.map_err(|error| Failure::new(format!("the step '{name}' cannot be started: {error}")))?;
        let (out, err) = (instance.take_stdout(), instance.take_stderr());
        let said = async {
            tokio::join!(self.tell(name, out, tail), self.tell(name, err, tail));
        };
        let end = tokio::select! {
            end = self.to_the_end(&instance, said) => end,
            full = disk::filled(places, self.disk) => End::Full(full),
        };
        if !matches!(end, End::Itself(_)) {
            instance.stop(Duration::ZERO).await;
        }
        Ok(end)
    }

    /// Waits for a step's end, and then a little for the rest of what it said.
    async fn to_the_end(&self, instance: &Instance, said: impl Future<Output = ()>) -> End {
        tokio::pin!(said);
        let both = async {
            let mut is_silent = false;
            let exit = loop {
                tokio::select! {
                    exit = instance.wait() => break exit,
                    () = &mut said, if !is_silent => is_silent = true,
                }
            };
            if !is_silent {
                let _ = timeout(LAST_WORDS, &mut said).await;
            }
            exit
        };
        timeout_at(self.deadline, both).await.map_or(End::Late, End::Itself)
    }

    async fn tell(&self, step: &str, output: Option<impl AsyncRead + Unpin>, tail: &Tail) {
        let Some(output) = output else { return };
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = tokio::io::AsyncReadExt::take(&mut reader, MAX_LINE);
            match limited.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if !text.is_empty() {
                tail.push(self.teller.line(step, text));
            }
        }
    }

    fn spec(&self, step: Step<'_>, scratch: &Path) -> Spec {
        let layers = [self.base.layer.directory.clone()].into_iter().chain(step.layers).collect();
        let mut env = vec![
            ("PATH".to_owned(), format!("{}/bin:{}", crate::python::VENV, sandbox::spec::DEFAULT_PATH)),
            ("HOME".to_owned(), HOME.to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ];
        env.extend(self.around.env.iter().cloned());
        for (name, value) in step.env {
            env.retain(|(known, _)| known != name);
            env.push((name.to_owned(), value));
        }
        let directories =
            step.directories.into_iter().map(|(source, target, access)| bind(source, target, access));
        let machine = self
            .base
            .mounts
            .iter()
            .map(|HostMount { source, target }| bind(source, target, Access::ReadOnly));
        let named = self.around.mounts.iter().map(|(source, target)| bind(source, target, Access::ReadOnly));
        let files = self.around.files.iter().map(|(path, bytes)| InsideFile {
            path: path.clone(),
            bytes: bytes.clone(),
            mode: 0o644,
        });
        Spec {
            writable: Writable::Disk,
            env,
            cwd: "/workspace".into(),
            user: format!("{USER}:{USER}"),
            hostname: "build".into(),
            limits: Limits { memory_bytes: Some(memory()), cpu_millis: None, pids: Some(PIDS) },
            mounts: machine.chain(named).chain(directories).collect(),
            files: files.collect(),
            network: step.network,
            ..Spec::new("build", layers, scratch.to_owned(), step.argv)
        }
    }

    fn ended(&self, step: &str, exit: Exit) -> Failure {
        match exit {
            Exit { oom: true, .. } => {
                let memory = amount(memory());
                Failure::new(format!(
                    "the step '{step}' needed more than the {memory} of memory that a build has"
                ))
            }
            Exit { how: Ending::Code(code), .. } => {
                Failure::new(format!("the step '{step}' failed with exit code {code}"))
            }
            Exit { how: Ending::Signal(signal), .. } => {
                Failure::new(format!("the step '{step}' was ended by signal {signal}"))
            }
        }
    }
}

fn late(step: &str) -> Failure {
    Failure::new(format!("the build was not done after {} minutes, in its step '{step}'", TIME.as_secs() / 60))
        .next("see what it waits for in its last lines; dependencies that are installed once are kept for the next build")
}

fn too_much(step: &str, full: Full) -> Failure {
    let what = match full {
        Full::Share(most) => {
            format!("had more than the {} on the disk that a build may", amount(most))
        }
        Full::Files => "made more files than a build may".to_owned(),
        Full::Disk => {
            let reserve = amount(disk::RESERVE);
            return Failure::new(format!(
                "the step '{step}' left less than {reserve} of the disk, and was ended"
            ))
            .next("make room on the disk; haar images prune removes images that nothing uses");
        }
    };
    Failure::new(format!("the step '{step}' {what}, and was ended"))
        .next("see what it writes; or build the image elsewhere and bring it in with: haar images import")
}

/// A number of bytes for people.
fn amount(bytes: u64) -> String {
    match bytes {
        ..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

fn bind(source: &Path, target: &str, access: Access) -> Mount {
    Mount { target: target.to_owned(), what: MountKind::Bind { source: source.to_owned(), access } }
}

/// What a step may have: no more than three quarters of the machine's memory.
fn memory() -> u64 {
    let information = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion, reason = "the width of the fields is the processor's")]
    let total = u64::from(information.totalram).saturating_mul(u64::from(information.mem_unit));
    MEMORY.min(total / 4 * 3)
}
