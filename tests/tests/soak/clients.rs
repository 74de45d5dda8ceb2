//! The traffic: short requests on new connections and on kept ones, with and without bodies, streams, WebSockets.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::{Dice, Soak, ledger::Request};

/// How many clients ask at once.
pub(super) const COUNT: u64 = 10;
/// Longer than anything takes that is going to be answered, haar's restarts and cold starts included.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a request ends if not with the right answer.
pub(super) type Failure = String;

pub(super) fn ask_until_over(soak: &Soak, client: u64, mut dice: Dice) {
    let mut kept = None;
    let mut ended = soak.now();
    for number in 0.. {
        if soak.is_over() {
            return;
        }
        let identity = format!("c{client}n{number}");
        // A kept connection may have ended since the last request on it.
        let begun = if kept.is_some() { ended } else { soak.now() };
        let (outcome, is_safe) = match client {
            0..5 => (fresh(soak, &identity), true),
            5 => (on_a_kept_connection(soak, &mut kept, &identity), true),
            6 => (upload(soak, &identity, dice.roll(300_000) as usize), false),
            7..9 => (stream(soak, &identity, 5 + dice.roll(20)), true),
            _ => (talk(soak, &identity, 5 + dice.roll(30)), true),
        };
        ended = soak.now();
        let request = Request { identity, begun, ended, is_safe, outcome };
        soak.requests.lock().expect("no client panicked").push(request);
        dice.pause(10, 70);
    }
}

/// A connection. That it is refused is never right: it is told apart from all else.
fn connect(soak: &Soak) -> Result<BufReader<TcpStream>, Failure> {
    let stream = TcpStream::connect(soak.haar.listen()).map_err(|error| format!("REFUSED: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    stream.set_nodelay(true).map_err(told)?;
    Ok(BufReader::new(stream))
}

fn told(error: io::Error) -> Failure {
    error.to_string()
}

fn fresh(soak: &Soak, identity: &str) -> Result<(), Failure> {
    exchange(&mut connect(soak)?, soak, identity, &[])
}

fn upload(soak: &Soak, identity: &str, length: usize) -> Result<(), Failure> {
    exchange(&mut connect(soak)?, soak, identity, &vec![b'x'; length])
}

fn on_a_kept_connection(
    soak: &Soak,
    kept: &mut Option<BufReader<TcpStream>>,
    identity: &str,
) -> Result<(), Failure> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => connect(soak)?,
    };
    exchange(&mut stream, soak, identity, &[])?;
    *kept = Some(stream);
    Ok(())
}

fn exchange(
    stream: &mut BufReader<TcpStream>,
    soak: &Soak,
    identity: &str,
    body: &[u8],
) -> Result<(), Failure> {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let (host, length) = (&soak.host, body.len());
    let head =
        format!("{method} /short/{identity} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
    stream.get_mut().write_all(&[head.as_bytes(), body].concat()).map_err(told)?;
    let answer = answer(stream)?;
    let expected = format!("{identity} {length} ");
    answer
        .starts_with(&expected)
        .then_some(())
        .ok_or_else(|| format!("WRONG: {answer:?} is not {expected:?}"))
}

fn stream(soak: &Soak, identity: &str, lines: u64) -> Result<(), Failure> {
    let mut stream = connect(soak)?;
    write!(stream.get_mut(), "GET /stream/{identity}/{lines}/40 HTTP/1.1\r\nHost: {}\r\n\r\n", soak.host)
        .map_err(told)?;
    let answer = answer(&mut stream)?;
    let numbers: Vec<&str> =
        answer.lines().filter_map(|line| line.strip_prefix(identity)?.split(' ').nth(1)).collect();
    let expected: Vec<String> = (0..lines).map(|line| line.to_string()).collect();
    (numbers == expected).then_some(()).ok_or_else(|| format!("WRONG: {answer:?}"))
}

/// Says something some times over a WebSocket, hears it each time, and takes its leave.
fn talk(soak: &Soak, identity: &str, times: u64) -> Result<(), Failure> {
    let mut stream = connect(soak)?;
    let handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    write!(stream.get_mut(), "GET /socket/{identity} HTTP/1.1\r\nHost: {}\r\n{handshake}\r\n\r\n", soak.host)
        .map_err(told)?;
    let head = head(&mut stream)?;
    if head.status != 101 {
        return Err(format!("{}", head.status));
    }
    for time in 0..times {
        say(&mut stream, 0x81, &format!("{identity} {time}"))?;
        std::thread::sleep(Duration::from_millis(40));
    }
    say(&mut stream, 0x88, "")
}

/// Sends a frame, and insists on having it back.
fn say(stream: &mut BufReader<TcpStream>, kind: u8, text: &str) -> Result<(), Failure> {
    // The mask of nothing changes nothing.
    let frame = [&[kind, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
    stream.get_mut().write_all(&frame).map_err(told)?;
    let mut heard = vec![0; 2 + text.len()];
    stream.read_exact(&mut heard).map_err(told)?;
    let expected = [&[kind, text.len() as u8], text.as_bytes()].concat();
    (heard == expected).then_some(()).ok_or_else(|| format!("WRONG: heard {heard:?}"))
}

struct Head {
    status: u16,
    length: Option<usize>,
    is_chunked: bool,
}

fn head(stream: &mut BufReader<TcpStream>) -> Result<Head, Failure> {
    let first = line(stream)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut head =
        Head { status: status.ok_or_else(|| format!("WRONG: {first:?}"))?, length: None, is_chunked: false };
    loop {
        let line = line(stream)?.to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", length)) => head.length = length.parse().ok(),
            Some(("transfer-encoding", "chunked")) => head.is_chunked = true,
            Some(_) => {}
            None => return Ok(head),
        }
    }
}

fn line(stream: &mut BufReader<TcpStream>) -> Result<String, Failure> {
    let mut line = String::new();
    match stream.read_line(&mut line).map_err(told)? {
        0 => Err("closed".into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

/// The whole body of an answer, which must be of success.
fn answer(stream: &mut BufReader<TcpStream>) -> Result<String, Failure> {
    let head = head(stream)?;
    let body = body(stream, &head)?;
    match head.status {
        200 => Ok(body),
        status => Err(format!("{status} {}", body.trim_end())),
    }
}

fn body(stream: &mut BufReader<TcpStream>, head: &Head) -> Result<String, Failure> {
    let mut whole = Vec::new();
    let mut take = |stream: &mut BufReader<TcpStream>, length: usize| {
        let from = whole.len();
        whole.resize(from + length, 0);
        stream.read_exact(&mut whole[from..]).map_err(told)
    };
    match head.length {
        Some(length) => take(stream, length)?,
        None if head.is_chunked => loop {
            let length = line(stream)?;
            let length =
                usize::from_str_radix(&length, 16).map_err(|_| format!("WRONG: chunk {length:?}"))?;
            take(stream, length)?;
            line(stream)?;
            if length == 0 {
                break;
            }
        },
        None => return Err("WRONG: no framing".into()),
    }
    String::from_utf8(whole).map_err(|error| format!("WRONG: {error}"))
}
