//! One cluster on disk: its directories, its making, its settings.
//!
//! `DIRECTORY/UID` holds the administrator's password (haar's alone), the log, and the data, which are PostgreSQL's
//! own. A cluster is made beside its place and moved there when it is whole: a cluster that is there is complete.
//!
//! The directories above stay closed to PostgreSQL's user, wherever they are: its programs are given an open handle of
//! `DIRECTORY/UID` and know no other way there ([`HANDLE`]). Opening haar's directory to a group was the other way.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use kernel::{Error, Result};
use rustix::fs::{Mode, OFlags, open};
use tokio::process::Command;

use super::{
    Config,
    find::Installation,
    user::{RunAs, trouble},
};

/// The superuser that haar administers a cluster with. Google's has the same name.
pub(crate) const ADMINISTRATOR: &str = "cloudsqladmin";
/// The longest path of a Unix socket, in bytes (`sun_path` less its end).
const LONGEST_SOCKET: usize = 107;
/// A cluster's home, as PostgreSQL's programs know it: descriptor 9, which all their children inherit.
const HANDLE: &str = "/proc/self/fd/9";
/// Runs a command with its standard input as that descriptor. `pg_ctl` and `initdb` need this very shell too.
const WITH_HANDLE: &str = r#"exec "$@" 9<&0 </dev/null"#;
/// What the directories of clusters that are being made start with.
const UNFINISHED: &str = "new-";
/// A log above this is started anew when the server is, in bytes.
const LONGEST_LOG: u64 = 16 << 20;

/// Where a cluster is.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    home: PathBuf,
    socket: PathBuf,
    run_as: RunAs,
}

impl Cluster {
    /// The cluster with this id, whether or not it has been made.
    pub(crate) fn new(config: &Config, uid: &str, run_as: RunAs) -> Cluster {
        let (home, socket) = (config.directory.join(uid), config.run_directory.join(uid));
        Cluster { home, socket, run_as }
    }

    /// The directory of PostgreSQL's data.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The directory of its socket: a place that stays the same while servers come and go.
    pub(crate) fn socket_directory(&self) -> &Path {
        &self.socket
    }

    /// The server's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("log").join("postgres.log")
    }

    /// Whether the cluster has been made.
    pub(crate) fn is_made(&self) -> bool {
        self.data().join("PG_VERSION").exists()
    }

    /// The administrator's password.
    pub(crate) fn password(&self) -> Result<String> {
        let file = self.home.join("admin");
        fs::read_to_string(&file).map_err(|error| trouble(&file, error))
    }

    /// Makes the cluster, unless it is there.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` with what `initdb` said.
    pub(crate) async fn make(&self, postgres: &Installation) -> Result<()> {
        if self.is_made() {
            return Ok(());
        }
        self.make_home()?;
        let unfinished = self.fresh()?;
        let secret = self.lend_password(&unfinished)?;
        let made = self.initdb(postgres, &unfinished, &secret).await;
        let _ = fs::remove_file(&secret);
        made?;
        fs::rename(&unfinished, self.data()).map_err(|error| trouble(&unfinished, error))?;
        sync(&self.home)
    }

    /// Writes the settings and makes what a server needs besides its data: all of it before every start.
    pub(crate) fn configure(&self, flags: &[(String, String)]) -> Result<()> {
        self.make_socket_directory()?;
        self.write("postgresql.conf", &settings(&self.socket, flags))?;
        self.write("pg_hba.conf", "local all all scram-sha-256\nlocal replication all scram-sha-256\n")?;
        let log = self.log();
        if fs::metadata(&log).is_ok_and(|found| found.len() > LONGEST_LOG) {
            fs::remove_file(&log).map_err(|error| trouble(&log, error))?;
        }
        Ok(())
    }

    /// Starts a server and waits until it takes connections. It runs in a session of its own, with nothing of ours
    /// but the log: `pg_ctl` sees to that.
    ///
    /// # Errors
    /// `UNAVAILABLE` with the end of the log.
    pub(crate) async fn start(&self, postgres: &Installation) -> Result<()> {
        let mut command = self.command(postgres, "pg_ctl")?;
        command.args(["start", "-s", "-w", "-t", "60", "-D"]).arg(self.handle(&self.data()));
        command.arg("-l").arg(self.handle(&self.log()));
        let output = command.output().await.map_err(|error| trouble(&postgres.bin, error))?;
        if output.status.success() {
            return Ok(());
        }
        tracing::debug!("pg_ctl: {}", String::from_utf8_lossy(&output.stderr));
        Err(Error::unavailable(format!(
            "The database server did not start. Its log ends:\n{}",
            self.log_end()
        )))
    }

    /// Whether its server says that it is ready: the eighth line of `postmaster.pid`, as `pg_ctl` reads it.
    pub(crate) fn says_ready(&self) -> bool {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        file.lines().nth(7).is_some_and(|line| line.trim() == "ready")
    }

    /// Removes everything of the cluster.
    pub(crate) fn remove(&self) -> Result<()> {
        for directory in [&self.home, &self.socket] {
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(trouble(directory, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn make_home(&self) -> Result<()> {
        make_directory(&self.home, 0o700)?;
        self.run_as.let_through(&self.home)?;
        let log = self.home.join("log");
        make_directory(&log, 0o700)?;
        self.run_as.give(&log, 0o700)
    }

    /// An empty directory of PostgreSQL's, never used before: an `initdb` that outlived a killed haar may still be
    /// writing to its own.
    fn fresh(&self) -> Result<PathBuf> {
        self.clear_unfinished();
        let path = self.home.join(format!("{UNFINISHED}{}", random_hex::<4>()?));
        make_directory(&path, 0o700)?;
        self.run_as.give(&path, 0o700)?;
        Ok(path)
    }

    /// Removes what earlier attempts have left. What cannot be removed yet goes with the instance.
    fn clear_unfinished(&self) {
        for entry in fs::read_dir(&self.home).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
    }

    /// Makes the administrator's password, and a copy that `initdb` may read.
    fn lend_password(&self, beside: &Path) -> Result<PathBuf> {
        let admin = self.home.join("admin");
        let password = random_hex::<24>()?;
        write_private(&admin, &password)?;
        let lent = beside.with_extension("pw");
        write_private(&lent, &password)?;
        self.run_as.give(&lent, 0o400)?;
        Ok(lent)
    }

    async fn initdb(&self, postgres: &Installation, data: &Path, password: &Path) -> Result<()> {
        let mut command = self.command(postgres, "initdb")?;
        command
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "-U", ADMINISTRATOR, "-D"])
            .arg(self.handle(data))
            .arg("--pwfile")
            .arg(self.handle(password))
            .kill_on_drop(true);
        let output = command.output().await.map_err(|error| trouble(&postgres.bin, error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::precondition(format!("initdb failed: {}", said.trim())))
    }

    /// One of PostgreSQL's programs, as the user it runs as, with the handle of this cluster's home.
    fn command(&self, postgres: &Installation, program: &str) -> Result<Command> {
        self.run_as.check_reaches(&postgres.bin)?;
        let home = open(&self.home, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| trouble(&self.home, error.into()))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WITH_HANDLE, "sh"]).arg(postgres.program(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        command.current_dir("/").stdin(Stdio::from(home));
        self.run_as.apply(&mut command);
        Ok(command)
    }

    /// A path below the home, by way of the handle.
    fn handle(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.home).map_or_else(|_| path.to_owned(), |below| Path::new(HANDLE).join(below))
    }

    /// Everybody may pass through to the socket, where a password is asked: a workload has any user number. The
    /// directory above is closed; workloads are given this one alone.
    fn make_socket_directory(&self) -> Result<()> {
        let socket = self.socket.join(".s.PGSQL.5432");
        if socket.as_os_str().len() > LONGEST_SOCKET {
            return Err(Error::precondition(format!(
                "The socket's path is longer than {LONGEST_SOCKET} bytes: {}",
                socket.display()
            )));
        }
        if let Some(above) = self.socket.parent() {
            make_directory(above, 0o700)?;
            self.run_as.let_through(above)?;
        }
        make_directory(&self.socket, 0o755)?;
        self.run_as.give(&self.socket, 0o755)
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.data().join(name);
        let new = path.with_extension("new");
        write_private(&new, content)?;
        self.run_as.give(&new, 0o600)?;
        fs::rename(&new, &path).map_err(|error| trouble(&path, error))
    }

    /// The last lines of the log, for an error message.
    fn log_end(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let end = String::from_utf8_lossy(&log[log.len().saturating_sub(2000)..]).into_owned();
        let lines: Vec<&str> = end.trim().lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

/// The whole of `postgresql.conf`.
fn settings(socket: &Path, flags: &[(String, String)]) -> String {
    let ours = [
        ("listen_addresses", String::new()),
        ("unix_socket_directories", socket.display().to_string()),
        ("unix_socket_permissions", "0777".into()),
        ("password_encryption", "scram-sha-256".into()),
        ("max_wal_size", "256MB".into()),
        ("log_timezone", "UTC".into()),
        ("timezone", "UTC".into()),
    ];
    let ours = ours.into_iter().map(|(name, value)| (name.to_owned(), value));
    let all = ours.chain(flags.iter().cloned());
    all.map(|(name, value)| format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''")))
        .collect()
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| trouble(path, error))
}

fn write_private(path: &Path, content: &str) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| trouble(path, error))
}

fn sync(directory: &Path) -> Result<()> {
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| trouble(directory, error))
}

/// N random bytes, in hex.
pub(crate) fn random_hex<const N: usize>() -> Result<String> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::internal("no randomness to be had"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_cannot_end_its_line() {
        let flags = [("work_mem".to_owned(), "4MB' \\".to_owned())];
        let written = settings(Path::new("/run/x"), &flags);
        assert!(written.contains("work_mem = '4MB'' \\\\'\n"), "{written}");
        assert!(written.contains("listen_addresses = ''\n"), "no TCP: {written}");
    }
}
