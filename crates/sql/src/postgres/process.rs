//! A server's process, known by its pid *and* its start time: pids are used again.

use std::{fs, path::Path, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::net::unix::pipe::Receiver;

use crate::record::ServerRecord;

/// How often a process is looked at where the kernel cannot tell of its end.
const LOOK: Duration = Duration::from_millis(500);

/// A running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    /// In clock ticks since the machine started.
    started: u64,
}

impl Process {
    /// The process with this pid, unless it has ended.
    fn of(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started = started(&stat)?;
        Some(Process { pid, started })
    }

    /// The server that runs on a cluster's data, if one does. It must be the one that is remembered or, where none
    /// is, one that works in that very directory (PostgreSQL does).
    pub(crate) fn serving(data: &Path, remembered: Option<&ServerRecord>) -> Option<Process> {
        let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let process = Process::of(file.lines().next()?.trim().parse().ok()?)?;
        let is_remembered = remembered.is_some_and(|record| process.record() == *record);
        let works_there = || fs::read_link(format!("/proc/{}/cwd", process.pid)).is_ok_and(|cwd| cwd == data);
        (is_remembered || works_there()).then_some(process)
    }

    /// What is remembered of it.
    pub(crate) fn record(self) -> ServerRecord {
        ServerRecord { pid: self.pid, started: self.started }
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(self) -> bool {
        Process::of(self.pid) == Some(self)
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(self) {
        if let Some(pidfd) = self.pidfd() {
            let _ = pidfd.readable().await;
        }
        while self.is_alive() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends it with a signal, and after a while at once. What PostgreSQL does on which:
    /// <https://www.postgresql.org/docs/current/server-shutdown.html>.
    pub(crate) async fn end(self, first: Signal, patience: Duration) {
        self.signal(first);
        if tokio::time::timeout(patience, self.ended()).await.is_err() {
            self.signal(Signal::QUIT);
            self.ended().await;
        }
    }

    /// Sends it a signal, if it still runs.
    fn signal(self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Becomes readable when the process ends. It is no pipe, but a file like any other to those who wait for it.
    fn pidfd(self) -> Option<Receiver> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Opened by pid alone: it counts only if the pid is still the same process's.
        self.is_alive().then(|| Receiver::from_owned_fd_unchecked(pidfd).ok()).flatten()
    }
}

/// Reads the start time from `/proc/PID/stat`; nothing for a process that has ended and was not waited for. The
/// command's name, in parentheses, may hold anything.
fn started(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    // The state is the third field, the start time the 22nd (proc_pid_stat(5)).
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let ours = Process::of(std::process::id() as i32).unwrap();
        assert!(ours.is_alive());
        assert!(!Process { started: ours.started + 1, ..ours }.is_alive(), "another one with the same pid");
    }

    #[test]
    fn odd_names_and_ended_processes() {
        let stat = |state: &str| format!("7 (a ) b) {state} {} 4242 9", "0 ".repeat(18).trim_end());
        assert_eq!(started(&stat("S")), Some(4242));
        assert_eq!(started(&stat("Z")), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,120}") {
            let _ = started(&text);
        }
    }
}
