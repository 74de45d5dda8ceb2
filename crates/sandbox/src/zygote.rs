//! haar's end of the helper: executing it, and raising keepers until they are warm.
//!
//! All of this blocks for up to some milliseconds; callers in async code run it on the threads made for that.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde::de::DeserializeOwned;

use crate::cgroup::{Cgroup, Groups};
use crate::error::{Error, Result, Step};
use crate::helper;
use crate::mapping::{Mapped, Mapping};
use crate::spec::Network;
use crate::wire::{self, FromInit, FromKeeper, FromZygote, SetGroups, ToKeeper, ToZygote, Walls};
use crate::wiring::Wiring;

/// How long a helper may take for a step before it counts as stuck.
const STEP_TIME: Duration = Duration::from_secs(10);

/// The zygote.
pub(crate) struct Zygote {
    socket: Option<OwnedFd>,
    child: Child,
}

/// A keeper and an init that wait for an order.
pub(crate) struct Warm {
    pub(crate) keeper: OwnedFd,
    pub(crate) init: OwnedFd,
    pub(crate) init_pid: i32,
    pub(crate) mapped: Arc<Mapped>,
    pub(crate) group: Option<Box<dyn Cgroup>>,
    /// Of its wiring.
    pub(crate) listeners: Vec<OwnedFd>,
}

impl Warm {
    /// Ends what is not to become an instance.
    pub(crate) fn discard(self) {
        drop((self.keeper, self.init));
        discard(self.group);
    }
}

impl Zygote {
    /// Executes this program again, as the zygote.
    pub(crate) fn spawn() -> Result<Zygote> {
        let (here, there) = wire::pair().step("socket pair")?;
        limit_time(&here).step("socket")?;
        let child = Command::new("/proc/self/exe")
            .arg0(helper::NAME)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(there))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .step("execute the helper")?;
        Ok(Zygote { socket: Some(here), child })
    }

    /// Tells it what to clear away when we are gone.
    pub(crate) fn hello(&self, groups: &Groups, prefix: &str) -> Result<()> {
        let hello = ToZygote::Hello { groups: groups.clone(), prefix: prefix.to_owned() };
        wire::send(self.socket()?, &hello, &[]).step("helper")
    }

    /// Makes a keeper, whose init will join `group`.
    pub(crate) fn fork(&self, walls: Walls, wiring: &Wiring, group: Option<&dyn Cgroup>) -> Result<Birth> {
        let procs = group.map_or(Ok(Vec::new()), Cgroup::procs).step("control group")?;
        let procs: Vec<_> = procs.iter().map(AsFd::as_fd).collect();
        wire::send(self.socket()?, &ToZygote::Fork { walls, wiring: wiring.clone() }, &procs)
            .step("helper")?;
        match next(self.socket()?)? {
            (FromZygote::Forked, fds) => {
                let mut fds = fds.into_iter();
                let (Some(keeper), Some(init)) = (fds.next(), fds.next()) else {
                    return Err(Error::host("the helper sent no sockets"));
                };
                Ok(Birth { keeper, init, walls, wired: !wiring.is_empty() })
            }
            (FromZygote::Failed(error), _) => Err(error),
        }
    }

    /// Whether it has ended, or does so within a moment: its socket closes a little before.
    pub(crate) fn has_ended(&mut self) -> bool {
        (0..20).any(|_| {
            let ended = !matches!(self.child.try_wait(), Ok(None));
            if !ended {
                std::thread::sleep(Duration::from_millis(1));
            }
            ended
        })
    }

    /// Lets it go and waits until it has cleared away what we left.
    pub(crate) fn finish(&mut self) {
        drop(self.socket.take());
        let _ = self.child.wait();
    }

    fn socket(&self) -> Result<&OwnedFd> {
        self.socket.as_ref().ok_or_else(|| Error::host("the helper has been let go"))
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A keeper that has just been forked.
pub(crate) struct Birth {
    keeper: OwnedFd,
    init: OwnedFd,
    walls: Walls,
    wired: bool,
}

/// Where the ids of an instance come from.
pub(crate) enum Ids<'a> {
    /// They are to be mapped.
    New(&'a Mapping),
    /// They are those of the instance beside which it is.
    Of(Arc<Mapped>),
}

impl Birth {
    /// Has the keeper of an instance make another beside it, and does not wait for the answer.
    pub(crate) fn beside(keeper: &OwnedFd, group: Option<&dyn Cgroup>) -> Result<Birth> {
        let (keeper_here, keeper_there) = wire::pair().step("socket pair")?;
        let (init_here, init_there) = wire::pair().step("socket pair")?;
        let procs = group.map_or(Ok(Vec::new()), Cgroup::procs).step("control group")?;
        let sockets = [&keeper_there, &init_there].into_iter().chain(&procs);
        wire::send(keeper, &ToKeeper::Beside, &sockets.map(AsFd::as_fd).collect::<Vec<_>>())
            .step("helper")?;
        let walls = Walls::Namespaces(Network::Isolated);
        Ok(Birth { keeper: keeper_here, init: init_here, walls, wired: false })
    }

    /// Sees it through until only the spec is missing. `group` is the one it was forked for, removed if this fails.
    pub(crate) fn raise(self, ids: Ids<'_>, group: Option<Box<dyn Cgroup>>) -> Result<Warm> {
        let Birth { keeper, init, walls, wired } = self;
        let ids = (walls != Walls::None).then_some(ids);
        let raised = raise(&keeper, &init, ids).and_then(|(mapped, pid)| {
            let listeners = if wired { receive_wires(&keeper)? } else { Vec::new() };
            Ok((mapped, pid, listeners))
        });
        match raised {
            Ok((mapped, init_pid, listeners)) => {
                Ok(Warm { keeper, init, init_pid, mapped, group, listeners })
            }
            Err(error) => {
                drop((keeper, init));
                discard(group);
                Err(error)
            }
        }
    }
}

fn raise(keeper: &OwnedFd, init: &OwnedFd, ids: Option<Ids<'_>>) -> Result<(Arc<Mapped>, i32)> {
    limit_time(keeper).step("socket")?;
    limit_time(init).step("socket")?;
    let mapped = match ids {
        Some(Ids::New(mapping)) => Arc::new(map(keeper, mapping)?),
        Some(Ids::Of(mapped)) => mapped,
        None => Arc::new(Mapped { groups: SetGroups::Denied, translation: None }),
    };
    let pid = match next(keeper)? {
        (FromKeeper::Ready { init }, _) => init,
        (FromKeeper::Failed(error), _) => return Err(error),
        (other, _) => return Err(unexpected(&other)),
    };
    match next(init)? {
        (FromInit::Warm, _) => Ok((mapped, pid)),
        (FromInit::Failed(error), _) => Err(error),
        (other, _) => Err(unexpected(&other)),
    }
}

/// The listeners of the wiring.
fn receive_wires(keeper: &OwnedFd) -> Result<Vec<OwnedFd>> {
    match next(keeper)? {
        (FromKeeper::Wired, fds) => Ok(fds),
        (FromKeeper::Unwired(error) | FromKeeper::Failed(error), _) => Err(error),
        (other, _) => Err(unexpected(&other)),
    }
}

fn map(keeper: &OwnedFd, mapping: &Mapping) -> Result<Mapped> {
    let mapped = match next(keeper)? {
        (FromKeeper::Unshared, fds) => {
            let process = fds.into_iter().next().ok_or_else(|| Error::host("a keeper without a process"))?;
            mapping.apply(&process).step("map ids")?
        }
        (FromKeeper::Failed(error), _) => return Err(error),
        (other, _) => return Err(unexpected(&other)),
    };
    wire::send(keeper, &ToKeeper::Mapped { groups: mapped.groups }, &[]).step("helper")?;
    Ok(mapped)
}

pub(crate) fn unexpected(message: &impl std::fmt::Debug) -> Error {
    Error::host(format!("the helper said {message:?} out of turn"))
}

/// Removes the group of what never became an instance.
pub(crate) fn discard(group: Option<Box<dyn Cgroup>>) {
    if let Some(group) = group {
        let _ = group.kill();
        let _ = crate::cgroup::remove_by(group.as_ref(), Instant::now() + STEP_TIME);
    }
}

/// The next message; that the other side is gone is an error.
pub(crate) fn next<M: DeserializeOwned>(socket: &OwnedFd) -> Result<(M, Vec<OwnedFd>)> {
    wire::receive(socket).step("helper")?.ok_or_else(|| Error::host("the helper ended early"))
}

fn limit_time(socket: &OwnedFd) -> io::Result<()> {
    Ok(set_socket_timeout(socket, Timeout::Recv, Some(STEP_TIME))?)
}
