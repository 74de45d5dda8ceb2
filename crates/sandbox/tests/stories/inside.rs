//! What runs in an instance, when no program of the machine does it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::Command;
use std::time::Duration;

use crate::harm;

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
        ["ask-abstract", name] => println!("{}", ask_abstract(name)),
        _ => harm::run(&words),
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

fn ask_abstract(name: &str) -> String {
    let mut text = String::new();
    let connected = SocketAddr::from_abstract_name(name).and_then(|addr| UnixStream::connect_addr(&addr));
    match connected.and_then(|mut stream| stream.read_to_string(&mut text)) {
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
