//! Becoming a command in a network of its own: the other side of [`crate::capture`].

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;

use super::{keeper, netlink, wiring};
use crate::capture::{Order, Report};
use crate::error::{Error, Kind, Result, Step};
use crate::{sys, wire};

/// Becomes the command that the arguments name after the number of the socket. Returns only if it cannot, the exit code.
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> i32 {
    let number = arguments.next().and_then(|number| number.to_str()?.parse().ok());
    let (Some(number), Some(program)) = (number, arguments.next()) else { return 2 };
    let socket = sys::inherited(number);
    let failed = become_command(&socket, program, arguments);
    let _ = wire::send(&socket, &Report::Failed(failed), &[]);
    1
}

fn become_command(socket: &OwnedFd, program: OsString, arguments: impl Iterator<Item = OsString>) -> Error {
    match prepare(socket) {
        Ok(()) => refusal(&program, &Command::new(&program).args(arguments).exec()),
        Err(error) => error,
    }
}

fn prepare(socket: &OwnedFd) -> Result<()> {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC).step("socket")?;
    let Some((order, _)) = wire::receive::<Order>(socket).step("order")? else { sys::exit_now(0) };
    enter_namespaces()?;
    cover(&order.covers)?;
    netlink::set_up(netlink::LOOPBACK).step("loopback")?;
    let mut sockets = wiring::wire(&order.wiring())?;
    sockets.push(keeper::open(&order.door())?);
    let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    wire::send(socket, &Report::Wired, &fds).step("hand over listeners")
}

/// Root can have mounts and a network of its own as it is; everybody else in a user namespace of their own.
fn enter_namespaces() -> Result<()> {
    let spaces = UnshareFlags::NEWNS | UnshareFlags::NEWNET;
    if !rustix::process::geteuid().is_root() || sys::unshare(spaces).is_err() {
        enter_as_same_user(spaces).step("a user namespace")?;
    }
    // What is mounted from here on is seen in here only.
    let ours = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", ours).step("mounts of its own")
}

fn enter_as_same_user(spaces: UnshareFlags) -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::unshare(spaces | UnshareFlags::NEWUSER)?;
    // The kernel asks for this before anyone but root of outside may map a group.
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

fn cover(covers: &[(PathBuf, PathBuf)]) -> Result<()> {
    for (file, path) in covers {
        // A link leads to what is covered, wherever that is.
        let Ok(path) = path.canonicalize() else { continue };
        rustix::mount::mount_bind(file, &path).step(path.display())?;
    }
    Ok(())
}

fn refusal(program: &OsString, error: &io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::NotExecutable,
    };
    Error { kind, message: format!("{}: {error}", program.display()) }
}
