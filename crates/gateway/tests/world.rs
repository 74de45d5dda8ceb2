//! A gateway with a product behind it: two methods of Secret Manager over a map, a few callers, three projects.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use apis::google::cloud::secretmanager::v1::{
    AccessSecretVersionRequest, AccessSecretVersionResponse, CreateSecretRequest, Secret, SecretPayload,
    secret_manager_service::{ACCESS_SECRET_VERSION, CREATE_SECRET},
};
use gateway::{Anonymous, Builder, Ca, Gateway, Listener, Opened};
use kernel::{
    BoxFuture, Caller, Error, Method, Mount, Principal, Resource, Result,
    call::RequestInfo,
    grant,
    method::Grant,
    ports::{Authenticator, Authority, Project, Projects},
};

pub(crate) const ACCESS: &str = "/google.cloud.secretmanager.v1.SecretManagerService/AccessSecretVersion";
pub(crate) const CREATE: &str = "/google.cloud.secretmanager.v1.SecretManagerService/CreateSecret";

const ON_VERSION: &[Grant] = &[grant("secretmanager.versions.access", "{name}")];
const ON_PARENT: &[Grant] = &[grant("secretmanager.secrets.create", "{parent}")];

struct Vault;

async fn access(
    _: Arc<Vault>,
    caller: Caller,
    request: AccessSecretVersionRequest,
) -> Result<AccessSecretVersionResponse> {
    let secret = kernel::names::parse(&request.name, ["projects", "secrets", "versions"]);
    let [_, secret, _] = secret.ok_or_else(|| Error::bad_field("name", "The name is malformed."))?;
    let data = match secret {
        "panics" => panic!("as it was told to"),
        "waits" => std::future::pending().await,
        "large" => vec![b'x'; 1 << 20],
        "whose" => caller.principal().member().unwrap_or_default().into_bytes(),
        _ => b"the very secret payload of this test, sixty-four bytes in length".to_vec(),
    };
    Ok(AccessSecretVersionResponse {
        payload: Some(SecretPayload { data: data.into(), ..Default::default() }),
        name: request.name,
    })
}

async fn create(_: Arc<Vault>, _: Caller, request: CreateSecretRequest) -> Result<Secret> {
    if request.secret_id.is_empty() || !request.parent.starts_with("projects/") {
        return Err(Error::bad_field("secret_id", "A secret needs a name."));
    }
    Ok(Secret { name: format!("{}/secrets/{}", request.parent, request.secret_id), ..Default::default() })
}

fn methods() -> Vec<Method> {
    Mount::new(Arc::new(Vault))
        .unary(ACCESS_SECRET_VERSION, ON_VERSION, access)
        .unary(CREATE_SECRET, ON_PARENT, create)
        .done()
}

pub(crate) fn owner() -> Principal {
    Principal::User("owner@example.com".into())
}

struct Tokens;

impl Authenticator for Tokens {
    fn authenticate(&self, token: &str) -> Result<Principal, Error> {
        match token {
            "owner" => Ok(owner()),
            "reader" => Ok(Principal::ServiceAccount("reader@my-project.iam.gserviceaccount.com".into())),
            _ => Err(Error::unauthenticated("Request had invalid authentication credentials.")),
        }
    }
}

/// The owner may everything; the reader may read what lies in `my-project`.
struct Rules;

impl Authority for Rules {
    fn allows(&self, who: &Principal, permission: &str, on: &Resource, _: &RequestInfo) -> bool {
        *who == owner()
            || (permission == "secretmanager.versions.access" && on.name.starts_with("projects/my-project/"))
    }
}

struct Known;

impl Projects for Known {
    fn resolve<'a>(&'a self, id_or_number: &'a str) -> BoxFuture<'a, Result<Project>> {
        let answer = match id_or_number {
            "new-project" => Ok(Project { id: "new-project".into(), number: 3 }),
            other => Err(Error::denied(format!("Permission denied on project {other}."))),
        };
        Box::pin(std::future::ready(answer))
    }

    fn known(&self, id_or_number: &str) -> Option<Project> {
        match id_or_number {
            "my-project" | "123" => Some(Project { id: "my-project".into(), number: 123 }),
            "unused-project" => Some(Project { id: "unused-project".into(), number: 456 }),
            _ => None,
        }
    }

    fn enabled(&self, project_id: &str, _: &str) -> bool {
        project_id != "unused-project"
    }
}

/// A running gateway on a port of its own.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) ca: Arc<Ca>,
    opened: Opened,
    _directory: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(|builder| builder)
    }

    /// A gateway, changed before it is built.
    pub(crate) fn with(change: impl FnOnce(Builder) -> Builder) -> World {
        let directory = tempfile::tempdir().unwrap();
        let ca = Arc::new(Ca::open(directory.path()).unwrap());
        let builder = Gateway::builder(Arc::new(Tokens), Arc::new(Rules), Arc::new(Known))
            .methods(methods())
            .anonymous(Anonymous::Owner(owner()))
            .tls(ca.clone());
        let gateway = change(builder).build().unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let opened = gateway.open(Listener::machine(socket)).unwrap();
        World { gateway, ca, opened, _directory: directory }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.opened.address()
    }
}

/// Fails a test that would otherwise hang.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it takes too long")
}
