//! The keeper: owns an instance's namespaces, makes sockets in them, and tidies up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::{Gid, Uid, UnshareFlags};

use super::{Order, init, netlink, plain, wiring};
use crate::error::{Error, Result, Step};
use crate::owners;
use crate::spec::{Listen, Network, Protocol};
use crate::sys::{self, Forked};
use crate::wire::{self, Family, FromKeeper, SetGroups, ToKeeper, Walls};
use crate::wiring::Wiring;

/// How much an instance may have of what the kernel counts by who made the user namespace, which for all instances is
/// the user that runs haar: without these, one could leave nothing for the others and for the host.
const SHARES: [(&str, &str); 2] = [("max_inotify_instances", "32"), ("max_inotify_watches", "65536")];
/// How many connections may wait for a listener of ours to be accepted.
const BACKLOG: i32 = 1024;

struct Keeper {
    haar: OwnedFd,
    walls: Walls,
    init: Pid,
    /// Readable when the init has ended.
    ended: OwnedFd,
    scratch: Option<OwnedFd>,
    /// Whether more than one user exists inside, if there are walls.
    groups: Option<SetGroups>,
}

/// A keeper that was made beside another.
struct Newborn {
    haar: OwnedFd,
    init: OwnedFd,
    procs: Vec<OwnedFd>,
    groups: Option<SetGroups>,
}

/// Runs as the keeper. `socket` is the init's, by which haar will speak with it.
pub(super) fn run(haar: OwnedFd, socket: OwnedFd, order: Order) -> ! {
    super::name(c"haar-keeper");
    let Order { procs, walls, wiring } = order;
    let prepared = match walls {
        Walls::Namespaces(network) => prepare(&haar, network).map(Some),
        Walls::None => plain::adopt_orphans().map(|()| None),
    };
    settle(haar, socket, Order { procs, walls, wiring }, prepared)
}

/// Forks the init, and becomes it in the new process; in the old one, keeps it.
fn settle(haar: OwnedFd, socket: OwnedFd, order: Order, prepared: Result<Option<SetGroups>>) -> ! {
    let Order { procs, walls, wiring } = order;
    match prepared.and_then(|groups| Ok((groups, start_init(&haar, walls)?))) {
        Ok((Some(groups), None)) => {
            drop(haar);
            init::run(socket, procs, groups)
        }
        Ok((None, None)) => {
            drop(haar);
            plain::run(socket, procs)
        }
        Ok((groups, Some((init, ended)))) => {
            drop((socket, procs));
            let keeper = Keeper { haar, walls, init, ended, scratch: None, groups };
            keeper.wire(&wiring);
            keeper.serve()
        }
        Err(error) => {
            let _ = wire::send(&haar, &FromKeeper::Failed(error), &[]);
            sys::exit_now(1)
        }
    }
}

/// Enters new namespaces and becomes their root.
fn prepare(haar: &OwnedFd, network: Network) -> Result<SetGroups> {
    // The user namespace comes first (the kernel sees to that), so it owns the others.
    let mut spaces = UnshareFlags::NEWUSER | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if network == Network::Isolated {
        spaces |= UnshareFlags::NEWNET;
    }
    sys::unshare(spaces).step("new namespaces")?;
    let groups = ask_for_ids(haar)?;
    become_root(groups).step("root of the user namespace")?;
    // From here on no process of the same user can look into this one or its children.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step("not dumpable")?;
    for (what, share) in SHARES {
        // A kernel that has no such limit counts nothing either.
        let _ = std::fs::write(format!("/proc/sys/user/{what}"), share);
    }
    if network == Network::Isolated {
        set_up_network()?;
    }
    Ok(groups)
}

/// Only ever in a namespace of our own: what is written here would hold for the host else.
fn set_up_network() -> Result<()> {
    netlink::set_up(netlink::LOOPBACK).step("loopback")?;
    // As in other container runtimes, low ports need no privilege inside. Where this cannot be set, root may bind
    // them still.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    Ok(())
}

/// Only a process outside the namespace may map ids into it.
fn ask_for_ids(haar: &OwnedFd) -> Result<SetGroups> {
    let me =
        rustix::fs::open("/proc/self", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step("/proc/self")?;
    wire::send(haar, &FromKeeper::Unshared, &[me.as_fd()]).step("ask for ids")?;
    match wire::receive(haar).step("ids")? {
        Some((ToKeeper::Mapped { groups }, _)) => Ok(groups),
        Some(_) => Err(Error::host("ids are not mapped")),
        None => sys::exit_now(0),
    }
}

fn become_root(groups: SetGroups) -> io::Result<()> {
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    if groups == SetGroups::Allowed {
        rustix::thread::set_thread_groups(&[])?;
    }
    Ok(rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
}

/// Forks the init, as process 1 of a new process namespace if there are to be walls. In the new process there is nothing to return.
fn start_init(haar: &OwnedFd, walls: Walls) -> Result<Option<(Pid, OwnedFd)>> {
    let flags = match walls {
        Walls::Namespaces(_) => libc::CLONE_NEWPID,
        Walls::None => 0,
    };
    let pid = match sys::fork(flags).step("fork an init")? {
        Forked::Child => return Ok(None),
        Forked::Parent(pid) => pid,
    };
    let init = Pid::from_raw(pid).ok_or_else(|| Error::host("an init without a process id"))?;
    let ended = rustix::process::pidfd_open(init, PidfdFlags::empty()).step("watch the init")?;
    wire::send(haar, &FromKeeper::Ready { init: pid }, &[]).step("report")?;
    Ok(Some((init, ended)))
}

impl Keeper {
    /// While the init furnishes, which takes longer.
    fn wire(&self, wiring: &Wiring) {
        if wiring.is_empty() {
            return;
        }
        // That haar is gone is seen next.
        let _ = match wiring::wire(wiring) {
            Ok(sockets) => {
                let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                wire::send(&self.haar, &FromKeeper::Wired, &fds)
            }
            Err(error) => wire::send(&self.haar, &FromKeeper::Unwired(error), &[]),
        };
    }

    fn serve(mut self) -> ! {
        loop {
            let mut fds = [PollFd::new(&self.haar, PollFlags::IN), PollFd::new(&self.ended, PollFlags::IN)];
            let _ = rustix::event::poll(&mut fds, None);
            let (told, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            // What haar has said comes first: it may be which directory to empty.
            if told {
                if let Some(newborn) = self.obey() {
                    // An open copy would hide the other's end.
                    drop(self);
                    newborn.run()
                }
            } else if ended {
                self.finish();
            }
        }
    }

    /// Does what it is told. In a new process, returns what it needs to become a keeper.
    fn obey(&mut self) -> Option<Newborn> {
        let done = match wire::receive::<ToKeeper>(&self.haar) {
            Ok(Some((ToKeeper::Scratch, fds))) => {
                self.scratch = fds.into_iter().next();
                Ok(())
            }
            Ok(Some((ToKeeper::Listen(list), _))) => self.listen(&list),
            Ok(Some((ToKeeper::Sockets { count, family }, _))) => self.make_sockets(count, family),
            Ok(Some((ToKeeper::Beside, fds))) => match self.fork_beside(fds) {
                Ok(None) => Ok(()),
                Ok(newborn) => return newborn,
                Err(error) => Err(error),
            },
            Ok(Some((ToKeeper::Give { uid }, fds))) => self.give(fds.first(), uid),
            Ok(Some((ToKeeper::Kill | ToKeeper::Mapped { .. }, _))) => self.kill(),
            // Without haar there is nobody to serve.
            Ok(None) | Err(_) => self.finish(),
        };
        if let Err(error) = done {
            let _ = wire::send(&self.haar, &FromKeeper::Failed(error), &[]);
        }
        None
    }

    /// Forks twice, so that the new keeper is the zygote's and not ours to reap.
    fn fork_beside(&self, fds: Vec<OwnedFd>) -> Result<Option<Newborn>> {
        let mut fds = fds.into_iter();
        let (Some(haar), Some(init)) = (fds.next(), fds.next()) else {
            return Err(Error::host("a keeper without sockets"));
        };
        let between = match sys::fork(0).step("fork")? {
            Forked::Parent(pid) => pid,
            Forked::Child => match sys::fork(0) {
                Ok(Forked::Child) => {
                    return Ok(Some(Newborn { haar, init, procs: fds.collect(), groups: self.groups }));
                }
                // Without it the sockets close, which tells haar.
                Ok(Forked::Parent(_)) | Err(_) => sys::exit_now(0),
            },
        };
        let _ = rustix::io::retry_on_intr(|| {
            rustix::process::waitpid(Pid::from_raw(between), WaitOptions::empty())
        });
        Ok(None)
    }

    fn kill(&self) -> Result<()> {
        // The id cannot have been given to another: it is kept until we wait for it.
        match self.walls {
            Walls::Namespaces(_) => rustix::process::kill_process(self.init, Signal::KILL).step("kill"),
            // Without a namespace to end; the others follow when the init has ended.
            Walls::None => rustix::process::kill_process_group(self.init, Signal::KILL).step("kill"),
        }
    }

    fn listen(&self, list: &[Listen]) -> Result<()> {
        for addr in list.iter().map(|listen| listen.addr).filter(|addr| !addr.ip().is_loopback()) {
            netlink::add_address(netlink::LOOPBACK, addr.ip()).step(format_args!("address {}", addr.ip()))?;
        }
        let sockets = list.iter().map(open).collect::<Result<Vec<_>>>()?;
        let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        wire::send(&self.haar, &FromKeeper::Listening, &fds).step("hand over listeners")
    }

    fn make_sockets(&self, count: usize, family: Family) -> Result<()> {
        let one = |_| socket(family.into(), SocketType::STREAM);
        let sockets =
            (0..count.min(wire::MAX_FDS)).map(one).collect::<io::Result<Vec<_>>>().step("socket")?;
        let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        wire::send(&self.haar, &FromKeeper::Sockets { family }, &fds).step("hand over sockets")
    }

    /// As the root of a namespace whose ids the user who runs haar has no other way to give files to.
    fn give(&self, directory: Option<&OwnedFd>, uid: u32) -> Result<()> {
        let directory = directory.ok_or_else(|| Error::host("no directory came"))?;
        owners::give(directory, uid).step("give a directory")?;
        wire::send(&self.haar, &FromKeeper::Given, &[]).step("report")
    }

    /// Waits for the init, whose end the kernel delays until every process of the instance is gone, and tidies up.
    fn finish(&mut self) -> ! {
        let _ = self.kill();
        let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(self.init), WaitOptions::empty()));
        if self.walls == Walls::None {
            plain::end_descendants();
        }
        if let Some(scratch) = self.scratch.take() {
            empty(&scratch);
        }
        let _ = wire::send(&self.haar, &FromKeeper::Ended, &[]);
        sys::exit_now(0)
    }
}

impl Newborn {
    fn run(self) -> ! {
        let spaces = sys::unshare(UnshareFlags::NEWIPC | UnshareFlags::NEWUTS).step("new namespaces");
        // The network is there, and wired.
        let walls = Walls::Namespaces(Network::Isolated);
        let order = Order { procs: self.procs, walls, wiring: Wiring::default() };
        settle(self.haar, self.init, order, spaces.map(|()| self.groups))
    }
}

fn socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, kind, flags, None)?)
}

/// A listening socket at an address that is there.
pub(super) fn open(listen: &Listen) -> Result<OwnedFd> {
    let addr = listen.addr;
    let kind = match listen.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let fd = socket(AddressFamily::from(Family::from(addr)), kind).step("socket")?;
    rustix::net::bind(&fd, &addr).step(format_args!("bind {addr}"))?;
    if listen.protocol == Protocol::Tcp {
        rustix::net::listen(&fd, BACKLOG).step(format_args!("listen on {addr}"))?;
    }
    Ok(fd)
}

/// Removes everything in a directory, as the root to whom it belongs.
fn empty(directory: &OwnedFd) {
    if rustix::process::fchdir(directory).is_err() {
        return;
    }
    for entry in std::fs::read_dir(".").into_iter().flatten().flatten() {
        let path = entry.path();
        // The library's removal does not follow links.
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
    }
}
