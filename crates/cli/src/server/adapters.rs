//! Where one part's words meet another's: small types that implement the port of one crate with another crate.

use std::{net::SocketAddr, sync::Arc};

use gateway::{Body, Instance};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ingress::{Batch, FromWorkload, Ingress, Invokers, RequestLog, RequestRecord, ServiceRoute, Verdict};
use kernel::{
    BoxFuture, Error, Principal, Resource, Result,
    call::RequestInfo,
    ports::{Authority, Identity, Image, LogSource, Owner},
};

use logging::{Logging, RequestEntry};

use super::builds::host_mount;

/// The images on this machine, and those of registries that can be reached.
pub struct LocalImages(pub images::Images);

impl kernel::ports::Images for LocalImages {
    fn resolve<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Image>> {
        Box::pin(async move { self.0.find(reference).await.map(plain_image).map_err(image_error) })
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
        mounts: image.mounts.into_iter().map(host_mount).collect(),
        remarks: image.remarks,
    }
}

/// An error of images as other products have it.
pub fn image_error(error: images::Error) -> Error {
    match error {
        images::Error::NotFound(_) => Error::not_found(error.to_string()),
        images::Error::Unreachable(..) => {
            tracing::warn!(target: "images", "{error}");
            Error::not_found(error.to_string())
        }
        images::Error::Io(..) => Error::internal(error),
        images::Error::Unfit(_) => Error::new(kernel::Code::FailedPrecondition, error.to_string()),
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
        match self.may_invoke(&principal, service) {
            true => Verdict::Allowed,
            false => Verdict::Forbidden,
        }
    }

    fn is_open(&self, service: &ServiceRoute) -> bool {
        self.may_invoke(&Principal::Anonymous, service)
    }

    fn generation(&self) -> Option<u64> {
        self.authority.generation()
    }
}

impl Callers {
    fn may_invoke(&self, principal: &Principal, service: &ServiceRoute) -> bool {
        let name =
            format!("projects/{}/locations/{}/services/{}", service.project, service.region, service.name);
        let resource = Resource::new("run.googleapis.com", name);
        let request = RequestInfo {
            time: std::time::SystemTime::now(),
            peer: None,
            host: "".into(),
            user_agent: "".into(),
        };
        self.authority.allows(principal, "run.routes.invoke", &resource, &request)
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

/// The request log: what the ingress records becomes entries of Cloud Logging.
pub struct Requests(pub Arc<Logging>);

impl RequestLog for Requests {
    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, ()> {
        let mut last = None;
        for record in batch.iter() {
            let source = source(&record, last.take());
            self.0.request(&source, &entry(&record));
            last = Some(source);
        }
        Box::pin(std::future::ready(()))
    }
}

/// Whose request it was. Requests come in runs of one instance's, whose names are then made once.
fn source(record: &RequestRecord<'_>, last: Option<LogSource>) -> LogSource {
    let is_same = |last: &LogSource| {
        *last.instance == *record.instance
            && **last.owner.part() == *record.revision
            && *last.region == *record.region
            && *last.project == *record.project
    };
    match last.filter(is_same) {
        Some(last) => last,
        None => LogSource {
            project: record.project.into(),
            region: record.region.into(),
            owner: Owner::Revision { service: record.service.into(), revision: record.revision.into() },
            instance: record.instance.into(),
            container: "".into(),
        },
    }
}

fn entry<'a>(record: &RequestRecord<'a>) -> RequestEntry<'a> {
    RequestEntry {
        time: record.time,
        latency: record.latency,
        method: record.method,
        url: record.url,
        protocol: record.protocol,
        status: record.status,
        request_size: record.request_size,
        response_size: record.response_size,
        user_agent: record.user_agent,
        referer: record.referer,
        remote_ip: record.remote_ip,
        trace: record.trace,
        span: record.span,
        sampled: record.sampled,
        message: if record.message.is_empty() { run::remark_on(record.url) } else { record.message },
    }
}
