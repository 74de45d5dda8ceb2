//! What runs in an instance, when no program of the machine does it.
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

pub(crate) fn run(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", port, text] => serve("127.0.0.1", port.parse().unwrap(), text),
        ["serve-all", port, text] => serve("0.0.0.0", port.parse().unwrap(), text),
        ["ask", addr] => println!("{}", ask(addr)),
        ["await", addr] => while TcpStream::connect(addr).is_err() {},
        ["ask-udp", addr] => println!("{}", ask_udp(addr)),
        ["send-udp", addr] => println!("{}", send_udp(addr)),
        ["ask-unix", path] => println!("{}", ask_unix(path)),
        ["eat", bytes] => eat(bytes.parse().unwrap()),
        ["bomb"] => bomb(),
        ["attempts"] => attempts(),
        _ => panic!("unknown: {words:?}"),
    }
}

fn serve(ip: &str, port: u16, text: &str) {
    let listener = TcpListener::bind((ip, port)).unwrap();
    println!("listening");
    for stream in listener.incoming() {
        let _ = stream.unwrap().write_all(text.as_bytes());
    }
}

fn ask(addr: &str) -> String {
    let mut text = String::new();
    match TcpStream::connect(addr).and_then(|mut stream| stream.read_to_string(&mut text)) {
        Ok(_) => text,
        Err(error) => error.kind().to_string(),
    }
}

fn ask_unix(path: &str) -> String {
    let mut text = String::new();
    match UnixStream::connect(path).and_then(|mut stream| stream.read_to_string(&mut text)) {
        Ok(_) => text,
        Err(error) => error.kind().to_string(),
    }
}

fn ask_udp(addr: &str) -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"question", addr).unwrap();
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// What becomes of a datagram that nobody takes.
fn send_udp(addr: &str) -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sent = socket.connect(addr).and_then(|()| socket.send(b"question"));
    sent.and_then(|_| socket.recv(&mut [0; 64])).unwrap_err().kind().to_string()
}

fn eat(bytes: usize) {
    let mut all = Vec::new();
    for _ in 0..bytes >> 20 {
        all.push(vec![1_u8; 1 << 20]);
    }
    println!("ate {}", all.len());
}

/// Starts processes until it is stopped from doing so, and says how many there were.
fn bomb() {
    let mut children = Vec::new();
    let error = loop {
        match Command::new("/usr/bin/sleep").arg("60").spawn() {
            Ok(child) => children.push(child),
            Err(error) => break error,
        }
    };
    println!("{} {}", children.len(), error.kind());
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
        tell("route-socket", socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE));
    }
}
