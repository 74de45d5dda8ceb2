//! `/cloudsql`: a directory for each connection name, with the socket of its database.
//!
//! While the instance's account may connect, the socket is PostgreSQL's own, under a second name: no byte of the
//! conversation passes through haar. While it may not, or there is no such database, haar itself listens there, hangs
//! up at once, and says in the instance's log what Cloud Run's proxy would. Policies and servers change while an
//! instance runs, so what is there is looked at again and again; connections that were made before stay.
//!
//! Declined: the sockets of other engines than PostgreSQL, and asking for `cloudsql.instances.get`, which a connection
//! on Google needs as well.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use kernel::{Principal, ports::LogStream};
use tokio::{
    net::UnixListener,
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::{Whose, make_directory, set_mode};
use crate::words;

/// What the account must be allowed to.
const CONNECT: &str = "cloudsql.instances.connect";
/// The API that must be enabled in the project of the instance.
const ADMIN: &str = "sqladmin.googleapis.com";
/// How often is looked whether the account still may, and the server is still the same.
const AGAIN: Duration = Duration::from_millis(250);
/// How often a refusal is said.
const SAID_AGAIN: Duration = Duration::from_secs(1);
/// The name that PostgreSQL's clients look for.
const SOCKET: &str = ".s.PGSQL.5432";
/// The same while it is being made.
const NEW: &str = ".new";

/// Puts the sockets into a directory and keeps them right until the task is ended.
pub(super) fn open(whose: Whose, home: &Path, names: &[String]) -> io::Result<AbortHandle> {
    let make = |name: &String| {
        let directory = home.join(name);
        make_directory(&directory, 0o755)?;
        Ok(Entry { whose: whose.clone(), name: name.clone(), directory, now: Now::Nothing })
    };
    let mut entries = names.iter().map(make).collect::<io::Result<Vec<_>>>()?;
    // The program may ask for its database with its first breath.
    entries.iter_mut().for_each(Entry::look);
    let watch = async move {
        loop {
            sleep(AGAIN).await;
            entries.iter_mut().for_each(Entry::look);
        }
    };
    Ok(tokio::spawn(watch).abort_handle())
}

/// One connection name's directory.
struct Entry {
    whose: Whose,
    name: String,
    directory: PathBuf,
    now: Now,
}

/// What is in it.
enum Now {
    Nothing,
    /// PostgreSQL's socket, known by its device and inode: a server that was started again has another.
    Linked(u64, u64),
    /// Ours.
    Refusing {
        why: Refusal,
        _listening: Listening,
    },
}

/// A listener that is no more when this is dropped.
struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why there is no way to a database.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    ApiDisabled,
    NotAuthorized,
    NoInstance,
    NotRunning,
    OutOfReach(String),
}

impl Entry {
    /// Makes what is there right.
    fn look(&mut self) {
        let wanted = self.find().and_then(|(socket, device, inode)| {
            if !matches!(self.now, Now::Linked(d, i) if (d, i) == (device, inode)) {
                self.link(&socket).map_err(|error| Refusal::OutOfReach(error.to_string()))?;
                self.now = Now::Linked(device, inode);
            }
            Ok(())
        });
        let Err(refusal) = wanted else { return };
        if matches!(&self.now, Now::Refusing { why, .. } if *why == refusal) {
            return;
        }
        match self.refuse(refusal.clone()) {
            Ok(_listening) => self.now = Now::Refusing { why: refusal, _listening },
            Err(error) => {
                tracing::warn!("nobody can listen for {}: {error}", self.name);
                // What may not be used must not stay.
                let _ = fs::remove_file(self.directory.join(SOCKET));
                self.now = Now::Nothing;
            }
        }
    }

    /// The server's socket, if the account may use it. Google asks for permission before existence.
    fn find(&self) -> Result<(PathBuf, u64, u64), Refusal> {
        let ports = &self.whose.ports;
        if !ports.projects.enabled(&self.whose.source.project, ADMIN) {
            return Err(Refusal::ApiDisabled);
        }
        let resource = ports.databases.resource(&self.name).ok_or(Refusal::NoInstance)?;
        let caller = ports.caller(Principal::ServiceAccount(self.whose.account.clone()));
        if !caller.may(CONNECT, &resource) {
            return Err(Refusal::NotAuthorized);
        }
        let socket = ports.databases.socket_dir(&self.name).ok_or(Refusal::NoInstance)?.join(SOCKET);
        let found = fs::symlink_metadata(&socket).map_err(|_| Refusal::NotRunning)?;
        Ok((socket, found.dev(), found.ino()))
    }

    fn link(&self, socket: &Path) -> io::Result<()> {
        let new = self.new_name();
        fs::hard_link(socket, &new)?;
        self.put(&new)
    }

    fn refuse(&self, refusal: Refusal) -> io::Result<Listening> {
        let new = self.new_name();
        // A socket's address has 107 bytes at most; so the directory is named by its descriptor.
        let directory = File::open(&self.directory)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{NEW}", directory.as_raw_fd()))?;
        // Whoever the program runs as.
        set_mode(&new, 0o777)?;
        self.put(&new)?;
        let (whose, said) = (self.whose.clone(), self.sentence(&refusal));
        Ok(Listening(tokio::spawn(hang_up(listener, whose, said)).abort_handle()))
    }

    fn new_name(&self) -> PathBuf {
        let new = self.directory.join(NEW);
        let _ = fs::remove_file(&new);
        new
    }

    /// Puts something new in the place of what was there, at once.
    fn put(&self, new: &Path) -> io::Result<()> {
        fs::rename(new, self.directory.join(SOCKET))?;
        // Renaming a file to another name of itself does nothing.
        let _ = fs::remove_file(new);
        Ok(())
    }

    fn sentence(&self, refusal: &Refusal) -> String {
        let name = &self.name;
        match refusal {
            Refusal::ApiDisabled => {
                let project = &self.whose.source.project;
                words::cloud_sql_metadata(name, &words::cloud_sql_disabled(project))
            }
            Refusal::NotAuthorized => {
                words::cloud_sql_metadata(name, &words::cloud_sql_denied(name, CONNECT))
            }
            Refusal::NoInstance => words::cloud_sql_metadata(name, words::CLOUD_SQL_MISSING),
            Refusal::NotRunning => words::cloud_sql_dial(name, "the instance is not running"),
            Refusal::OutOfReach(why) => words::cloud_sql_dial(name, why),
        }
    }
}

/// Ends every connection at its beginning, and says why.
async fn hang_up(listener: UnixListener, whose: Whose, why: String) {
    let mut last: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok(_) if last.is_some_and(|last| last.elapsed() < SAID_AGAIN) => {}
            Ok(_) => {
                last = Some(Instant::now());
                whose.ports.logs.line(&whose.source, LogStream::System, &words::error(&why));
            }
            // Out of descriptors, most likely.
            Err(_) => sleep(AGAIN).await,
        }
    }
}
