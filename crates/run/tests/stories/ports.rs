//! The other products, as small as they can honestly be.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use ingress::{Batch, Invokers, RequestLog, ServiceRoute, Verdict};
use kernel::{
    BoxFuture, Caller, Error, Principal, Resource, Result,
    call::RequestInfo,
    ports::{
        Authority, Identity, Image, Images, LogSource, LogStream, Logs, Policies, Project, Projects,
        SecretPayload, Secrets,
    },
    store::Key,
};
use run::local::{Inside, InsideSockets, Workload};
use tokio::io::AsyncWriteExt;

/// One project, in which everybody may do everything but what is denied by name.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) denied: Mutex<HashSet<&'static str>>,
    /// What the secret `turning` is, for those who may read it.
    pub(crate) turning: Mutex<Option<String>>,
}

impl Authority for World {
    fn allows(&self, _: &Principal, permission: &str, _: &Resource, _: &RequestInfo) -> bool {
        !self.denied.lock().unwrap().contains(permission)
    }
}

impl Projects for World {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Project>> {
        let found = self.known(name).ok_or_else(|| Error::not_found("no such project"));
        Box::pin(async move { found })
    }

    fn known(&self, name: &str) -> Option<Project> {
        match name {
            "demo" | "7" => Some(Project { id: "demo".into(), number: 7 }),
            "other" | "8" => Some(Project { id: "other".into(), number: 8 }),
            _ => None,
        }
    }

    fn enabled(&self, _: &str, _: &str) -> bool {
        true
    }
}

impl Policies for World {
    fn get(&self, _: &Resource, _: i32) -> Result<apis::google::iam::v1::Policy> {
        Ok(Default::default())
    }

    fn set(
        &self,
        _: &Resource,
        request: apis::google::iam::v1::SetIamPolicyRequest,
    ) -> BoxFuture<'_, Result<apis::google::iam::v1::Policy>> {
        Box::pin(async move { Ok(request.policy.unwrap_or_default()) })
    }

    fn test(
        &self,
        caller: &Caller,
        resource: &Resource,
        mut permissions: Vec<String>,
    ) -> Result<Vec<String>> {
        permissions.retain(|permission| caller.may(permission, resource));
        Ok(permissions)
    }

    fn key(&self, resource: &Resource) -> Key {
        format!("policies/{}", resource.name)
    }
}

impl Identity for World {
    fn access_token(&self, email: &str, _: &[&str]) -> BoxFuture<'_, Result<(String, Duration)>> {
        let token = format!("token of {email}");
        Box::pin(async move { Ok((token, Duration::from_secs(3600))) })
    }

    fn identity_token(&self, email: &str, audience: &str, _: bool) -> BoxFuture<'_, Result<String>> {
        let token = format!("{email} for {audience}");
        Box::pin(async move { Ok(token) })
    }

    fn verify_identity(&self, _: &str, _: &[&str]) -> Result<Principal> {
        Err(Error::unauthenticated("nobody's"))
    }

    fn exists(&self, _: &str) -> bool {
        true
    }
}

impl Secrets for World {
    fn access<'a>(&'a self, caller: &'a Caller, name: &'a str) -> BoxFuture<'a, Result<SecretPayload>> {
        assert!(matches!(caller.principal(), Principal::ServiceAccount(_)));
        let answer = match name {
            "projects/demo/secrets/tide/versions/latest" => {
                Ok(SecretPayload { version: format!("{name}!"), data: bytes::Bytes::from_static(b"high") })
            }
            "projects/demo/secrets/turning/versions/latest" => match &*self.turning.lock().unwrap() {
                Some(text) => {
                    Ok(SecretPayload { version: format!("{name}/{text}"), data: text.clone().into() })
                }
                None => Err(Error::denied("no")),
            },
            "projects/demo/secrets/locked/versions/1" => Err(Error::denied("no")),
            _ => Err(Error::not_found("no such secret")),
        };
        Box::pin(async move { answer })
    }
}

impl Invokers for World {
    fn check(&self, _: &ServiceRoute, _: &str, _: &[&str]) -> Verdict {
        Verdict::Unauthenticated
    }

    /// The world's services are everybody's.
    fn is_open(&self, _: &ServiceRoute) -> bool {
        true
    }
}

impl RequestLog for World {
    fn write<'a>(&'a self, _: &'a Batch) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

/// One database, `demo:us-central1:tide`, while its directory is there.
pub(crate) struct Databases {
    pub(crate) run: PathBuf,
}

impl Databases {
    /// Where its server listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run.join(".s.PGSQL.5432")
    }

    /// A server that says its name and then repeats what it hears.
    pub(crate) fn serve(&self, name: &'static str) -> tokio::task::JoinHandle<()> {
        std::fs::create_dir_all(&self.run).unwrap();
        let _ = std::fs::remove_file(self.socket());
        let listener = tokio::net::UnixListener::bind(self.socket()).unwrap();
        std::fs::set_permissions(self.socket(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    write.write_all(name.as_bytes()).await?;
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        })
    }
}

impl kernel::ports::Databases for Databases {
    fn socket_dir(&self, connection_name: &str) -> Option<PathBuf> {
        (connection_name == "demo:us-central1:tide" && self.run.exists()).then(|| self.run.clone())
    }

    fn resource(&self, connection_name: &str) -> Option<Resource> {
        let instance = connection_name.rsplit(':').next()?;
        Some(Resource::new("sqladmin.googleapis.com", format!("projects/demo/instances/{instance}")))
    }
}

/// An image for each mode of the app: `demo/MODE:v1`, over one layer.
pub(crate) struct Shelf {
    pub(crate) layer: PathBuf,
}

impl Images for Shelf {
    fn resolve<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Image>> {
        let mode = reference.trim_start_matches("demo/").split([':', '@']).next().unwrap_or_default();
        let found = crate::app::MODES.iter().position(|known| *known == mode).map(|number| Image {
            digest: format!("sha256:{number:064x}"),
            layers: vec![self.layer.clone()],
            entrypoint: vec!["/app".into(), "app".into()],
            command: vec![mode.into()],
            env: vec!["FROM_IMAGE=yes".into()],
            working_dir: "/".into(),
            user: "65532:65532".into(),
            ..Image::default()
        });
        let found = found.ok_or_else(|| match mode {
            "armed" => Error::invalid("the image is built for arm64, but this machine runs amd64"),
            _ => Error::not_found(format!("Image '{reference}' not found.")),
        });
        Box::pin(async move { found })
    }
}

/// Lines, with the revision and the output they came from, and the names of all containers that wrote some.
#[derive(Default)]
pub(crate) struct Notebook(
    pub(crate) Mutex<Vec<(Arc<str>, LogStream, String)>>,
    pub(crate) Mutex<BTreeSet<Arc<str>>>,
);

impl Logs for Notebook {
    fn line(&self, source: &LogSource, stream: LogStream, line: &str) {
        self.0.lock().unwrap().push((source.owner.part().clone(), stream, line.into()));
        self.1.lock().unwrap().insert(source.container.clone());
    }

    fn tail(&self, source: &LogSource, lines: usize) -> Vec<String> {
        let all = self.0.lock().unwrap();
        let its: Vec<_> = all.iter().filter(|(revision, ..)| *revision == *source.owner.part()).collect();
        its.iter().rev().take(lines).rev().map(|(_, _, line)| line.clone()).collect()
    }
}

/// Says on each of an instance's sockets whose it is.
pub(crate) struct Desk;

struct Attended(Vec<tokio::task::AbortHandle>);

impl Drop for Attended {
    fn drop(&mut self) {
        self.0.iter().for_each(|task| task.abort());
    }
}

impl Inside for Desk {
    fn open(&self, workload: &Workload, sockets: InsideSockets) -> Box<dyn Send + Sync> {
        let all = [
            ("metadata", sockets.metadata),
            ("https", sockets.https),
            ("http", sockets.http),
            ("local", sockets.local),
        ];
        let serve = all.into_iter().filter_map(|(name, listener)| {
            let text = format!("{name} of {}", workload.source.owner.name());
            let listener = listener?;
            let task = tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let _ = stream.write_all(text.as_bytes()).await;
                }
            });
            Some(task.abort_handle())
        });
        Box::new(Attended(serve.collect()))
    }

    fn leads_here(&self, host: &str) -> bool {
        host == "shop.example"
    }
}
