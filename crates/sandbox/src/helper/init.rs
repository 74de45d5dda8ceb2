//! Process 1 of an instance: makes the root, starts the program, and then does what a first process must.
//!
//! In the order of its life: join the control groups (before anything is allocated, so all of it counts as the
//! instance's), furnish, wait for the order, enter the root, start the program, give up every privilege, and then only
//! pass signals on and reap. The program's end is its own end, and the kernel kills whatever else runs in the
//! namespace.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::{Gid, Uid, UnshareFlags};
use seccompiler::BpfProgram;

use super::confine::{self, Keep};
use super::root;
use super::staging::{self, Furniture};
use super::user::{self, User};
use crate::error::{Error, Kind, Result, Step};
use crate::spec::{DEFAULT_PATH, Spec};
use crate::sys::{self, Forked};
use crate::wire::{self, FromInit, Order, SetGroups, ToInit};

/// Signals that a program may be sent through its init, besides its children's end. Those that a fault raises and
/// those that stop are not among them.
pub(super) const PASSED_ON: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCONT,
];

/// The most bytes of a report about a failed exec.
const MAX_REPORT: usize = 4096;

/// Runs as the init.
pub(super) fn run(haar: OwnedFd, procs: Vec<OwnedFd>, groups: SetGroups) -> ! {
    super::name(c"haar-init");
    let ended = live(&haar, procs, groups);
    if let Err(error) = ended {
        let _ = wire::send(&haar, &FromInit::Failed(error), &[]);
        sys::exit_now(1);
    }
    sys::exit_now(0)
}

fn live(haar: &OwnedFd, procs: Vec<OwnedFd>, groups: SetGroups) -> Result<()> {
    let warm = warm_up(procs, groups)?;
    wire::send(haar, &FromInit::Warm, &[]).step("report")?;
    loop {
        match wire::receive(haar).step("order")? {
            Some((ToInit::Try, _)) => {
                root::try_join()?;
                return wire::send(haar, &FromInit::Tried, &[]).step("report");
            }
            Some((ToInit::Run, fds)) => return become_instance(haar, warm, fds, groups),
            // Nothing to signal yet.
            Some((ToInit::Signal(_) | ToInit::Go, _)) => {}
            None => return Ok(()),
        }
    }
}

struct Warm {
    furniture: Furniture,
    filter: BpfProgram,
    signals: OwnedFd,
}

fn warm_up(procs: Vec<OwnedFd>, groups: SetGroups) -> Result<Warm> {
    for group in procs {
        rustix::io::write(&group, b"0").step("join a control group")?;
    }
    // So that what the instance sees of its groups begins with them. Old kernels lack it.
    let _ = sys::unshare(UnshareFlags::NEWCGROUP);
    sys::unshare(UnshareFlags::NEWNS).step("new mount namespace")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step("death signal")?;
    let mut signals = PASSED_ON.to_vec();
    signals.push(libc::SIGCHLD);
    Ok(Warm {
        furniture: staging::furnish(groups)?,
        filter: confine::compile()?,
        signals: sys::signals_as_file(&signals).step("signal file")?,
    })
}

fn become_instance(haar: &OwnedFd, warm: Warm, fds: Vec<OwnedFd>, groups: SetGroups) -> Result<()> {
    let Warm { furniture, filter, signals } = warm;
    let mut fds = fds.into_iter();
    let order = fds.next().ok_or_else(|| Error::host("an order without its file"))?;
    let order = Order::from_file(order).step("order")?;
    root::enter(&order, fds.collect(), furniture)?;
    let Order { spec, .. } = order;
    rustix::system::sethostname(spec.hostname.as_bytes()).step("host name")?;
    let program = prepare(&spec, groups)?;
    await_go(haar)?;
    let main = program.start(haar, Some(&filter))?;
    drop((program, spec));
    confine::bound()?;
    confine::drop_capabilities(Keep::Signalling)?;
    confine::filter(&filter)?;
    watch(haar, &signals, main)
}

/// Waits for the word to start, which has come while the root was made unless the keeper was slow.
pub(super) fn await_go(haar: &OwnedFd) -> Result<()> {
    loop {
        match wire::receive(haar).step("start")? {
            Some((ToInit::Go, _)) => return Ok(()),
            Some(_) => {}
            None => sys::exit_now(0),
        }
    }
}

fn prepare(spec: &Spec, groups: SetGroups) -> Result<Program> {
    let user = match groups {
        SetGroups::Allowed => user::find(&spec.user)?,
        // There is only root, who outside is the user that runs haar.
        SetGroups::Denied => User::default(),
    };
    std::fs::create_dir_all(&spec.cwd).step(format_args!("working directory {}", spec.cwd))?;
    Program::new(spec, user, groups, candidates(spec)?, spec.cwd.clone())
}

/// Everything that is needed to execute, made before the fork: after it nothing should be able to fail that could
/// have failed before.
pub(super) struct Program {
    paths: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: String,
    user: User,
    pids: Option<u32>,
    groups: SetGroups,
}

impl Program {
    pub(super) fn new(
        spec: &Spec,
        user: User,
        groups: SetGroups,
        paths: Vec<CString>,
        cwd: String,
    ) -> Result<Program> {
        Ok(Program {
            paths,
            argv: spec.argv.iter().map(|word| c_string(word)).collect::<Result<_>>()?,
            env: spec.env.iter().map(|(k, v)| c_string(&format!("{k}={v}"))).collect::<Result<_>>()?,
            cwd,
            user,
            pids: spec.limits.pids,
            groups,
        })
    }

    /// Forks and executes, behind walls if there is a filter; returns once the program runs.
    pub(super) fn start(&self, haar: &OwnedFd, filter: Option<&BpfProgram>) -> Result<Pid> {
        let (out, out_end) = pipe(&self.user)?;
        let (err, err_end) = pipe(&self.user)?;
        let (report, report_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step("pipe")?;
        match sys::fork(0).step("fork")? {
            Forked::Child => {
                let Err(error) = self.execute(&out_end, &err_end, filter);
                let text = serde_json::to_vec(&error).unwrap_or_default();
                let _ = rustix::io::write(&report_end, &text);
                sys::exit_now(127)
            }
            Forked::Parent(pid) => {
                drop((out_end, err_end, report_end));
                read_report(report)?;
                wire::send(haar, &FromInit::Started, &[out.as_fd(), err.as_fd()]).step("report")?;
                Pid::from_raw(pid).ok_or_else(|| Error::host("a program without a process id"))
            }
        }
    }

    /// In the child: becomes the program.
    fn execute(
        &self,
        out: &OwnedFd,
        err: &OwnedFd,
        filter: Option<&BpfProgram>,
    ) -> Result<std::convert::Infallible> {
        // The instance's own, so that not even this is a file of the host's.
        let null = std::fs::File::open("/dev/null").step("standard input")?;
        sys::redirect(&null.into(), 0).step("standard input")?;
        sys::redirect(out, 1).step("standard output")?;
        sys::redirect(err, 2).step("standard error")?;
        sys::cloexec_from(3);
        rustix::process::chdir(self.cwd.as_str()).step(format_args!("working directory {}", self.cwd))?;
        sys::reset_signals();
        filter.map_or(Ok(()), |filter| self.confine(filter))?;
        self.exec()
    }

    /// Gives up privileges, in the order in which each can still be given up.
    fn confine(&self, filter: &BpfProgram) -> Result<()> {
        let _ = rustix::process::setsid();
        confine::limit(self.pids)?;
        confine::bound()?;
        self.become_user().step("change of user")?;
        confine::drop_capabilities(if self.user.uid == 0 { Keep::Usual } else { Keep::Nothing })?;
        confine::filter(filter)
    }

    fn become_user(&self) -> std::io::Result<()> {
        let User { uid, gid, groups } = &self.user;
        if self.groups == SetGroups::Allowed {
            let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
            rustix::thread::set_thread_groups(&groups)?;
        }
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
    }

    /// Tries each path in turn, as a shell would: one that may not be executed is remembered and the search goes on.
    fn exec(&self) -> Result<std::convert::Infallible> {
        let name = self.argv.first().map(|word| word.to_string_lossy()).unwrap_or_default();
        let mut found =
            Error { kind: Kind::NotFound, message: format!("{name}: no such program in the image") };
        for path in &self.paths {
            let Err(error) = sys::exec(path, &self.argv, &self.env);
            let kind = match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => continue,
                Some(libc::EACCES) => Kind::NotExecutable,
                Some(libc::ENOEXEC | libc::ELIBBAD) => Kind::WrongFormat,
                _ => Kind::Host,
            };
            found = Error { kind, message: format!("{}: {error}", path.to_string_lossy()) };
            if kind != Kind::NotExecutable {
                break;
            }
        }
        Err(found)
    }
}

/// Where the program may be.
pub(super) fn candidates(spec: &Spec) -> Result<Vec<CString>> {
    let name = spec.argv.first().map_or("", String::as_str);
    if name.contains('/') {
        return Ok(vec![c_string(name)?]);
    }
    let path = spec.env.iter().rev().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
    path.split(':').map(|directory| c_string(&format!("{directory}/{name}"))).collect()
}

pub(super) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid("a NUL byte in argv or env"))
}

/// A pipe that belongs to the user, who may then open `/dev/stdout` as well as write to it.
fn pipe(user: &User) -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step("pipe")?;
    rustix::fs::fchown(&writer, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid))).step("pipe")?;
    Ok((reader, writer))
}

/// The pipe closes by the exec itself; if something comes, it is why there was none.
fn read_report(report: OwnedFd) -> Result<()> {
    let mut text = Vec::new();
    let mut report = std::fs::File::from(report).take(MAX_REPORT as u64);
    report.read_to_end(&mut text).step("exec")?;
    match serde_json::from_slice(&text) {
        _ if text.is_empty() => Ok(()),
        Ok(error) => Err(error),
        Err(_) => Err(Error::host("the program could not be executed")),
    }
}

/// Passes signals on and reaps until the main process has ended.
pub(super) fn watch(haar: &OwnedFd, signals: &OwnedFd, main: Pid) -> Result<()> {
    loop {
        let mut fds = [PollFd::new(haar, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        let _ = rustix::event::poll(&mut fds, None);
        if !fds[1].revents().is_empty() {
            pass_signals(signals, main);
            if let Some(status) = reap(main) {
                return wire::send(haar, &FromInit::Exited { status }, &[]).step("report");
            }
        }
        if !fds[0].revents().is_empty() {
            match wire::receive(haar).step("receive")? {
                Some((ToInit::Signal(number), _)) => signal(main, number),
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}

fn pass_signals(signals: &OwnedFd, main: Pid) {
    while let Some(number) = sys::next_signal(signals) {
        if number != libc::SIGCHLD {
            signal(main, number);
        }
    }
}

fn signal(main: Pid, number: i32) {
    if let Some(known) = Signal::from_named_raw(number) {
        let _ = rustix::process::kill_process(main, known);
    }
}

/// Reaps whatever has ended; the wait status of the main process if it is among them.
fn reap(main: Pid) -> Option<i32> {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == main {
            return Some(status.as_raw());
        }
    }
    None
}
