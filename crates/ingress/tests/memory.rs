//! An ingress in memory: a client's bytes go in, what it is answered and what the instance was sent come out.
//!
//! The instance reads as strictly as can be and panics at anything that another server might understand differently;
//! so whoever feeds this bytes only needs to look whether it survives. Also used by the fuzz target in `fuzz/`.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use ingress::{
    Access, Batch, Config, Ingress, Instance, Instances, Invoker, Invokers, RequestLog, RevisionId,
    RevisionSpec, ServiceRoute, StartError, Stream, Verdict,
};
use kernel::{BoxFuture, clock::Clock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::front::{self, End, Limits, Speaks};

pub(crate) const HOST: &str = "a";
/// Nothing here waits for anything that is not in memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// An ingress with one service, whose instance lives in this process.
pub(crate) struct Memory {
    ingress: Arc<Ingress>,
    backend: Arc<Backend>,
}

/// What became of some bytes.
pub(crate) struct Outcome {
    /// All that the client was sent until its connection ended.
    pub(crate) answer: Vec<u8>,
    /// The heads of the requests that the instance got.
    pub(crate) seen: Vec<String>,
}

#[derive(Default)]
struct Backend {
    seen: Mutex<Vec<String>>,
    /// What the instance answers, byte for byte; a usual answer when empty.
    script: Mutex<Vec<u8>>,
}

/// Lets the traits be implemented for what is shared.
struct Local(Arc<Backend>);

impl Instances for Local {
    fn start(&self, _: &RevisionId) -> BoxFuture<'static, Result<Arc<dyn Instance>, StartError>> {
        let instance = Arc::new(Local(self.0.clone())) as Arc<dyn Instance>;
        Box::pin(async { Ok(instance) })
    }

    fn stop(&self, _: Arc<dyn Instance>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

impl Instance for Local {
    fn id(&self) -> &str {
        "local"
    }

    fn connect(&self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async {
            let (ours, theirs) = UnixStream::pair()?;
            tokio::spawn(self.0.clone().run(theirs));
            Ok(ours.into())
        })
    }
}

impl Invokers for Local {
    fn check(&self, _: &ServiceRoute, _: &str, _: &[&str]) -> Verdict {
        Verdict::Allowed
    }
}

struct Silent;

impl RequestLog for Silent {
    fn write<'a>(&'a self, _: &'a Batch) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

impl Memory {
    /// Must be called within a tokio runtime.
    pub(crate) fn new() -> Memory {
        let backend = Arc::new(Backend::default());
        let local = || Arc::new(Local(backend.clone()));
        let ingress = Ingress::new(Config::default(), local(), Arc::new(Silent), local(), Clock::system());
        let id = RevisionId::new("a-1");
        ingress.set_revision(RevisionSpec::new(id.clone()));
        ingress.set_service(ServiceRoute {
            name: "a".into(),
            project: "p".into(),
            region: "r".into(),
            hosts: vec![HOST.into()],
            tags: Vec::new(),
            traffic: vec![(id, 100)],
            access: Access::All,
            invoker: Invoker::Public,
            audiences: Vec::new(),
        });
        Memory { ingress, backend }
    }

    /// Sends bytes on a connection of their own, ends it, and waits until the other side has ended it too.
    ///
    /// # Panics
    /// When the instance was sent what can be read in two ways, or more requests than the client made.
    pub(crate) async fn feed(&self, bytes: &[u8]) -> Outcome {
        let (outcome, asked) = self.exchange(bytes).await;
        let seen = &outcome.seen;
        assert!(seen.len() <= asked, "of {asked} requests the instance made {seen:?}");
        outcome
    }

    async fn exchange(&self, bytes: &[u8]) -> (Outcome, usize) {
        let speaks = if bytes.starts_with(b"PRI ") { Speaks::Http2 } else { Speaks::Http1 };
        let (client, server) = tokio::io::duplex(64 << 10);
        let peer = ([127, 0, 0, 1], 1).into();
        let limits = Limits { end: End::Waits, ..Limits::default() };
        let serving = tokio::spawn(front::serve(self.ingress.clone(), server, peer, speaks, limits));
        let (mut reader, mut writer) = tokio::io::split(client);
        let sending = async {
            // The other side may end the connection before it has read everything.
            let _ = writer.write_all(bytes).await;
            let _ = writer.shutdown().await;
        };
        let mut answer = Vec::new();
        let reading = async { tokio::join!(sending, reader.read_to_end(&mut answer)).1 };
        let ended = tokio::time::timeout(PATIENCE, reading).await;
        assert!(ended.is_ok(), "the connection hangs");
        let asked = serving.await.expect("the connection's task panicked");
        let seen = std::mem::take(&mut *self.backend.seen.lock().expect("an earlier panic"));
        (Outcome { answer, seen }, asked)
    }

    /// Has the instance answer one plain request with these bytes, and returns what the client gets.
    pub(crate) async fn answered_with(&self, script: &[u8]) -> Vec<u8> {
        *self.backend.script.lock().expect("an earlier panic") = script.to_vec();
        let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        // The request may be made twice, for it may: the first connection may have been one that the instance has left.
        let (outcome, _) = self.exchange(request.as_bytes()).await;
        self.backend.script.lock().expect("an earlier panic").clear();
        outcome.answer
    }
}

impl Backend {
    async fn run(self: Arc<Self>, mut stream: UnixStream) {
        let mut bytes = Vec::new();
        loop {
            while let Some((head, length)) = request(&bytes) {
                self.seen.lock().expect("an earlier panic").push(head);
                bytes.drain(..length);
                let script = self.script.lock().expect("an earlier panic").clone();
                let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                let answer = if script.is_empty() { &plain[..] } else { &script };
                if stream.write_all(answer).await.is_err() || !script.is_empty() {
                    return;
                }
            }
            if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        }
    }
}

/// The first request in some bytes, and how long it is with its body; `None` when it is not complete.
///
/// # Panics
/// When it could be read in two ways.
pub(crate) fn request(bytes: &[u8]) -> Option<(String, usize)> {
    let length = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let mut lines = head.strip_suffix("\r\n\r\n").expect("it was found").split("\r\n");
    let first = lines.next().expect("splitting gives one");
    assert!(first.split(' ').count() == 3 && first.ends_with(" HTTP/1.1"), "a request line: {first:?}");
    let (mut sizes, mut chunks, mut hosts) = (Vec::new(), 0, 0);
    for line in lines {
        assert!(!line.contains(['\r', '\n', '\0']), "a line within a line: {line:?}");
        let (name, value) = line.split_once(": ").expect("a name and a value");
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "a name: {line:?}");
        match name {
            "content-length" => sizes.push(value.parse::<usize>().expect("a length")),
            "transfer-encoding" => {
                assert_eq!(value, "chunked");
                chunks += 1;
            }
            "host" => hosts += 1,
            _ => {}
        }
    }
    assert_eq!(hosts, 1, "{head:?}");
    assert!(sizes.len() + chunks <= 1, "two framings: {head:?}");
    let body = &bytes[length..];
    let size = match sizes.first() {
        Some(size) => *size,
        None if chunks == 1 => chunked(body)?,
        None => 0,
    };
    (body.len() >= size).then_some((head, length + size))
}

/// How long a chunked body is; `None` when it is not complete.
fn chunked(mut body: &[u8]) -> Option<usize> {
    let whole = body.len();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n")?;
        let digits = std::str::from_utf8(&body[..end]).expect("a chunk's size");
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "a chunk's size: {digits:?}");
        let size = usize::from_str_radix(digits, 16).expect("a chunk's size");
        body = &body[end + 2..];
        if size == 0 {
            return trailers(body).map(|length| whole - body.len() + length);
        }
        let rest = body.get(size..)?;
        assert!(b"\r\n".starts_with(&rest[..rest.len().min(2)]), "after a chunk: {rest:?}");
        body = rest.get(2..)?;
    }
}

/// How long a trailer section is.
fn trailers(body: &[u8]) -> Option<usize> {
    if body.starts_with(b"\r\n") {
        return Some(2);
    }
    let length = body.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&body[..length - 4]);
    for line in text.split("\r\n") {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a name and a value: {line:?}"));
        assert!(!value.contains(['\r', '\n', '\0']), "a line within a line: {line:?}");
        let framing = ["content-length", "transfer-encoding", "host", "trailer", "content-encoding"];
        assert!(!framing.contains(&name), "a trailer that frames or routes: {line:?}");
    }
    Some(length)
}
