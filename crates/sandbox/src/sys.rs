//! The few system calls that no safe wrapper covers, each a function as narrow as its callers allow.
//!
//! Everything that `rustix` offers safely is called there, by the caller. What is left is what can break Rust's own
//! promises: a second process that comes out of a fork, a signal mask, a pointer handed to the kernel. Nothing in
//! here decides anything.
#![allow(unsafe_code)]

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::thread::UnshareFlags;
use tokio::io::unix::AsyncFd;

/// Which of the two processes a fork returned in.
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The old one, with the new one's id as seen from here.
    Parent(i32),
}

/// Forks, giving the child new namespaces of the kinds in `flags` (0 for none; `CLONE_NEWPID` makes it process 1).
///
/// To be called from single-threaded helpers only: the child gets a copy of one thread, so a lock held by another
/// thread would stay locked for ever.
pub(crate) fn fork(flags: i32) -> io::Result<Forked> {
    debug_assert_eq!(threads(), 1, "a helper is single-threaded");
    // SAFETY: the caller is single-threaded (checked above in debug builds, true by construction: helpers start no
    // thread), so no lock is held by a thread that the child lacks. A null stack makes clone behave as fork, with a
    // copied address space; no pointer is shared.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone, i64::from(flags | libc::SIGCHLD), 0usize, 0usize, 0usize, 0usize)
    };
    match pid {
        0 => Ok(Forked::Child),
        pid if pid > 0 => Ok(Forked::Parent(i32::try_from(pid).map_err(io::Error::other)?)),
        _ => Err(io::Error::last_os_error()),
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Drops pages of a mapping of a file from this process's page tables. They are read from the file when used again.
///
/// The mapping must be the running program's own, which stays as long as the process, and hold nothing but the file's
/// content.
pub(crate) fn let_go_of_file_pages(start: usize, end: usize) -> io::Result<()> {
    let address = std::ptr::with_exposed_provenance_mut::<std::ffi::c_void>(start);
    // SAFETY: the kernel replaces what is mapped there by what is mapped there: the same pages of the same file. The
    // file cannot be opened for writing while it runs, and nobody unmaps the program.
    match unsafe { libc::madvise(address, end - start, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves the calling process into new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the danger is `FILES`, by which descriptors that other threads hold would no longer be theirs; callers
    // are single-threaded helpers and never pass it.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// What to do to a detached mount before it is attached anywhere.
#[derive(Clone, Copy, Default)]
pub(crate) struct MountChange<'a> {
    /// `MOUNT_ATTR_*` bits to set.
    pub(crate) set: u64,
    /// Show the files' owners through this user namespace.
    pub(crate) idmap: Option<BorrowedFd<'a>>,
    /// Whether mounts below are changed too.
    pub(crate) recursive: bool,
}

/// Changes the mount that `tree` refers to.
pub(crate) fn mount_setattr(tree: BorrowedFd<'_>, change: MountChange<'_>) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: change.set | change.idmap.map_or(0, |_| libc::MOUNT_ATTR_IDMAP),
        attr_clr: 0,
        propagation: 0,
        userns_fd: change.idmap.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
    };
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static C string, `attr` outlives the call and its size is the one passed; both
    // descriptors are borrowed for the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Blocks every signal and returns a descriptor that becomes readable when one of `signals` is pending.
pub(crate) fn signals_as_file(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the sets are plain data that the calls fill; `sigfillset` initialises every bit before use.
    let fd = unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        let mut wanted = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut wanted);
        for signal in signals {
            libc::sigaddset(&raw mut wanted, *signal);
        }
        libc::signalfd(-1, &raw const wanted, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next pending signal of a descriptor made by [`signals_as_file`].
pub(crate) fn next_signal(file: &OwnedFd) -> Option<i32> {
    let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(file, &mut info) {
        // The first field of the structure is the signal's number.
        Ok(n) if n == info.len() => Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])),
        _ => None,
    }
}

/// Unblocks all signals and gives each its default action, as a program expects to find them.
pub(crate) fn reset_signals() {
    // SAFETY: `SIG_DFL` installs no handler, and the set is initialised before it is used. Failures (for signals
    // that cannot be changed) are without consequence.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Replaces the process by `program`; returns only what went wrong.
pub(crate) fn exec(program: &CStr, argv: &[CString], env: &[CString]) -> Result<Infallible, io::Error> {
    let argv = pointers(argv);
    let env = pointers(env);
    // SAFETY: both arrays end with a null pointer and hold pointers into C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Err(io::Error::last_os_error())
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Marks every descriptor from `first` on to be closed by the next exec.
pub(crate) fn cloexec_from(first: u32) {
    // SAFETY: no descriptor is closed, only flagged; owners in this process keep theirs. On kernels without the call
    // it fails, and what we opened is flagged already.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Closes every descriptor from `first` on. For the first lines of a helper, before it owns any.
pub(crate) fn close_from(first: u32) {
    // SAFETY: called before anything in this process has wrapped a descriptor at or above `first`, so none of them
    // has an owner that would use it later.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Takes over a descriptor that this process inherited at a known number.
pub(crate) fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the number was agreed with the process that executed us, and only `entry` calls this, once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Makes descriptor `number` (one of the three standard ones) a copy of `fd`.
pub(crate) fn redirect(fd: &OwnedFd, number: i32) -> io::Result<()> {
    // SAFETY: the standard descriptors have no owner in a helper, so none loses what it holds.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ends the process at once, running no destructors: a forked helper shares them with its parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` does not return and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Has the calling runtime watch a descriptor.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, is the same number for as long as it lives, and is moved into the result, which
    // crate-wide is only ever borrowed shared, so nobody can put another in its place.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}
