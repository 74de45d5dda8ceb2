//! The helper: this same program executed again, single-threaded, to do what a process with threads cannot.
//!
//! Three kinds of process come of it, each forked from the one before:
//!
//! 1. the **zygote**, one for each [`Sandbox`](crate::Sandbox). It was executed once, so an instance costs a fork and
//!    not an exec of a large program. When haar is gone, however it went, the zygote sees its socket close and clears
//!    the control groups away: a frozen group would otherwise never die.
//! 2. a **keeper** for each instance. It makes the user, network, IPC and UTS namespaces, stays in them to make
//!    sockets there, and outlives the instance to empty its scratch directory. It is outside the instance's process
//!    namespace and mounts, so the workload can name neither it nor its files.
//! 3. an **init**, process 1 of the instance. An app as process 1 would ignore SIGTERM unless it had a handler, and
//!    would have to reap orphans that it knows nothing of; so there is a small one of ours, and the app is its child.
//!
//! Whoever's parent dies finds its socket closed, and ends. That is told by the kernel for every way to die and does
//! not depend, as the parent-death signal does, on which thread forked.

mod capture;
mod confine;
mod init;
mod keeper;
mod netfilter;
mod netlink;
mod plain;
mod root;
mod staging;
mod user;
mod wiring;

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::WaitOptions;

use crate::cgroup::Groups;
use crate::error::{Error, Step};
use crate::sys::{self, Forked};
use crate::wire::{self, FromZygote, ToZygote, Walls};
use crate::wiring::Wiring;

/// The name under which the program is executed to be a helper.
pub(crate) const NAME: &str = "haar-sandbox";

/// How long keepers may take to tidy up when haar is gone.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Becomes a helper if this process was executed as one, and then never returns. To be called first in `main`, before
/// any thread is started.
pub fn entry() {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    if name.as_deref() == Some(OsStr::new(crate::capture::NAME)) {
        sys::exit_now(capture::run(arguments));
    }
    if name.as_deref() == Some(OsStr::new(NAME)) {
        let code = zygote().map_or_else(
            |error| {
                eprintln!("{NAME}: {error}");
                1
            },
            |()| 0,
        );
        sys::exit_now(code);
    }
}

/// Serves haar until it is gone.
fn zygote() -> Result<(), Error> {
    sys::close_from(3);
    name(c"haar-zygote");
    // A keeper that another one has made is ours when that one ends.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    // Signals for the terminal's foreground are haar's to act on: it stops its instances in order.
    let _ = rustix::process::setsid();
    let haar = take_socket()?;
    let ended = sys::signals_as_file(&[libc::SIGCHLD]).step("signal file")?;
    let mut groups = None;
    let served = serve(&haar, &ended, &mut groups);
    if let Ok(Some(newborn)) = served {
        // Nothing of the zygote's is the keeper's to hold: an open copy would hide that haar is gone.
        drop((haar, ended));
        newborn.run()
    }
    // However the service ended, nobody else would do this: what is frozen could not even be killed.
    clear(groups);
    reap_all(&ended);
    served.map(drop)
}

/// Serves until haar is gone; in a new process, returns what it needs to become a keeper.
fn serve(
    haar: &OwnedFd,
    ended: &OwnedFd,
    groups: &mut Option<(Groups, String)>,
) -> Result<Option<Newborn>, Error> {
    loop {
        if wait_for(haar, ended).step("poll")? {
            reap(ended);
            continue;
        }
        match wire::receive::<ToZygote>(haar).step("receive")? {
            Some((ToZygote::Hello { groups: given, prefix }, _)) => *groups = Some((given, prefix)),
            Some((ToZygote::Fork { walls, wiring }, procs)) => {
                if let Some(newborn) = fork_keeper(haar, Order { procs, walls, wiring })? {
                    return Ok(Some(newborn));
                }
            }
            None => return Ok(None),
        }
    }
}

/// Sees every keeper end. Each has seen what we have, and only has to tidy up.
fn reap_all(ended: &OwnedFd) {
    let deadline = Instant::now() + LAST_WAIT;
    loop {
        reap(ended);
        let left = deadline.saturating_duration_since(Instant::now());
        let none = matches!(rustix::process::wait(WaitOptions::NOHANG), Err(rustix::io::Errno::CHILD));
        if none || left.is_zero() {
            return;
        }
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = rustix::event::poll(&mut [PollFd::new(ended, PollFlags::IN)], Some(&timeout));
    }
}

/// The socket comes as standard input, where no unsafe code is needed to put it; it is moved out of the way.
fn take_socket() -> Result<OwnedFd, Error> {
    let first = sys::inherited(0);
    let socket = rustix::io::fcntl_dupfd_cloexec(&first, 3).step("socket")?;
    drop(first);
    // Takes the lowest number, 0, and keeps it.
    std::mem::forget(std::fs::File::open("/dev/null").step("/dev/null")?);
    Ok(socket)
}

/// Waits for either; true if a child has ended.
fn wait_for(haar: &OwnedFd, ended: &OwnedFd) -> std::io::Result<bool> {
    let mut fds = [PollFd::new(haar, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))?;
    Ok(fds[0].revents().is_empty())
}

fn reap(ended: &OwnedFd) {
    while sys::next_signal(ended).is_some() {}
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// What a keeper is born with.
struct Newborn {
    haar: OwnedFd,
    init: OwnedFd,
    order: Order,
}

/// What a keeper is to be.
struct Order {
    /// Control groups that the init joins.
    procs: Vec<OwnedFd>,
    walls: Walls,
    wiring: Wiring,
}

impl Newborn {
    fn run(self) -> ! {
        keeper::run(self.haar, self.init, self.order)
    }
}

/// Forks; in the new process, returns what it needs to become a keeper.
fn fork_keeper(haar: &OwnedFd, order: Order) -> Result<Option<Newborn>, Error> {
    let (keeper_here, keeper_there) = wire::pair().step("socket pair")?;
    let (init_here, init_there) = wire::pair().step("socket pair")?;
    let answer = match sys::fork(0) {
        Ok(Forked::Child) => return Ok(Some(Newborn { haar: keeper_here, init: init_here, order })),
        Ok(Forked::Parent(_)) => {
            wire::send(haar, &FromZygote::Forked, &[keeper_there.as_fd(), init_there.as_fd()])
        }
        Err(error) => wire::send(haar, &FromZygote::Failed(Error::host(format!("fork: {error}"))), &[]),
    };
    // A haar that does not take the answer is gone, which the next read will tell.
    drop(answer);
    Ok(None)
}

/// Kills what haar has left behind. Keepers see it themselves; their groups need someone with rights to them.
fn clear(groups: Option<(Groups, String)>) {
    if let Some(Err(error)) = groups.map(|(groups, prefix)| groups.clear(&prefix)) {
        eprintln!("{NAME}: control groups were left behind: {error}");
    }
}

/// Names the process, for whoever looks at a list of them.
fn name(name: &std::ffi::CStr) {
    let _ = rustix::thread::set_name(name);
}
