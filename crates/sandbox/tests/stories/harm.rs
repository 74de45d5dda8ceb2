//! What runs in an instance and means harm.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};

pub(crate) fn run(words: &[&str]) {
    match words[..] {
        ["attempts"] => attempts(),
        ["other-calls"] => other_calls(),
        ["hoard", what] => hoard(what),
        ["fill-sockets"] => fill_sockets(),
        ["fill-files", directory] => fill_files(directory),
        _ => panic!("unknown: {words:?}"),
    }
}

/// Tries what a workload has no business with, and prints each with the error it got.
fn attempts() {
    let tell = |name: &str, result: i64| {
        let error = if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 };
        println!("{name}={error}");
    };
    // SAFETY: the calls take numbers, null pointers and static strings; all are expected to be refused.
    unsafe {
        let null = std::ptr::null::<u8>();
        let call = |number, a: i64, b: i64| libc::syscall(number, a, b, 0_i64, 0_i64, 0_i64);
        tell(
            "mount",
            libc::syscall(libc::SYS_mount, c"none".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, null),
        );
        tell("umount", libc::syscall(libc::SYS_umount2, c"/proc".as_ptr(), libc::MNT_DETACH));
        tell(
            "mknod",
            libc::syscall(libc::SYS_mknodat, libc::AT_FDCWD, c"/tmp/d".as_ptr(), libc::S_IFBLK, 0x801),
        );
        tell("ptrace", call(libc::SYS_ptrace, i64::from(libc::PTRACE_ATTACH), 1));
        tell("unshare", call(libc::SYS_unshare, i64::from(libc::CLONE_NEWUSER), 0));
        tell("clone", call(libc::SYS_clone, i64::from(libc::CLONE_NEWUSER | libc::SIGCHLD), 0));
        tell("clone3", call(libc::SYS_clone3, 0, 0));
        tell("bpf", call(libc::SYS_bpf, 0, 0));
        tell("keyctl", call(libc::SYS_keyctl, 0, -3));
        tell("io_uring", call(libc::SYS_io_uring_setup, 1, 0));
        tell("perf", call(libc::SYS_perf_event_open, 0, 0));
        tell("future", call(2000, 0, 0));
        let socket = |family, kind, protocol| i64::from(libc::socket(family, kind, protocol));
        tell("raw", socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP));
        tell("packet", socket(libc::AF_PACKET, libc::SOCK_RAW, 0));
        tell("vsock", socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0));
        tell("alg", socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0));
        tell("netfilter", socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER));
        tell("sethostname", i64::from(libc::sethostname(c"x".as_ptr(), 1)));
        tell("init-memory", i64::from(libc::open(c"/proc/1/mem".as_ptr(), libc::O_RDONLY)));
        tell("init-root", i64::from(libc::open(c"/proc/1/root".as_ptr(), libc::O_RDONLY)));
        tell("init-exe", i64::from(libc::open(c"/proc/1/exe".as_ptr(), libc::O_RDONLY)));
        tell("init-fds", i64::from(libc::open(c"/proc/1/fd".as_ptr(), libc::O_RDONLY)));
        tell("init-environment", i64::from(libc::open(c"/proc/1/environ".as_ptr(), libc::O_RDONLY)));
        tell("init-mappings", i64::from(libc::open(c"/proc/1/maps".as_ptr(), libc::O_RDONLY)));
        tell("init-namespace", i64::from(libc::open(c"/proc/1/ns/mnt".as_ptr(), libc::O_RDONLY)));
        for (name, number) in [
            ("add_key", libc::SYS_add_key),
            ("request_key", libc::SYS_request_key),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("process_vm_readv", libc::SYS_process_vm_readv),
            ("process_vm_writev", libc::SYS_process_vm_writev),
            ("pidfd_getfd", libc::SYS_pidfd_getfd),
            ("kcmp", libc::SYS_kcmp),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
            ("name_to_handle_at", libc::SYS_name_to_handle_at),
            ("setns", libc::SYS_setns),
            ("pivot_root", libc::SYS_pivot_root),
            ("open_tree", libc::SYS_open_tree),
            ("move_mount", libc::SYS_move_mount),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("fsopen", libc::SYS_fsopen),
            ("io_uring_enter", libc::SYS_io_uring_enter),
            ("io_uring_register", libc::SYS_io_uring_register),
            ("fanotify", libc::SYS_fanotify_init),
            ("init_module", libc::SYS_init_module),
            ("finit_module", libc::SYS_finit_module),
            ("delete_module", libc::SYS_delete_module),
            ("kexec_load", libc::SYS_kexec_load),
            ("kexec_file_load", libc::SYS_kexec_file_load),
            ("reboot", libc::SYS_reboot),
            ("syslog", libc::SYS_syslog),
            ("swapon", libc::SYS_swapon),
            ("acct", libc::SYS_acct),
            ("quotactl", libc::SYS_quotactl),
            ("settimeofday", libc::SYS_settimeofday),
            ("clock_settime", libc::SYS_clock_settime),
            ("personality", libc::SYS_personality),
        ] {
            tell(name, call(number, 0x4, 0));
        }
        tell("inject-keystroke", i64::from(libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr())));
        tell("raise-limit", raise_limit());
        tell("raise-priority", i64::from(libc::setpriority(libc::PRIO_PROCESS, 0, -20)));
        tell("route-socket", socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE));
    }
}

/// Tries to be allowed more open files.
fn raise_limit() -> i64 {
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    // SAFETY: the limit is read only, and lives as long as the call.
    unsafe { i64::from(libc::setrlimit(libc::RLIMIT_NOFILE, &limit)) }
}

/// Makes calls by the numbers of other kinds of programs, for which a filter might not have been written.
fn other_calls() {
    // SAFETY: these calls take no pointers.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        // `unshare`, numbered for programs with short pointers.
        let result = libc::syscall(0x4000_0000 | libc::SYS_unshare, libc::CLONE_NEWUSER);
        println!("x32={result} {}", std::io::Error::last_os_error().raw_os_error().unwrap());
        std::io::stdout().flush().unwrap();
        // `getpid` as programs of 32 bits call it.
        let mut number: i64 = 20;
        std::arch::asm!("int 0x80", inout("rax") number);
        println!("i386={number}");
    }
}

/// Takes of one thing until there is no more for it, and says how many there were. All are held until the end.
fn hoard(what: &str) {
    let mut held: Vec<OwnedFd> = Vec::new();
    // SAFETY: each call makes a new descriptor or none.
    let make = || unsafe {
        match what {
            "files" => libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY),
            "watches" => libc::inotify_init1(0),
            "terminals" => libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY),
            _ => panic!("hoard what? {what}"),
        }
    };
    let error = loop {
        match make() {
            -1 => break std::io::Error::last_os_error(),
            // SAFETY: it has just been opened and is nobody else's.
            fd => held.push(unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    };
    println!("{} {}", held.len(), error.raw_os_error().unwrap());
}

/// How many connections are filled.
pub(crate) const CONNECTIONS: usize = 1000;

/// Sends to itself over the loopback what nobody reads, until connection after connection is full. Says how many MiB.
fn fill_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut held, mut sent) = (Vec::new(), 0);
    for _ in 0..CONNECTIONS {
        let Ok(mut stream) = TcpStream::connect(listener.local_addr().unwrap()) else { break };
        let Ok((reader, _)) = listener.accept() else { break };
        stream.set_nonblocking(true).unwrap();
        while let Ok(written @ 1..) = stream.write(&[1; 1 << 16]) {
            sent += written;
        }
        held.push((stream, reader));
    }
    println!("{}", sent >> 20);
}

/// Makes files without content, whose names and nodes are memory too.
fn fill_files(directory: &str) {
    let mut made = 0;
    while File::create(format!("{directory}/{made:0200}")).is_ok() {
        made += 1;
        if made % 1000 == 0 {
            println!("{made}");
        }
    }
    println!("full at {made}");
}
