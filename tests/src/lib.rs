//! A running haar for a test, and the clients that are tried on it.
//!
//! Every test starts its own haar on a free port and a temporary data directory, through the binary that people
//! use, and stops it when it ends. Nothing here knows the inside of haar: what a test sees is what a user sees.

pub mod methods;

use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// The project that tests use.
pub const PROJECT: &str = "fog-bank";

/// A running haar. Dropping it stops it.
pub struct Haar {
    home: TempDir,
    listen: String,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Haar {
    /// Starts one.
    pub fn start() -> Haar {
        Haar::start_with(&[])
    }

    /// Starts one with more arguments for `haar up`.
    pub fn start_with(arguments: &[&str]) -> Haar {
        let home = TempDir::with_prefix("haar-test-").expect("a temporary directory");
        let mut haar = Haar { home, listen: String::new() };
        haar.up(arguments);
        haar
    }

    /// Starts it again on the same data directory.
    pub fn up(&mut self, arguments: &[&str]) {
        let listen = if self.listen.is_empty() { "127.0.0.1:0" } else { &self.listen };
        let mut line = vec!["up", "--detach", "--project", PROJECT, "--listen", listen];
        line.extend(arguments);
        self.cli(&line).succeeds();
        self.listen = self.status()["listen"].as_str().expect("an address").to_owned();
    }

    /// A directory that is this test's alone, and the home directory of what it runs.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The address of the port.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// Runs the `haar` binary on this data directory.
    pub fn cli(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments))
    }

    /// The same, not run yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(haar_binary());
        command
            .args(arguments)
            .env("HAAR_DATA", self.data())
            .env("CLOUDSDK_CONFIG", self.home.path().join("gcloud"))
            .env("HOME", self.home.path())
            .env("HAAR_LOG", methods::LOG)
            .current_dir(self.home.path());
        command
    }

    /// Runs a command under `haar exec`.
    pub fn exec(&self, arguments: &[&str]) -> Ran {
        self.cli(&[&["exec", "--"], arguments].concat())
    }

    /// Runs a command under `haar exec --as EMAIL`.
    pub fn exec_as(&self, email: &str, arguments: &[&str]) -> Ran {
        self.cli(&[&["exec", "--as", email, "--"], arguments].concat())
    }

    /// Runs gcloud under `haar exec`.
    pub fn gcloud(&self, line: &str) -> Ran {
        let arguments: Vec<&str> = std::iter::once("gcloud").chain(line.split_whitespace()).collect();
        self.exec(&arguments)
    }

    /// One API call as the owner: the answer, or the whole error envelope.
    pub fn api(&self, method: &str, url: &str, body: Option<&Value>) -> Value {
        self.api_as(None, method, url, body)
    }

    /// One API call as somebody.
    pub fn api_as(&self, principal: Option<&str>, method: &str, url: &str, body: Option<&Value>) -> Value {
        let text = body.map(Value::to_string);
        let mut line = vec!["api", method, url];
        line.extend(text.iter().flat_map(|text| ["-d", text.as_str()]));
        line.extend(principal.iter().flat_map(|email| ["--as", email]));
        let ran = self.cli(&line);
        serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("{line:?} answered no JSON ({error}): {ran:?}"))
    }

    /// What `haar status --json` says.
    pub fn status(&self) -> Value {
        let ran = self.cli(&["status", "--json"]).succeeds();
        serde_json::from_str(&ran.stdout).expect("status in JSON")
    }

    /// The process that serves.
    pub fn pid(&self) -> i32 {
        self.status()["pid"].as_i64().expect("a pid") as i32
    }
}

impl Drop for Haar {
    fn drop(&mut self) {
        let ran = self.cli(&["down"]);
        if ran.code != 0 && !ran.stderr.contains("no haar is running") {
            eprintln!("haar down: {ran:?}");
        }
        let log = std::fs::read_to_string(self.data().join("haar.log")).unwrap_or_default();
        methods::record(&log);
        if std::thread::panicking() {
            eprintln!("--- haar.log\n{log}---");
        }
    }
}

impl Ran {
    /// Insists that it succeeded.
    #[track_caller]
    pub fn succeeds(self) -> Ran {
        assert!(
            self.code == 0,
            "exit code {}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Insists that it failed, saying this.
    #[track_caller]
    pub fn fails_saying(self, what: &str) -> Ran {
        assert!(self.code != 0, "it succeeded: {}", self.stdout);
        assert!(
            self.stderr.contains(what) || self.stdout.contains(what),
            "it did not say {what:?}: {self:?}"
        );
        self
    }
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Ran::from(output)
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// The binary that people use, beside the tests in the target directory.
pub fn haar_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("this test's path");
        let binary = test.ancestors().nth(2).expect("a target directory").join("haar");
        assert!(binary.exists(), "{} is missing: run the tests with `make test`", binary.display());
        binary
    })
}

/// The Python that has Google's client libraries, if it could be made.
pub fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("target/clients/python/bin/python");
    python.exists().then_some(python)
}

/// A program for a client library, by its path below `tests/clients`.
pub fn client_program(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(path).to_string_lossy().into_owned()
}

/// Whether a client is installed; where it is not, the test says so and passes.
pub fn have(client: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(client).exists()));
    if !found {
        skipped(client);
    }
    found
}

/// Says, visibly, that a test could not run.
pub fn skipped(client: impl AsRef<OsStr>) {
    skipped_for(&format!("{} is not installed", client.as_ref().to_string_lossy()));
}

/// Says why a test could not run, past the harness, which hides what passing tests print.
pub fn skipped_for(reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// Ends haar as a power cut would, and waits until its supervisor has it running again.
pub fn kill_and_await(haar: &Haar) {
    let pid = haar.pid();
    kill(pid);
    await_another(haar, pid);
}

/// Ends haar's process as a power cut would.
pub fn kill(pid: i32) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs");
    assert!(killed.success(), "there was no haar to kill");
}

/// Waits until haar runs as another process than this one.
pub fn await_another(haar: &Haar, pid: i32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = haar.cli(&["status", "--json"]);
        if status.code == 0 && !status.stdout.contains(&format!("\"pid\": {pid},")) {
            return;
        }
        assert!(Instant::now() < deadline, "haar has not come back: {status:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a host behind the port answers to a GET, as text.
pub fn fetch(haar: &Haar, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(haar.listen()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Brings in an image of nothing but busybox, and gives its reference.
pub fn busybox_image(haar: &Haar) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let busybox = std::env::split_paths(&path)
        .map(|dir| dir.join("busybox"))
        .find(|file| file.exists())
        .expect("busybox");
    let archive = haar.data().join("busybox.tar");
    let script = client_program("busybox-image");
    let mut command = Command::new("sh");
    command.arg(script).arg(busybox).arg(&archive);
    run(command).succeeds();
    let reference = "us-docker.pkg.dev/fog-bank/tools/busybox:latest";
    haar.cli(&["images", "import", &archive.to_string_lossy(), "--name", reference]).succeeds();
    reference.to_owned()
}

/// The command lines of processes that contain a text.
pub fn processes_named(text: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.map(|line| line.replace('\0', " ")).filter(|line| line.contains(text)).collect()
}

/// Whether instances can be had here; where they cannot, a test says so.
pub fn instances_run(haar: &Haar) -> bool {
    let level = haar.status()["level"].as_str().expect("a level").to_owned();
    let contained = level.contains("namespaces") && !level.contains("no user namespaces");
    if !contained {
        skipped(format!("what instances need ({level})"));
    }
    contained
}
