//! The name server of instances.
//!
//! Google's names lead to us, and so do domains that are mapped to services. All others are asked of the machine's
//! resolvers, or do not exist where instances have no way out. Only what resolvers send is understood: one question
//! without compression (RFC 1035, section 4). Nothing has an IPv6 address, since none could be reached; to be told so at
//! once spares clients the try.

use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::{
    GOOGLE, METADATA,
    outward::Outside,
    resolver::{self, Servers, Transport},
};

/// Names that lead to Google's APIs, with all that ends in `.` and one of them.
const ZONES: [&str; 7] = [
    "googleapis.com",
    "pkg.dev",
    "gcr.io",
    "run.app",
    "run.localhost",
    "accounts.google.com",
    "cloud.google.com",
];
/// How long an answer may be remembered, in seconds.
const TTL: u32 = 300;
/// The same for a name that a proxy resolves, or that leads to us only for as long as somebody wants it to.
const BRIEF_TTL: u32 = 60;
/// Names that are nobody's to resolve but the network's own (RFC 6761 and 9476): they are not asked outside.
const LOCAL: [&str; 4] = ["internal", "localhost", "local", "invalid"];
/// Questions of one instance that are with the machine's resolvers at a time.
const MAX_ASKED: usize = 64;
/// The longest query that is read.
const MAX_QUERY: usize = 1500;
/// Connections at a time, and how long one may be silent.
const MAX_CONNECTIONS: usize = 16;
const SILENCE: Duration = Duration::from_secs(5);

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_ANY: u16 = 255;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

/// How a query is answered, as header fields number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Fine = 0,
    Malformed = 1,
    ServerFailed = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// Whether a name that is not Google's leads to us.
pub(super) type LeadsHere = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Answers until it is dropped. Other names exist if there is an outside.
pub(super) async fn serve(
    udp: Option<UdpSocket>,
    tcp: Option<TcpListener>,
    leads_here: LeadsHere,
    outside: Option<Arc<Outside>>,
) {
    let names = Arc::new(Names { leads_here, outside, asking: Semaphore::new(MAX_ASKED) });
    tokio::join!(serve_datagrams(udp, names.clone()), serve_streams(tcp, names));
}

async fn serve_datagrams(socket: Option<UdpSocket>, names: Arc<Names>) {
    let Some(socket) = socket.map(Arc::new) else { return };
    let mut query = [0; MAX_QUERY];
    let mut asked = JoinSet::new();
    // An error is about one datagram; a program that is gone does not want its answer.
    loop {
        while asked.try_join_next().is_some() {}
        let Ok((length, from)) = socket.recv_from(&mut query).await else {
            tokio::task::yield_now().await;
            continue;
        };
        match names.answer(&query[..length]) {
            Answer::None => {}
            Answer::Now(answer) => drop(socket.send_to(&answer, from).await),
            Answer::Asked => {
                let (query, socket, names) = (query[..length].to_vec(), socket.clone(), names.clone());
                asked.spawn(async move {
                    let answer = names.ask(&query, Transport::Datagram).await;
                    let _ = socket.send_to(&answer, from).await;
                });
            }
        }
    }
}

async fn serve_streams(listener: Option<TcpListener>, names: Arc<Names>) {
    let Some(listener) = listener else { return };
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(converse(stream, names.clone()))),
            // Out of descriptors, most likely.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Queries over a stream: each is preceded by its length.
async fn converse(mut stream: TcpStream, names: Arc<Names>) -> io::Result<()> {
    let mut query = [0; MAX_QUERY];
    loop {
        let length = usize::from(timeout(SILENCE, stream.read_u16()).await??);
        let Some(query) = query.get_mut(..length) else { return Ok(()) };
        timeout(SILENCE, stream.read_exact(query)).await??;
        let answer = match names.answer(query) {
            Answer::None => return Ok(()),
            Answer::Now(answer) => answer,
            Answer::Asked => names.ask(query, Transport::Stream).await,
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        timeout(SILENCE, stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())).await??;
    }
}

/// What there is to say to a query.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing: it is no query at all.
    None,
    /// This.
    Now(Vec<u8>),
    /// What the machine's resolvers say.
    Asked,
}

/// The names of one instance.
struct Names {
    leads_here: LeadsHere,
    outside: Option<Arc<Outside>>,
    asking: Semaphore,
}

impl Names {
    fn answer(&self, query: &[u8]) -> Answer {
        let Some(header) = query.get(..HEADER) else { return Answer::None };
        let is_answer = header[2] & 0x80 != 0;
        if is_answer {
            return Answer::None;
        }
        if header[2] & 0x78 != 0 {
            return Answer::Now(reply(header, &[], Code::NotImplemented, None));
        }
        let Some(question) = Question::read(query) else {
            return Answer::Now(reply(header, &[], Code::Malformed, None));
        };
        match question.decide() {
            (Code::NoSuchName, None) => self.answer_foreign(header, &question),
            (code, address) => Answer::Now(reply(header, question.bytes, code, address.map(lasting))),
        }
    }

    fn answer_foreign(&self, header: &[u8], question: &Question<'_>) -> Answer {
        let now = |code, address| Answer::Now(reply(header, question.bytes, code, address));
        if (self.leads_here)(&question.name) {
            let address = matches!(question.kind, TYPE_A | TYPE_ANY).then_some((GOOGLE, BRIEF_TTL));
            return now(Code::Fine, address);
        }
        let Some(outside) = self.outside.as_ref().filter(|_| question.is_of_the_world()) else {
            return now(Code::NoSuchName, None);
        };
        match question.kind {
            TYPE_AAAA => now(Code::Fine, None),
            kind if outside.way.needs_name(&question.name) => {
                let address = (kind == TYPE_A).then(|| (outside.placeholder(&question.name), BRIEF_TTL));
                now(Code::Fine, address)
            }
            _ => Answer::Asked,
        }
    }

    /// What the machine's resolvers say to a query that was read before.
    async fn ask(&self, query: &[u8], transport: Transport) -> Vec<u8> {
        let failed = || {
            let question = Question::read(query).map_or(&[][..], |question| question.bytes);
            reply(&query[..HEADER], question, Code::ServerFailed, None)
        };
        let Ok(_permit) = self.asking.try_acquire() else { return failed() };
        let servers = Servers::of_this_machine();
        resolver::ask(query, transport, &servers).await.unwrap_or_else(failed)
    }
}

fn lasting(address: Ipv4Addr) -> (Ipv4Addr, u32) {
    (address, TTL)
}

/// What is asked.
struct Question<'a> {
    /// As it came, to be repeated in the answer.
    bytes: &'a [u8],
    /// In lower case, without the final dot.
    name: String,
    kind: u16,
    class: u16,
}

impl<'a> Question<'a> {
    fn read(query: &'a [u8]) -> Option<Question<'a>> {
        if query.get(4..6)? != [0, 1] {
            return None;
        }
        let mut name = String::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*query.get(at)?);
            let label = query.get(at + 1..at + 1 + length)?;
            at += 1 + length;
            if length == 0 {
                break;
            }
            // Longer ones are compression, which a question has no use for.
            if length > 63 || at - HEADER > 254 {
                return None;
            }
            push(&mut name, label);
        }
        let fields = query.get(at..at + 4)?;
        let (kind, class) = (two(fields, 0), two(fields, 2));
        Some(Question { bytes: &query[HEADER..at + 4], name, kind, class })
    }

    /// Whether anyone outside could know of it: a name of several labels that are all a host's, and not of a network
    /// like ours. A byte that no host name has stays in here.
    fn is_of_the_world(&self) -> bool {
        let last = self.name.rsplit('.').next().unwrap_or_default();
        self.name.contains('.') && !self.name.contains('?') && !LOCAL.contains(&last)
    }

    fn decide(&self) -> (Code, Option<Ipv4Addr>) {
        if !matches!(self.class, CLASS_IN | CLASS_ANY) {
            return (Code::Refused, None);
        }
        match find(&self.name) {
            None => (Code::NoSuchName, None),
            Some(address) if matches!(self.kind, TYPE_A | TYPE_ANY) => (Code::Fine, Some(address)),
            // The name is there; it has nothing of this kind, such as an IPv6 address.
            Some(_) => (Code::Fine, None),
        }
    }
}

/// Adds a label in lower case. A byte that no host name has becomes one that matches nothing of ours.
fn push(name: &mut String, label: &[u8]) {
    if !name.is_empty() {
        name.push('.');
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.extend(label.iter().map(|byte| if plain(byte) { byte.to_ascii_lowercase() as char } else { '?' }));
}

fn two(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Where a name leads.
fn find(name: &str) -> Option<Ipv4Addr> {
    if matches!(name, "metadata.google.internal" | "metadata") {
        return Some(METADATA);
    }
    let is_in =
        |zone: &str| name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    ZONES.iter().any(|zone| is_in(zone)).then_some(GOOGLE)
}

/// An answer of ours, with an address and for how long it may be remembered.
fn reply(header: &[u8], question: &[u8], code: Code, address: Option<(Ipv4Addr, u32)>) -> Vec<u8> {
    let mut reply = Vec::with_capacity(HEADER + question.len() + 16);
    reply.extend_from_slice(&header[..2]);
    // An answer with authority, recursion desired if it was; recursion available, for resolvers that insist.
    reply.extend_from_slice(&[0x84 | header[2] & 0x01, 0x80 | code as u8]);
    let counts = [u16::from(!question.is_empty()), u16::from(address.is_some()), 0, 0];
    counts.iter().for_each(|count| reply.extend_from_slice(&count.to_be_bytes()));
    reply.extend_from_slice(question);
    if let Some((address, ttl)) = address {
        // The name is the question's, 12 bytes from the start.
        reply.extend_from_slice(&[0xc0, 12]);
        [TYPE_A, CLASS_IN].iter().for_each(|field| reply.extend_from_slice(&field.to_be_bytes()));
        reply.extend_from_slice(&ttl.to_be_bytes());
        reply.extend_from_slice(&[0, 4]);
        reply.extend_from_slice(&address.octets());
    }
    reply
}

#[cfg(test)]
mod tests {
    use kernel::BoxFuture;
    use proptest::prelude::*;

    use super::{
        super::way::{Pipe, Target, Way},
        *,
    };

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.push(0);
        query.extend_from_slice(&kind.to_be_bytes());
        query.extend_from_slice(&CLASS_IN.to_be_bytes());
        query
    }

    /// What is answered without asking anyone, in a world without an outside.
    fn answer(query: &[u8]) -> Option<Vec<u8>> {
        match within(None).answer(query) {
            Answer::Now(answer) => Some(answer),
            Answer::None => None,
            Answer::Asked => panic!("nobody is there to ask"),
        }
    }

    fn within(outside: Option<Outside>) -> Names {
        let leads_here = Arc::new(|name: &str| name == "www.example.org");
        Names { leads_here, outside: outside.map(Arc::new), asking: Semaphore::new(MAX_ASKED) }
    }

    /// A proxy for one domain.
    struct Proxy;

    impl Way for Proxy {
        fn needs_name(&self, host: &str) -> bool {
            host.ends_with("example.org")
        }

        fn dial(&self, _: Target) -> BoxFuture<'static, io::Result<Box<dyn Pipe>>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }
    }

    #[test]
    fn names_of_the_world_are_asked_of_others() {
        let names = within(Some(Outside::new(Arc::new(Proxy), ([127, 0, 0, 1], 4560).into())));
        let code = |name: &str, kind| match names.answer(&query(name, kind)) {
            Answer::Now(answer) => Some((answer[3] & 0x0f, two(&answer, 6))),
            Answer::Asked => None,
            Answer::None => panic!("no query"),
        };
        const TYPE_TXT: u16 = 16;
        assert_eq!(code("example.com", TYPE_A), None);
        assert_eq!(code("example.com", TYPE_TXT), None);
        assert_eq!(code("example.com", TYPE_AAAA), Some((0, 0)));
        assert_eq!(code("gcr.io", TYPE_A), Some((0, 1)));
        for name in ["db.google.internal", "db", "printer.local", "a.localhost", "a b.example", ""] {
            assert_eq!(code(name, TYPE_A), Some((3, 0)), "{name}");
        }
        // What a proxy resolves has an address at once, and nothing else.
        assert_eq!(code("www.example.org", TYPE_A), Some((0, 1)));
        assert_eq!(code("www.example.org", TYPE_TXT), Some((0, 0)));
    }

    fn ask(name: &str, kind: u16) -> (u8, Option<Ipv4Addr>) {
        let query = query(name, kind);
        let answer = answer(&query).unwrap();
        assert_eq!(answer[..3], [0xab, 0xcd, 0x85]);
        assert_eq!(answer[HEADER..query.len()], query[HEADER..]);
        let address = (two(&answer, 6) == 1)
            .then(|| <[u8; 4]>::try_from(&answer[answer.len() - 4..]).map(Ipv4Addr::from).unwrap());
        (answer[3] & 0x0f, address)
    }

    #[test]
    fn google_s_names_lead_to_us_and_others_nowhere() {
        for name in ["metadata.google.internal", "Metadata.Google.Internal", "metadata"] {
            assert_eq!(ask(name, TYPE_A), (0, Some(METADATA)), "{name}");
        }
        for name in [
            "secretmanager.googleapis.com",
            "us-central1-run.googleapis.com",
            "us-docker.pkg.dev",
            "gcr.io",
            "eu.gcr.io",
            "tide-1.us-central1.run.app",
            "tide-1.us-central1.run.localhost",
            "accounts.google.com",
        ] {
            assert_eq!(ask(name, TYPE_A), (0, Some(GOOGLE)), "{name}");
            assert_eq!(ask(name, TYPE_AAAA), (0, None), "{name}");
        }
        for name in [
            "example.com",
            "evilgoogleapis.com",
            "googleapis.com.evil.org",
            "",
            "254.169.254.169.in-addr.arpa",
        ] {
            assert_eq!(ask(name, TYPE_A), (3, None), "{name}");
        }
    }

    #[test]
    fn a_domain_that_is_mapped_leads_here_wherever_others_lead() {
        for kind in [TYPE_A, TYPE_AAAA] {
            let query = query("WWW.Example.org", kind);
            let answer = answer(&query).unwrap();
            assert_eq!(answer[3] & 0x0f, Code::Fine as u8);
            let found = answer.ends_with(&GOOGLE.octets());
            assert_eq!(found, kind == TYPE_A, "{answer:?}");
        }
        assert_eq!(answer(&query("example.org", TYPE_A)).unwrap()[3] & 0x0f, Code::NoSuchName as u8);
    }

    #[test]
    fn what_is_no_query_is_not_answered_or_refused() {
        assert_eq!(answer(b"short"), None);
        let mut response = query("gcr.io", TYPE_A);
        response[2] |= 0x80;
        assert_eq!(answer(&response), None);
        let code = |query: &[u8]| answer(query).unwrap()[3] & 0x0f;
        let mut update = query("gcr.io", TYPE_A);
        update[2] |= 5 << 3;
        assert_eq!(code(&update), Code::NotImplemented as u8);
        let mut two_questions = query("gcr.io", TYPE_A);
        two_questions[5] = 2;
        assert_eq!(code(&two_questions), Code::Malformed as u8);
        let mut compressed = query("gcr.io", TYPE_A);
        compressed[HEADER] = 0xc0;
        assert_eq!(code(&compressed), Code::Malformed as u8);
        let mut chaos = query("gcr.io", TYPE_A);
        *chaos.last_mut().unwrap() = 3;
        assert_eq!(code(&chaos), Code::Refused as u8);
    }

    proptest! {
        #[test]
        fn no_bytes_cause_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = answer(&bytes);
        }

        #[test]
        fn an_answer_repeats_its_question(labels in prop::collection::vec("[a-zA-Z0-9-]{1,63}", 0..6), kind: u16) {
            let name = labels.join(".");
            prop_assume!(name.len() <= 250);
            let query = query(&name, kind);
            let answer = answer(&query).unwrap();
            prop_assert_eq!(&answer[HEADER..query.len()], &query[HEADER..]);
            prop_assert!(answer.len() <= 512);
        }
    }
}
