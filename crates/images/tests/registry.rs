//! A registry of one repository, `fog/app`, on a real socket, with the manners that a test gives it.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{ARCH, hex};

/// How blobs are given out.
#[derive(Clone, Default)]
pub(crate) enum Blobs {
    #[default]
    Plainly,
    /// Other bytes than asked for.
    Wrongly,
    /// Half of the bytes, of the length of all.
    Half,
    /// By a redirect to this, with the digest behind it.
    Elsewhere(String),
    /// Never.
    Hanging,
}

#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) manifests: HashMap<String, Bytes>,
    pub(crate) blobs: BTreeMap<String, Bytes>,
    pub(crate) manners: Blobs,
    /// Whether a token must be fetched first, and by whom.
    pub(crate) guarded: bool,
    pub(crate) user: Option<&'static str>,
    /// A status for everything.
    pub(crate) status: Option<StatusCode>,
    /// Lines such as `GET /v2/…`, and the authorization that came along.
    pub(crate) seen: Vec<(String, Option<String>)>,
}

/// A registry that is running.
#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    pub(crate) shelf: Arc<Mutex<Shelf>>,
}

pub(crate) fn sha(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

impl Registry {
    pub(crate) async fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Registry { address: listener.local_addr().unwrap(), shelf: Arc::default() };
        let serving = registry.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        registry
    }

    pub(crate) async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request)) });
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/fog/app{rest}", self.address.port())
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Shelf)) {
        change(&mut self.shelf.lock().unwrap());
    }

    /// Puts an image on the shelf, under a tag, behind an index with another platform first; gives the digests of
    /// the index and of the manifest.
    pub(crate) fn shelve(&self, tag: &str, layers: &[Vec<u8>]) -> (String, String) {
        let mut shelf = self.shelf.lock().unwrap();
        let mut put = |bytes: &[u8], kind: &str| {
            shelf.blobs.insert(sha(bytes), Bytes::copy_from_slice(bytes));
            json!({ "mediaType": kind, "digest": sha(bytes), "size": bytes.len() })
        };
        let diff_ids: Vec<String> = layers.iter().map(|layer| sha(layer)).collect();
        let config = json!({ "architecture": ARCH, "os": "linux", "config": { "Cmd": ["/app"] }, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let layers: Vec<Value> =
            layers.iter().map(|layer| put(layer, "application/vnd.oci.image.layer.v1.tar")).collect();
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string();
        let digest = sha(manifest.as_bytes());
        let index = json!({ "schemaVersion": 2, "manifests": [
            { "digest": sha(b"other"), "size": 5, "platform": { "architecture": "s390x", "os": "linux" } },
            { "digest": digest, "size": manifest.len(), "platform": { "architecture": ARCH, "os": "linux" } },
        ] })
        .to_string();
        let top = sha(index.as_bytes());
        shelf.manifests.insert(digest.clone(), manifest.into());
        shelf.manifests.insert(tag.to_owned(), index.clone().into());
        shelf.manifests.insert(top.clone(), index.into());
        (top, digest)
    }

    /// How many requests there were whose line holds this.
    pub(crate) fn asked(&self, what: &str) -> usize {
        self.shelf.lock().unwrap().seen.iter().filter(|(line, _)| line.contains(what)).count()
    }

    fn answer(&self, request: Request<Incoming>) -> Response<BoxBody<Bytes, std::io::Error>> {
        let mut shelf = self.shelf.lock().unwrap();
        let authorization = text(request.headers(), header::AUTHORIZATION.as_str());
        let (path, host) = (request.uri().to_string(), text(request.headers(), "host").unwrap_or_default());
        shelf.seen.push((format!("{} {path}", request.method()), authorization.clone()));
        if let Some(status) = shelf.status {
            return full(status, Bytes::new());
        }
        if path.starts_with("/token?") {
            return shelf.token(&path, authorization.as_deref());
        }
        if shelf.guarded && authorization.as_deref() != Some("Bearer t0ken") {
            return challenge(&host);
        }
        if let Some(pick) = path.strip_prefix("/v2/fog/app/manifests/") {
            let Some(found) = shelf.manifests.get(pick) else {
                return full(StatusCode::NOT_FOUND, Bytes::new());
            };
            let mut answer = full(StatusCode::OK, found.clone());
            answer.headers_mut().insert("docker-content-digest", sha(found).parse().unwrap());
            return answer;
        }
        let digest = path.rsplit('/').next().unwrap_or_default();
        match (shelf.blobs.get(digest), &shelf.manners) {
            (None, _) => full(StatusCode::NOT_FOUND, Bytes::new()),
            (Some(_), Blobs::Elsewhere(place)) => {
                let mut answer = full(StatusCode::TEMPORARY_REDIRECT, Bytes::new());
                answer.headers_mut().insert(header::LOCATION, format!("{place}{digest}").parse().unwrap());
                answer
            }
            (Some(blob), Blobs::Wrongly) => full(StatusCode::OK, vec![b'x'; blob.len()].into()),
            (Some(blob), Blobs::Half) => half(blob, Duration::from_millis(20)),
            (Some(blob), Blobs::Hanging) => half(blob, Duration::from_secs(60)),
            (Some(blob), Blobs::Plainly) => full(StatusCode::OK, blob.clone()),
        }
    }
}

impl Shelf {
    fn token(&self, path: &str, authorization: Option<&str>) -> Response<BoxBody<Bytes, std::io::Error>> {
        let known = self.user.is_none_or(|user| authorization == Some(user));
        let asked = path.contains("scope=repository:fog/app:pull") && path.contains("service=fog%20registry");
        match known && asked {
            true => full(StatusCode::OK, r#"{"token":"t0ken"}"#.into()),
            false => full(StatusCode::UNAUTHORIZED, Bytes::new()),
        }
    }
}

fn challenge(host: &str) -> Response<BoxBody<Bytes, std::io::Error>> {
    let scheme = if host.starts_with("127.") { "http" } else { "https" };
    let wanted = format!(
        r#"Bearer realm="{scheme}://{host}/token",service="fog registry",scope="repository:fog/app:pull""#
    );
    let mut refusal = full(StatusCode::UNAUTHORIZED, "{}".into());
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, wanted.parse().unwrap());
    refusal
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

fn full(status: StatusCode, body: Bytes) -> Response<BoxBody<Bytes, std::io::Error>> {
    let body = Full::new(body).map_err(|never| match never {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}

/// Half of a body, then silence for a while, then the end of the connection.
fn half(blob: &Bytes, silence: Duration) -> Response<BoxBody<Bytes, std::io::Error>> {
    let start = blob.slice(..blob.len() / 2);
    let body = Full::new(start).map_err(|never| match never {});
    let body = BoxBody::new(Breaking { start: Some(body), silence: Box::pin(tokio::time::sleep(silence)) });
    Response::builder().header(header::CONTENT_LENGTH, blob.len()).body(body).unwrap()
}

struct Breaking<B> {
    start: Option<B>,
    silence: Pin<Box<tokio::time::Sleep>>,
}

impl<B: hyper::body::Body<Data = Bytes, Error = std::io::Error> + Unpin> hyper::body::Body for Breaking<B> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        match self.start.take() {
            Some(mut start) => Pin::new(&mut start).poll_frame(context),
            None => self.silence.as_mut().poll(context).map(|()| Some(Err(std::io::Error::other("enough")))),
        }
    }
}

/// A proxy that leads every tunnel to one handler; gives its address and what it was asked for.
pub(crate) async fn proxy<F: Future<Output = ()> + Send + 'static>(
    handler: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            noted.lock().unwrap().push(String::from_utf8(head).unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(handler(stream));
        }
    });
    (address, asked)
}
