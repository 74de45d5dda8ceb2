//! Pulling: images of registries that can be reached, over the OCI distribution API (version 2).
//!
//! A manifest is looked up, an index followed to this machine's platform, and what is not here yet fetched, a few
//! blobs at a time, each verified as it is written. The manifest is kept last, so a manifest that is here has
//! everything behind it here. Declined: resuming a blob half way, schema 1 manifests, layers that lie elsewhere
//! (`urls`), and registries that speak plain HTTP anywhere but on this machine.

mod challenge;
mod connect;
mod fetch;
mod proxy;
mod session;
mod settings;

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use http::Method;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{OnceCell, mpsc},
    task::JoinSet,
    time::timeout,
};

use self::session::{Answer, Session, answered};
pub use self::{
    proxy::Proxy,
    settings::{Credentials, Registries},
};
use crate::{
    Error, Image, Images, Reference, Result,
    blobs::digest_of,
    document::{MAX_DOCUMENT, Manifest},
    hello,
    index::Index,
    reference::{Pick, is_digest},
};

/// What manifests may be: OCI's and Docker's, and indexes of them.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// The header with the digest of what a tag names.
const DIGEST: &str = "docker-content-digest";
/// How many blobs are fetched at a time.
const PARALLEL: usize = 3;
/// The largest blob: 10 GiB, as for archives.
const MAX_BLOB: u64 = 10 << 30;
/// The largest image: all its layers, compressed.
const MAX_IMAGE: u64 = 32 << 30;
/// Chunks that wait to be written.
const WAITING: usize = 16;
/// How long a registry that could not be reached is not asked again about tags that are here.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a pull came to nothing.
pub(crate) enum Failure {
    /// The registry has no such image, or not for us.
    Absent,
    /// Nobody could be asked; why, as a sentence.
    Unreachable(String),
    /// What came is no image that can be used.
    Image(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Image(error)
    }
}

pub(crate) fn unreachable(why: String) -> Failure {
    Failure::Unreachable(why)
}

impl Failure {
    fn of(self, reference: &str) -> Error {
        match self {
            Failure::Absent => Error::NotFound(reference.to_owned()),
            Failure::Unreachable(why) => Error::Unreachable(reference.to_owned(), why),
            Failure::Image(error) => error,
        }
    }
}

/// The registries as a store sees them: how they are reached, who waits for what, and which are silent.
pub(crate) struct Remote {
    registries: Registries,
    joined: Mutex<HashMap<Reference, Arc<Outcome>>>,
    silent: Mutex<HashMap<String, Instant>>,
}

/// What everybody who waits for one pull is told.
type Outcome = OnceCell<Result<(), Error>>;

impl Remote {
    pub(crate) fn new(registries: Registries) -> Self {
        Remote { registries, joined: Mutex::default(), silent: Mutex::default() }
    }

    /// Whether a tag names something else by now than what is here. An answer that does not come counts as no.
    async fn moved(&self, reference: &Reference, known: &str) -> bool {
        if self.is_silent(&reference.host) {
            return false;
        }
        let looked = timeout(self.registries.recheck, look_up(&self.registries, reference)).await;
        match looked.unwrap_or_else(|_| Err(unreachable("It does not answer in time.".into()))) {
            Ok(now) => now.is_none_or(|now| now != known),
            Err(failure) => {
                let why = failure.of(&reference.to_string());
                if matches!(why, Error::Unreachable(..)) {
                    self.silent().insert(reference.host.clone(), Instant::now());
                }
                tracing::info!(target: "images", "the image that is here serves for {reference}: {why}");
                false
            }
        }
    }

    fn is_silent(&self, host: &str) -> bool {
        let mut silent = self.silent();
        silent.retain(|_, since| since.elapsed() < SILENCE);
        silent.contains_key(host)
    }

    fn silent(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, reference: &Reference) -> Arc<Outcome> {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        joined.entry(reference.clone()).or_default().clone()
    }

    fn part(&self, reference: &Reference, outcome: &Arc<Outcome>) {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        if joined.get(reference).is_some_and(|current| Arc::ptr_eq(current, outcome)) {
            joined.remove(reference);
        }
    }
}

impl Images {
    /// Brings in the image that a reference names from its registry, whatever is here under that name.
    ///
    /// # Errors
    /// `NotFound` when the registry has it not, or not for us; `Unreachable` when it could not be asked or broke
    /// off; `Malformed`, `TooLarge` or `Architecture` when what came cannot be used.
    pub async fn pull(&self, reference: &str, registries: &Registries) -> Result<()> {
        let parsed = Reference::parse(reference)?;
        let pulled = timeout(registries.deadline, self.bring_in(&parsed, registries)).await;
        let late = || unreachable(format!("It did not come within {} s.", registries.deadline.as_secs_f32()));
        pulled.unwrap_or_else(|_| Err(late())).map_err(|failure| failure.of(reference))
    }

    /// The image that a reference names: from here, or from its registry. A digest that is here is never asked
    /// for; a tag that is here is looked up again, and serves as it is when its registry cannot be reached. Those who ask
    /// for the same at the same time wait for one pull. Without registries (see [`open`](Images::open)), only what
    /// is here is found.
    ///
    /// # Errors
    /// As [`resolve`](Images::resolve) and [`pull`](Images::pull) have them.
    pub async fn find(&self, reference: &str) -> Result<Image> {
        let parsed = Reference::parse(reference).map_err(|_| Error::NotFound(reference.to_owned()))?;
        if let Some(remote) = self.0.remote.as_ref().filter(|_| !hello::is(&parsed)) {
            self.refresh(reference, &parsed, remote).await?;
        }
        let (images, reference) = (self.clone(), reference.to_owned());
        blocking(move || images.resolve(&reference)).await
    }

    /// Makes what a reference names be here, and be what the registry has under it if that can be asked.
    async fn refresh(&self, typed: &str, reference: &Reference, remote: &Remote) -> Result<()> {
        let (images, asked) = (self.clone(), reference.clone());
        let Some(known) = blocking(move || images.known(&asked)).await? else {
            return self.pull_once(typed, reference, remote).await;
        };
        if matches!(reference.pick, Pick::Tag(_))
            && !self.is_own(reference)
            && remote.moved(reference, &known).await
            && let Err(error) = self.pull_once(typed, reference, remote).await
        {
            tracing::warn!(target: "images", "the image that is here serves for {reference}: {error}");
        }
        Ok(())
    }

    /// Pulls, or waits for the same pull that is already under way.
    async fn pull_once(&self, typed: &str, reference: &Reference, remote: &Remote) -> Result<()> {
        let outcome = remote.join(reference);
        let told = outcome.get_or_init(|| self.pull(typed, &remote.registries)).await;
        remote.part(reference, &outcome);
        told.as_ref().map_err(Error::copy).copied()
    }

    async fn bring_in(&self, reference: &Reference, registries: &Registries) -> Result<(), Failure> {
        // Until its manifest is here, nothing says what its blobs are for.
        let images = self.clone();
        let _held = blocking(move || images.hold()).await?;
        let session = Arc::new(Session::new(registries, reference)?);
        let asked = match &reference.pick {
            Pick::Tag(pick) | Pick::Digest(pick) => pick,
        };
        let top = fetch_document(&session, asked).await?;
        let inner = match Index::parse(&top.bytes) {
            Some(index) => Some(fetch_document(&session, &digest(index.this_platform()?)?).await?),
            None => None,
        };
        let manifest = Manifest::parse(&inner.as_ref().unwrap_or(&top).bytes)?;
        self.fetch_blobs(&session, &manifest).await?;
        let (images, reference) = (self.clone(), reference.clone());
        blocking(move || images.keep(&reference, top, inner)).await?;
        Ok(())
    }

    /// Keeps the documents of an image whose blobs are here, the one that others find last.
    fn keep(&self, reference: &Reference, top: Fetched, inner: Option<Fetched>) -> Result<()> {
        let _held = self.hold()?;
        for document in inner.iter().chain([&top]) {
            self.0.blobs.put(document.bytes.as_slice(), Some(&document.digest), MAX_DOCUMENT)?;
        }
        self.unpack(&top.digest)?;
        match reference.pick {
            Pick::Tag(_) => self.tag(reference, &top.digest),
            Pick::Digest(_) => Ok(()),
        }
    }

    /// Fetches what is not here yet, the configuration first: it tells soonest whether the image is of any use.
    async fn fetch_blobs(&self, session: &Arc<Session>, manifest: &Manifest) -> Result<(), Failure> {
        if manifest
            .layers
            .iter()
            .try_fold(0u64, |sum, layer| sum.checked_add(layer.size))
            .is_none_or(|sum| sum > MAX_IMAGE)
        {
            return Err(Error::TooLarge("an image of more than 32 GiB").into());
        }
        self.clone().fetch_blob(session.clone(), digest(manifest.config.clone())?, MAX_DOCUMENT).await?;
        let mut seen = BTreeSet::new();
        let mut running = JoinSet::new();
        for layer in manifest.layers.iter().filter(|layer| seen.insert(&layer.digest)) {
            if running.len() == PARALLEL {
                finished(running.join_next().await)?;
            }
            let limit = layer.size.min(MAX_BLOB);
            running.spawn(self.clone().fetch_blob(session.clone(), digest(layer.digest.clone())?, limit));
        }
        while !running.is_empty() {
            finished(running.join_next().await)?;
        }
        Ok(())
    }

    async fn fetch_blob(self, session: Arc<Session>, digest: String, limit: u64) -> Result<(), Failure> {
        if self.0.blobs.has(&digest) {
            return Ok(());
        }
        let mut answer = session.ask(Method::GET, &format!("blobs/{digest}"), "*/*").await?;
        match answered(answer.head.status) {
            Err(Failure::Absent) => {
                return Err(unreachable(format!("Its registry does not give out {digest}.")));
            }
            other => other?,
        }
        if answer.announced().is_some_and(|size| size > limit) {
            return Err(Error::TooLarge("a layer, compared to what its manifest says").into());
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        let images = self.clone();
        let expected = digest.clone();
        let written = tokio::task::spawn_blocking(move || {
            images.0.blobs.put(Incoming { receiver, rest: Bytes::new() }, Some(&expected), limit)
        });
        // A writer that gives up closes the channel, and then says why.
        let pumped = pump(&mut answer, sender).await;
        let written =
            written.await.map_err(|error| Error::Io("write a blob".into(), io::Error::other(error)))?;
        pumped?;
        written?;
        answer.done();
        Ok(())
    }
}

/// Passes a body on until it ends or nobody takes it any more.
async fn pump(answer: &mut Answer<'_>, sender: mpsc::Sender<Bytes>) -> Result<(), Failure> {
    while let Some(chunk) = answer.chunk().await? {
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A body as a blocking reader has it. One that breaks off just ends: its digest is then wrong.
struct Incoming {
    receiver: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A manifest or an index, verified.
struct Fetched {
    digest: String,
    bytes: Vec<u8>,
}

/// Fetches a manifest by tag or digest. Its digest is that of its bytes, and must be what was asked for.
async fn fetch_document(session: &Session, pick: &str) -> Result<Fetched, Failure> {
    let answer = session.ask(Method::GET, &format!("manifests/{pick}"), MANIFESTS).await?;
    let status = answer.head.status;
    let claimed = claimed_digest(&answer);
    answered(status)?;
    let bytes = answer.collect(MAX_DOCUMENT, "a manifest or configuration").await?;
    let digest = digest_of(Sha256::new_with_prefix(&bytes));
    let expected = if is_digest(pick) { Some(pick.to_owned()) } else { claimed };
    match expected.filter(|expected| *expected != digest) {
        Some(expected) => {
            Err(Error::Malformed(format!("a manifest that should be {expected} is {digest}")).into())
        }
        None => Ok(Fetched { digest, bytes }),
    }
}

/// What a tag names by now, if the registry says so without sending it.
async fn look_up(registries: &Registries, reference: &Reference) -> Result<Option<String>, Failure> {
    let session = Session::new(registries, reference)?;
    let (Pick::Tag(pick) | Pick::Digest(pick)) = &reference.pick;
    let answer = session.ask(Method::HEAD, &format!("manifests/{pick}"), MANIFESTS).await?;
    answered(answer.head.status)?;
    Ok(claimed_digest(&answer))
}

fn claimed_digest(answer: &Answer<'_>) -> Option<String> {
    let value = answer.head.headers.get(DIGEST)?.to_str().ok()?;
    is_digest(value).then(|| value.to_owned())
}

/// A digest that a document names: it becomes a part of a path, and must be one.
fn digest(text: String) -> Result<String> {
    if is_digest(&text) {
        Ok(text)
    } else {
        Err(Error::Malformed(format!("'{}' is not a SHA-256 digest", text.escape_debug())))
    }
}

type Joined = Option<Result<Result<(), Failure>, tokio::task::JoinError>>;

fn finished(joined: Joined) -> Result<(), Failure> {
    match joined {
        None => Ok(()),
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => Err(Error::Io("fetch a blob".into(), io::Error::other(error)).into()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Io("work on an image".into(), io::Error::other(error))))
}
