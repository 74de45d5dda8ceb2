//! Where one part's words meet another's: small types that implement the port of one crate with another crate.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use gateway::{Body, Instance};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ingress::{Batch, FromWorkload, Ingress, Invokers, RequestLog, ServiceRoute, Verdict};
use kernel::{
    BoxFuture, Error, Resource, Result,
    call::RequestInfo,
    ports::{Authority, Identity, Image, LogSource, LogStream, Logs},
};

/// The images on this machine.
pub struct LocalImages(pub images::Images);

impl kernel::ports::Images for LocalImages {
    fn resolve<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Image>> {
        let (images, reference) = (self.0.clone(), reference.to_owned());
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || images.resolve(&reference))
                .await
                .map_err(Error::internal)?;
            found.map(plain_image).map_err(image_error)
        })
    }
}

fn plain_image(image: images::Image) -> Image {
    Image {
        digest: image.digest,
        layers: image.layers,
        entrypoint: image.config.entrypoint,
        command: image.config.command,
        env: image.config.env,
        working_dir: image.config.working_dir,
        user: image.config.user,
    }
}

fn image_error(error: images::Error) -> Error {
    match error {
        images::Error::NotFound(_) => Error::not_found(error.to_string()),
        images::Error::Io(..) => Error::internal(error),
        _ => Error::invalid(error.to_string()),
    }
}

/// Who may invoke services: identity verifies the token, the policy decides.
pub struct Callers {
    pub identity: Arc<dyn Identity>,
    pub authority: Arc<dyn Authority>,
}

impl Invokers for Callers {
    fn check(&self, service: &ServiceRoute, token: &str, audiences: &[&str]) -> Verdict {
        let Ok(principal) = self.identity.verify_identity(token, audiences) else {
            return Verdict::Unauthenticated;
        };
        let name =
            format!("projects/{}/locations/{}/services/{}", service.project, service.region, service.name);
        let resource = Resource::new("run.googleapis.com", name);
        let request = RequestInfo {
            time: std::time::SystemTime::now(),
            peer: None,
            host: "".into(),
            user_agent: "".into(),
        };
        match self.authority.allows(&principal, "run.routes.invoke", &resource, &request) {
            true => Verdict::Allowed,
            false => Verdict::Forbidden,
        }
    }
}

/// Services, as a site of the gateway.
pub struct Services(pub Arc<Ingress>);

impl gateway::Site for Services {
    fn serve(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
        tls: bool,
    ) -> BoxFuture<'static, Response<Body>> {
        let ingress = self.0.clone();
        if request.extensions().get::<Instance>().is_some() {
            request.extensions_mut().insert(FromWorkload);
        }
        Box::pin(async move { ingress.serve(request, peer, tls).await.map(|body| body.boxed_unsync()) })
    }
}

/// How many lines of a revision are remembered.
const REMEMBERED: usize = 100;

/// What workloads write: to haar's own log, with the last lines kept for error messages.
#[derive(Default)]
pub struct Output {
    last: Mutex<HashMap<RevisionKey, VecDeque<String>>>,
}

/// Project, region and revision: a revision's name alone may be used in several projects, and none must read
/// what the other's wrote.
type RevisionKey = [Arc<str>; 3];

fn key(source: &LogSource) -> RevisionKey {
    [source.project.clone(), source.region.clone(), source.revision.clone()]
}

impl Logs for Output {
    fn line(&self, source: &LogSource, stream: LogStream, line: &str) {
        tracing::info!(target: "workload", revision = &*source.revision, stream = ?stream, "{line}");
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = last.entry(key(source)).or_default();
        if lines.len() == REMEMBERED {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    fn tail(&self, source: &LogSource, lines: usize) -> Vec<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = last.get(&key(source)) else { return Vec::new() };
        all.iter().skip(all.len().saturating_sub(lines)).cloned().collect()
    }
}

impl RequestLog for Output {
    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, ()> {
        if tracing::enabled!(target: "request", tracing::Level::INFO) {
            for record in batch.iter() {
                let micros = record.latency.as_micros();
                tracing::info!(target: "request", service = record.service, revision = record.revision, status = record.status, micros, "{} {}", record.method, record.url);
            }
        }
        Box::pin(std::future::ready(()))
    }
}
