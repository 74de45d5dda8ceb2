//! Builds from source: a folder comes in, an image's reference goes out.
//!
//! `POST /_haar/builds?name=NAME&project=PROJECT&region=REGION`, with the key of the control interface
//! (`Authorization: Bearer …`). All three parameters are needed; NAME is a service's name (`[a-z]([-a-z0-9]*[a-z0-9])?`,
//! at most 49 characters).
//!
//! **Body**: exactly what `build::source::pack(directory, &settings, writer)` writes: an uncompressed tar stream whose
//! first member is `haar-build.json` (the settings, `build::Settings` as JSON: variables of the person's shell that
//! matter to builds, and a start command where one was asked for), and whose others are the folder's files below
//! `workspace/`. Its length need not be known (chunked is fine). At most 2 GiB unpacked and 200,000 files.
//!
//! **Answer**: 200 and `application/x-ndjson`, one JSON object a line, sent as things happen:
//! - `{"step": "pip install", "text": "Collecting flask"}`: a line of a step's output, or what is about to be done.
//! - `{"remark": "…"}`: a sentence that people should see even when all goes well.
//! - the last line, if it worked:
//!   `{"image": "REGION-docker.pkg.dev/PROJECT/cloud-run-source-deploy/NAME@sha256:…", "tag": "…/NAME:latest",
//!   "digest": "sha256:…", "language": "Python 3.11", "framework": "Django", "start": ["gunicorn", …],
//!   "migrate": ["python3", "manage.py", "migrate", "--noinput"], "cached": true, "millis": 412}`.
//!   `framework` and `migrate` are null where there is none. `start` is what the image runs when the service gives no
//!   command. `cached` tells whether no dependency had to be installed.
//! - or, if it did not: `{"error": "…", "next": "…", "log": ["…", …]}`: what went wrong in a sentence, what to do about
//!   it (null where nothing is known), and the last lines of the step that failed (they were sent before, too).
//!
//! An answer that ends without one of the last two means that haar ended. A request that is wrong in itself (no such
//! parameter, a bad name) gets a 4xx and `{"error": {"message": "…"}}` as from every control call. Empty lines in between
//! say that the build goes on. A client that hangs up ends its build, within about a second.

use std::{
    convert::Infallible,
    io::{self, Read},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use build::{Event, Failure, Order};
use bytes::{Buf, Bytes};
use gateway::{Body, full};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use kernel::ports::{ArchiveLimits, HostMount, ImageConfig, ImageMaker, MachineBase, MadeLayer, Staged};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::sleep};

use super::{Parts, adapters::image_error};

/// How many pieces of a folder wait to be unpacked.
const WAITING: usize = 16;
/// How long a build is silent at most: a client may have closed its half of the connection only, so that nobody listens
/// any more is learned by writing.
const SILENCE: Duration = Duration::from_millis(500);
/// The longest name of a service.
const MAX_NAME: usize = 49;

/// Answers a request for a build.
pub async fn serve(parts: Arc<Parts>, request: Request<Incoming>) -> Response<Body> {
    let order = match order(request.uri().query().unwrap_or_default()) {
        Ok(order) => order,
        Err(message) => return refusal(&message),
    };
    let (lines, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let teller = lines.clone();
        let build = build(&parts, &order, request.into_body(), teller);
        // Whoever hangs up wants no build.
        tokio::select! {
            last = build => tell(&lines, &last),
            () = hung_up(&lines) => {}
        }
    });
    let mut response = Response::new(Lines(told).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// Returns when nobody listens any more.
async fn hung_up(lines: &mpsc::UnboundedSender<Bytes>) {
    loop {
        tokio::select! {
            () = lines.closed() => return,
            () = sleep(SILENCE) => drop(lines.send(Bytes::from_static(b"\n"))),
        }
    }
}

async fn build(parts: &Parts, order: &Order, body: Incoming, lines: mpsc::UnboundedSender<Bytes>) -> Value {
    let sandbox = match parts.instances.sandbox().await {
        Ok(sandbox) => sandbox,
        Err(why) => {
            return failed(&Failure {
                error: format!("no build is possible here: {why}"),
                ..Failure::default()
            });
        }
    };
    // From the first layer to the image's name.
    let images = parts.images.clone();
    let _held = match tokio::task::spawn_blocking(move || images.hold()).await {
        Ok(Ok(held)) => held,
        Ok(Err(error)) => return failed(&Failure { error: error.to_string(), ..Failure::default() }),
        Err(error) => return failed(&Failure { error: error.to_string(), ..Failure::default() }),
    };
    let told = move |event: Event| tell(&lines, &json!(event));
    match parts.builds.build(&sandbox, order, Feed::of(body), told).await {
        Ok(built) => json!(built),
        Err(failure) => failed(&failure),
    }
}

fn failed(failure: &Failure) -> Value {
    json!(failure)
}

fn tell(lines: &mpsc::UnboundedSender<Bytes>, line: &Value) {
    // Nobody listens any more: the build is about to be ended.
    let _ = lines.send(format!("{line}\n").into());
}

/// What is built, from a query.
fn order(query: &str) -> Result<Order, String> {
    let find = |wanted: &str| {
        let values = query.split('&').filter_map(|pair| pair.split_once('='));
        values.filter(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned()).next()
    };
    let need = |name: &str, is_good: fn(&str) -> bool| {
        let value = find(name).ok_or_else(|| format!("the parameter {name} is missing"))?;
        if is_good(&value) { Ok(value) } else { Err(format!("{value:?} cannot be a {name}")) }
    };
    Ok(Order {
        name: need("name", |name| is_name(name) && name.len() <= MAX_NAME)?,
        project: need("project", |project| is_name(project) && project.len() <= 63)?,
        region: need("region", |region| is_name(region) && region.len() <= 63)?,
    })
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn refusal(message: &str) -> Response<Body> {
    let mut response = Response::new(full(json!({ "error": { "message": message } }).to_string()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer that is made while it is sent.
struct Lines(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

/// A request's body, read where reading may block.
struct Feed {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Feed {
    fn of(mut body: Incoming) -> Feed {
        let (sender, pieces) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let piece =
                    frame.map_err(io::Error::other).map(|frame| frame.into_data().unwrap_or_default());
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        });
        Feed { pieces, current: Bytes::new() }
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// The images on this machine, as a place to put new ones.
pub struct Maker(pub images::Images);

impl ImageMaker for Maker {
    fn machine(&self) -> kernel::Result<MachineBase> {
        let base = self.0.machine_base().map_err(image_error)?;
        let mounts = base.mounts.into_iter().map(host_mount).collect();
        Ok(MachineBase { layer: made_layer(base.layer), mounts, python: base.python })
    }

    fn made(&self, key: &str) -> Option<MadeLayer> {
        self.0.made(key).map(made_layer)
    }

    fn stage(&self) -> kernel::Result<Staged> {
        let staging = self.0.stage().map_err(image_error)?;
        Ok(Staged { path: staging.path().to_owned(), guard: Box::new(staging) })
    }

    fn unpack(&self, archive: &mut dyn Read, into: &Staged, limits: ArchiveLimits) -> kernel::Result<String> {
        let limits = images::Limits { bytes: limits.bytes, entries: limits.entries };
        self.0.unpack_into(archive, &into.path, limits).map_err(image_error)
    }

    fn keep(&self, staged: Staged, key: &str, owner: u32) -> kernel::Result<MadeLayer> {
        self.0.keep_layer(&staged.path, key, owner).map(made_layer).map_err(image_error)
    }

    fn publish(&self, reference: &str, layers: &[String], config: &ImageConfig) -> kernel::Result<String> {
        let reference = images::Reference::parse(reference).map_err(image_error)?;
        let ImageConfig { entrypoint, command, env, working_dir, user } = config.clone();
        let config = images::Config { entrypoint, command, env, working_dir, user };
        self.0.publish(&reference, layers, &config).map_err(image_error)
    }
}

fn made_layer(layer: images::Layer) -> MadeLayer {
    MadeLayer { digest: layer.digest, directory: layer.directory }
}

/// A mount of an image as other products have it.
pub fn host_mount(mount: images::Mount) -> HostMount {
    HostMount { source: mount.source, target: mount.target }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_has_to_be_named() {
        let found = order("region=us-central1&name=my-app&project=p1").unwrap();
        assert_eq!((&*found.name, &*found.project, &*found.region), ("my-app", "p1", "us-central1"));
        for bad in [
            "",
            "name=a&project=p",
            "name=A&project=p&region=r",
            "name=a/../b&project=p&region=r",
            "name=a-&project=p&region=r",
        ] {
            assert!(order(bad).is_err(), "{bad}");
        }
    }
}
