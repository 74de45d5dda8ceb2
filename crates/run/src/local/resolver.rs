//! Names that are not Google's, asked of the machine's own resolvers.
//!
//! A question is passed on as it came, with a number of our own, and the answer is passed back, so every kind of record
//! is there and nothing is parsed that need not be. `/etc/resolv.conf` is read for each question: a laptop changes
//! networks. Of its options, `timeout` and `attempts` are followed; its search list is the machine's, not an instance's.
//! Declined: a cache, which the machine's resolvers have.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout, timeout_at},
};

const FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// What resolvers take at most of each.
const MAX_SERVERS: usize = 3;
const MAX_TIMEOUT: u64 = 10;
const MAX_ATTEMPTS: u32 = 4;
/// How long all attempts together may take: clients wait little longer.
const DEADLINE: Duration = Duration::from_secs(12);
/// The longest answer in a datagram that anyone sends.
const MAX_DATAGRAM: usize = 4096;
const HEADER: usize = 12;
/// Answers for which another server may know better.
const SERVER_FAILED: u8 = 2;
const REFUSED: u8 = 5;

/// How a question came, and is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Datagram,
    Stream,
}

/// Whom to ask, and how patiently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Servers {
    addresses: Vec<SocketAddr>,
    timeout: Duration,
    attempts: u32,
}

impl Servers {
    /// Those of this machine, now.
    pub(super) fn of_this_machine() -> Servers {
        Servers::parse(&std::fs::read_to_string(FILE).unwrap_or_default())
    }

    /// What the text of such a file says. Lines that are wrong count as not there; without a server, it is this machine.
    pub(super) fn parse(text: &str) -> Servers {
        let mut servers = Servers { addresses: Vec::new(), timeout: Duration::from_secs(5), attempts: 2 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => servers.add(words.next().unwrap_or_default()),
                Some("options") => words.for_each(|option| servers.set(option)),
                _ => {}
            }
        }
        if servers.addresses.is_empty() {
            servers.addresses.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        servers
    }

    fn add(&mut self, word: &str) {
        if let Ok(ip) = word.parse::<IpAddr>()
            && self.addresses.len() < MAX_SERVERS
        {
            self.addresses.push((ip, PORT).into());
        }
    }

    fn set(&mut self, option: &str) {
        match option.split_once(':').map(|(name, value)| (name, value.parse::<u32>())) {
            Some(("timeout", Ok(seconds))) => {
                self.timeout = Duration::from_secs(u64::from(seconds).clamp(1, MAX_TIMEOUT));
            }
            Some(("attempts", Ok(attempts))) => self.attempts = attempts.clamp(1, MAX_ATTEMPTS),
            _ => {}
        }
    }

    #[cfg(test)]
    pub(super) fn at(address: SocketAddr) -> Servers {
        Servers { addresses: vec![address], timeout: Duration::from_millis(200), attempts: 2 }
    }
}

/// Asks one server after the other. `query` has one question and at least a header. None when nobody answered.
pub(super) async fn ask(query: &[u8], transport: Transport, servers: &Servers) -> Option<Vec<u8>> {
    let deadline = Instant::now() + DEADLINE;
    let mut last = None;
    for _ in 0..servers.attempts {
        for server in &servers.addresses {
            let asked = ask_one(query, transport, *server);
            let until = deadline.min(Instant::now() + servers.timeout);
            match timeout_at(until, asked).await {
                Ok(Ok(reply)) if !matches!(code(&reply), SERVER_FAILED | REFUSED) => return Some(reply),
                Ok(Ok(reply)) => last = Some(reply),
                Ok(Err(_)) | Err(_) => {}
            }
            if Instant::now() >= deadline {
                return last;
            }
        }
        // A server that answers has answered: asking it again would tell the same.
        if last.is_some() {
            break;
        }
    }
    last
}

fn code(reply: &[u8]) -> u8 {
    reply.get(3).map_or(SERVER_FAILED, |byte| byte & 0x0f)
}

/// The answer of one server, with the question's own number.
async fn ask_one(query: &[u8], transport: Transport, server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut own = query.to_vec();
    let number = RandomState::new().build_hasher().finish().to_ne_bytes();
    own[..2].copy_from_slice(&number[..2]);
    let mut reply = match transport {
        Transport::Datagram => by_datagram(&own, server).await?,
        Transport::Stream => by_stream(&own, server).await?,
    };
    reply[..2].copy_from_slice(&query[..2]);
    Ok(reply)
}

async fn by_datagram(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let here: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connected, and at a port that the kernel draws: nobody else's datagrams come here.
    let socket = UdpSocket::bind((here, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut reply = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut reply).await?;
        if answers(query, &reply[..length]) {
            reply.truncate(length);
            return Ok(reply);
        }
    }
}

async fn by_stream(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = timeout(Duration::from_secs(5), TcpStream::connect(server)).await??;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut reply = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut reply).await?;
    if answers(query, &reply) { Ok(reply) } else { Err(io::Error::other("an answer to something else")) }
}

/// Whether `reply` answers `query`: the same number, and the same question, but for the case of letters. A server that
/// did not understand repeats no question.
fn answers(query: &[u8], reply: &[u8]) -> bool {
    let (Some(asked), Some(head)) = (query.get(..HEADER), reply.get(..HEADER)) else { return false };
    let is_reply = head[2] & 0x80 != 0;
    if asked[..2] != head[..2] || !is_reply {
        return false;
    }
    match (two(head, 4), question(query), question(reply)) {
        (0, _, _) => code(reply) != 0,
        (1, Some(asked), Some(answered)) => asked.eq_ignore_ascii_case(answered),
        _ => false,
    }
}

/// The bytes of the only question of a message.
fn question(message: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1 + length;
        match length {
            0 => return message.get(HEADER..at + 4),
            1..=63 => {}
            _ => return None,
        }
    }
}

fn two(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(flags: u8, name: &str) -> Vec<u8> {
        let mut message = vec![7, 9, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.extend_from_slice(&[0, 0, 1, 0, 1]);
        message
    }

    #[test]
    fn the_machine_s_file_says_whom_to_ask() {
        let servers = Servers::parse(
            "# here\nnameserver 10.0.0.1\nsearch example\nnameserver bad\nnameserver 2001:db8::1\n\
             options ndots:2 timeout:900 attempts:0\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n",
        );
        let expected = ["10.0.0.1:53", "[2001:db8::1]:53", "10.0.0.2:53"].map(|a| a.parse().unwrap());
        assert_eq!(servers.addresses, expected);
        assert_eq!((servers.timeout, servers.attempts), (Duration::from_secs(MAX_TIMEOUT), 1));
        assert_eq!(Servers::parse("").addresses, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn only_the_answer_to_a_question_answers_it() {
        let query = message(1, "example.com");
        assert!(answers(&query, &message(0x81, "EXAMPLE.com")));
        assert!(!answers(&query, &message(1, "example.com")), "a question");
        assert!(!answers(&query, &message(0x81, "example.org")));
        let mut other = message(0x81, "example.com");
        other[0] = 8;
        assert!(!answers(&query, &other), "another number");
        let failed = [7, 9, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(answers(&query, &failed));
    }

    #[tokio::test]
    async fn a_server_that_answers_late_or_to_others_is_waited_for() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let servers = Servers::at(server.local_addr().unwrap());
        let serve = async {
            let mut query = [0; 512];
            // The first is lost.
            server.recv_from(&mut query).await.unwrap();
            let (length, from) = server.recv_from(&mut query).await.unwrap();
            server.send_to(b"noise", from).await.unwrap();
            query[2] |= 0x80;
            server.send_to(&query[..length], from).await.unwrap();
        };
        let query = message(1, "example.com");
        let (reply, ()) = tokio::join!(ask(&query, Transport::Datagram, &servers), serve);
        assert_eq!(reply.unwrap(), message(0x81, "example.com"));
        drop(server);
        assert_eq!(ask(&query, Transport::Datagram, &servers).await, None);
    }

    proptest! {
        #[test]
        fn no_file_and_no_answer_breaks_it(
            text in "(nameserver|options|search)?( |:|[0-9a-z.:]){0,40}\n?.{0,40}",
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            prop_assert!(!Servers::parse(&text).addresses.is_empty());
            let _ = answers(&message(1, "example.com"), &bytes);
            let _ = answers(&bytes, &bytes);
        }
    }
}
