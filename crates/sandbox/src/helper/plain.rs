//! The init of an instance that has no walls: what is left where the host allows no namespaces.
//!
//! The program is looked for in the layers, the highest first, and executed where it lies, as haar's own user, among all
//! other processes and with the host's files, network and limits. That suits a static program, or one whose libraries the
//! host has too. It is done by the same helper, so output, signals, exit codes and the end with haar are the same.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

use super::init::{self, Program};
use super::user::User;
use crate::error::{Error, Result, Step};
use crate::spec::Spec;
use crate::sys;
use crate::wire::{self, FromInit, Order, SetGroups, ToInit};

/// Runs as the init.
pub(super) fn run(haar: OwnedFd, procs: Vec<OwnedFd>) -> ! {
    super::name(c"haar-init");
    if let Err(error) = live(&haar, procs) {
        let _ = wire::send(&haar, &FromInit::Failed(error), &[]);
        sys::exit_now(1);
    }
    sys::exit_now(0)
}

fn live(haar: &OwnedFd, procs: Vec<OwnedFd>) -> Result<()> {
    for group in procs {
        rustix::io::write(&group, b"0").step("join a control group")?;
    }
    // A group of processes that can be killed as one.
    rustix::process::setpgid(None, None).step("process group")?;
    adopt_orphans()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step("death signal")?;
    let mut signals = init::PASSED_ON.to_vec();
    signals.push(libc::SIGCHLD);
    let signals = sys::signals_as_file(&signals).step("signal file")?;
    wire::send(haar, &FromInit::Warm, &[]).step("report")?;
    match wire::receive(haar).step("order")? {
        Some((ToInit::Run, fds)) => {
            let order = fds.into_iter().next().ok_or_else(|| Error::host("an order without its file"))?;
            let Order { spec, .. } = Order::from_file(order).step("order")?;
            let program = program(&spec)?;
            init::await_go(haar)?;
            let main = program.start(haar, None)?;
            init::watch(haar, &signals, main)
        }
        _ => Ok(()),
    }
}

/// Makes this process the parent of those below it that lose theirs.
pub(super) fn adopt_orphans() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).step("reaper of orphans")
}

/// Kills and reaps every process below this one, also those that made themselves a session: their parents' ends make
/// them our children.
pub(super) fn end_descendants() {
    let pid = rustix::process::getpid().as_raw_nonzero();
    let list = format!("/proc/self/task/{pid}/children");
    loop {
        let children = std::fs::read_to_string(&list).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return,
        }
    }
}

fn program(spec: &Spec) -> Result<Program> {
    let user = User {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        groups: Vec::new(),
    };
    let mut paths = Vec::new();
    for path in init::candidates(spec)? {
        paths.extend(in_layers(spec, Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())))?);
    }
    let cwd = in_layers(spec, Path::new(&spec.cwd))?.into_iter().next();
    let cwd = cwd.and_then(|path| path.into_string().ok()).unwrap_or_else(|| "/".into());
    Program::new(spec, user, SetGroups::Denied, paths, cwd)
}

/// Where a path of the image exists on the host, the highest layer first.
fn in_layers(spec: &Spec, path: &Path) -> Result<Vec<CString>> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let found = spec.layers.iter().rev().map(|layer| layer.join(below)).filter(|path| path.exists());
    found.map(|path| init::c_string(&path.to_string_lossy())).collect()
}
