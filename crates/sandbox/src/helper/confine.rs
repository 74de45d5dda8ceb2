//! What a workload is left with: few capabilities, no way to gain any, and the system calls it has a use for.
//!
//! It is root in its own user namespace at most, so what it could do with a call that is refused here is bounded by
//! that already. The filter is the second wall: it keeps workloads away from parts of the kernel that are rarely needed
//! and often wrong, much as Cloud Run's own sandbox does not have them. Calls newer than this list do not exist, so that
//! a kernel upgrade opens nothing.
//!
//! Declined: a list of what is allowed. It refuses what no one thought of in programs that no one has seen, and the
//! kernel's cache of unconditional answers makes both kinds cost the same.

use std::collections::BTreeMap;

use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

use crate::error::{Error, Result, Step};

/// The newest system call that was judged for the list below (`file_setattr`, Linux 6.17).
const NEWEST_CALL: u32 = 469;
/// How many files a program may have open at once, if the host allows as many.
const OPEN_FILES: u64 = 65_536;

/// What root inside may do to what is its own: the usual container set without raw sockets and device nodes.
fn kept() -> CapabilitySet {
    CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::KILL
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::SETPCAP
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::SETFCAP
}

/// Takes from the bounding set what no program may ever have. Needs a capability itself, so it precedes the change of
/// user.
pub(super) fn bound() -> Result<()> {
    for capability in CapabilitySet::all().difference(kept()).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(Error::host(format!("bounding set: {error}"))),
        }
    }
    Ok(())
}

/// Which capabilities a process keeps.
#[derive(Clone, Copy)]
pub(super) enum Keep {
    /// Those of root inside.
    Usual,
    /// None at all.
    Nothing,
    /// To send signals to other users' processes in its own namespace.
    Signalling,
}

/// Gives up capabilities, for good.
pub(super) fn drop_capabilities(keep: Keep) -> Result<()> {
    let set = match keep {
        Keep::Usual => kept(),
        Keep::Signalling => CapabilitySet::KILL,
        Keep::Nothing => CapabilitySet::empty(),
    };
    let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
    let _ = rustix::thread::clear_ambient_capability_set();
    rustix::thread::set_capabilities(None, sets).step("capabilities")
}

/// Limits that hold for each process.
pub(super) fn limit(pids: Option<u32>) -> Result<()> {
    // A crash is not to be handed to whatever collects the host's.
    set(Resource::Core, 0)?;
    let most = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES);
    set(Resource::Nofile, OPEN_FILES.min(most))?;
    // Counted in the user namespace; where there is no control group it is all there is against a fork bomb.
    pids.map_or(Ok(()), |pids| set(Resource::Nproc, u64::from(pids)))
}

fn set(resource: Resource, value: u64) -> Result<()> {
    let limit = Rlimit { current: Some(value), maximum: Some(value) };
    rustix::process::setrlimit(resource, limit).step("limits of a process")
}

/// Installs the filter, and forbids to gain privileges by executing, which the kernel asks for first.
pub(super) fn filter(program: &BpfProgram) -> Result<()> {
    seccompiler::apply_filter(program).map_err(|error| Error::host(format!("system call filter: {error}")))
}

/// Compiles the filter.
pub(super) fn compile() -> Result<BpfProgram> {
    let fail = |error: seccompiler::BackendError| Error::host(format!("system call filter: {error}"));
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().map_err(fail)?;
    let filter =
        SeccompFilter::new(rules().map_err(fail)?, SeccompAction::Allow, refuse, arch).map_err(fail)?;
    let mut program = absent();
    program.extend(BpfProgram::try_from(filter).map_err(fail)?);
    Ok(program)
}

/// Instructions that answer "no such call" for calls newer than the list, those of other calling conventions, and
/// `clone3`, whose flags a filter cannot see: C libraries then use `clone`.
fn absent() -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER: u16 = 0x25;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const CLONE3: u32 = 435;
    let no_such_call = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    vec![
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_GREATER, jt: 1, jf: 0, k: NEWEST_CALL },
        sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: CLONE3 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: no_such_call },
    ]
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type RuleResult<T> = std::result::Result<T, seccompiler::BackendError>;

fn rules() -> RuleResult<Rules> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(REFUSED_X86.iter().map(|call| (*call, Vec::new())));
    refuse_new_namespaces(&mut rules)?;
    refuse_device_nodes(&mut rules)?;
    refuse_rare_sockets(&mut rules)?;
    // Keystrokes put into somebody's terminal.
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        add(&mut rules, libc::SYS_ioctl, vec![equal(1, request)?])?;
    }
    // Only the question, and Linux itself.
    let domain = [0, 8, 0xffff_ffff].into_iter().map(|value| differs(0, value)).collect::<RuleResult<_>>()?;
    add(&mut rules, libc::SYS_personality, domain)?;
    Ok(rules)
}

fn refuse_new_namespaces(rules: &mut Rules) -> RuleResult<()> {
    for flag in [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ] {
        let flag = u64::from(flag.unsigned_abs());
        for call in [libc::SYS_clone, libc::SYS_unshare] {
            add(rules, call, vec![has_bits(0, flag, flag)?])?;
        }
    }
    // The time namespace shares its bit with the exit signal of `clone`.
    const NEWTIME: u64 = 0x80;
    add(rules, libc::SYS_unshare, vec![has_bits(0, NEWTIME, NEWTIME)?])
}

fn refuse_device_nodes(rules: &mut Rules) -> RuleResult<()> {
    for kind in [libc::S_IFCHR, libc::S_IFBLK] {
        let (mask, kind) = (u64::from(libc::S_IFMT), u64::from(kind));
        #[cfg(target_arch = "x86_64")]
        add(rules, libc::SYS_mknod, vec![has_bits(1, mask, kind)?])?;
        add(rules, libc::SYS_mknodat, vec![has_bits(2, mask, kind)?])?;
    }
    Ok(())
}

/// Sockets of the internet, of this machine, and to ask for interfaces; others reach the host or old code.
fn refuse_rare_sockets(rules: &mut Rules) -> RuleResult<()> {
    let usual = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let rare =
        usual.iter().map(|family| differs(0, u64::from(family.unsigned_abs()))).collect::<RuleResult<_>>()?;
    add(rules, libc::SYS_socket, rare)?;
    let netlink = u64::from(libc::AF_NETLINK.unsigned_abs());
    let route = u64::from(libc::NETLINK_ROUTE.unsigned_abs());
    add(rules, libc::SYS_socket, vec![equal(0, netlink)?, differs(2, route)?])
}

/// Refuses a call if all of `conditions` hold.
fn add(rules: &mut Rules, call: i64, conditions: Vec<SeccompCondition>) -> RuleResult<()> {
    rules.entry(call).or_default().push(SeccompRule::new(conditions)?);
    Ok(())
}

fn equal(argument: u8, value: u64) -> RuleResult<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn differs(argument: u8, value: u64) -> RuleResult<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
}

fn has_bits(argument: u8, mask: u64, value: u64) -> RuleResult<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}

/// Refused whatever their arguments.
const REFUSED: &[i64] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_setns,
    // Files by handle, past every path.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Other processes' memory and files.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    // Large or often broken parts of the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // The machine itself.
    libc::SYS_acct,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// Refused too, where they exist.
#[cfg(target_arch = "x86_64")]
const REFUSED_X86: &[i64] = &[
    libc::SYS__sysctl,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_modify_ldt,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
];

#[cfg(test)]
mod tests {
    #[test]
    fn the_filter_compiles_and_is_short_enough_to_load_quickly() {
        let program = super::compile().unwrap();
        assert!(program.len() < 800, "{} instructions", program.len());
    }
}
