//! The listening socket: opened here, or handed in by systemd.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::{
    data::DataDir,
    report::{Doing, Result, Trouble},
};

/// Refuses to start where a haar runs already.
pub fn refuse_second(data: &DataDir) -> Result<()> {
    match data.running() {
        None => Ok(()),
        Some(running) => Err(Trouble::new(format!(
            "a haar (pid {}) runs on {} already, on {}",
            running.pid,
            data.path().display(),
            running.listen
        ))
        .next("use it, stop it with haar down, or name another directory with --data DIR")),
    }
}

/// The socket that systemd handed in (`LISTEN_FDS`), or a new one.
pub fn open(address: SocketAddr) -> Result<TcpListener> {
    match from_systemd()? {
        Some(socket) => Ok(socket),
        None => bind(address).map_err(|trouble| {
            trouble
                .next("stop that, or choose another port with --listen 127.0.0.1:PORT (:0 takes a free one)")
        }),
    }
}

/// A new socket; where it cannot be had because somebody else has it, the error says who.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Trouble::new(format!("{address} is taken{}", by_whom(address.port()))),
        _ => Trouble::new(format!("cannot listen on {address}: {error}")),
    })
}

/// systemd passes sockets from descriptor 3 on and says for which process
/// (<https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html>).
fn from_systemd() -> Result<Option<TcpListener>> {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if variable("LISTEN_PID") != Some(std::process::id()) || variable("LISTEN_FDS").unwrap_or(0) < 1 {
        return Ok(None);
    }
    let myself = pidfd_open(getpid(), PidfdFlags::empty()).doing("look at descriptor 3")?;
    let socket = pidfd_getfd(myself, 3, PidfdGetfdFlags::empty()).doing("take descriptor 3 from systemd")?;
    Ok(Some(TcpListener::from(socket)))
}

/// Who listens on a port, for people: ` by NAME (pid N)`, or nothing where that cannot be seen.
fn by_whom(port: u16) -> String {
    let holder = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening_inode(table, port))
        .and_then(holder_of);
    holder.map(|(pid, name)| format!(" by {name} (pid {pid})")).unwrap_or_default()
}

fn listening_inode(table: &str, port: u16) -> Option<String> {
    let suffix = format!(":{port:04X}");
    fs::read_to_string(table).ok()?.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let listens = columns.get(1)?.ends_with(&suffix) && *columns.get(3)? == "0A";
        listens.then(|| columns.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
    })
}

fn holder_of(socket: String) -> Option<(u32, String)> {
    let wanted = Path::new(&socket);
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        if descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == wanted)) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim_end().to_owned()));
        }
    }
    None
}
