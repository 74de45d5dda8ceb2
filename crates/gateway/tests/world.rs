//! A gateway with products behind it: two methods of Secret Manager and one of Resource Manager, a few callers, three
//! projects.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use apis::google::{
    cloud::{
        resourcemanager::v3::{MoveProjectRequest, projects::MOVE_PROJECT},
        secretmanager::v1::{
            AccessSecretVersionRequest, AccessSecretVersionResponse, CreateSecretRequest, Secret,
            SecretPayload,
            secret_manager_service::{ACCESS_SECRET_VERSION, CREATE_SECRET},
        },
    },
    longrunning::Operation,
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

pub(crate) const MOVE: &str = "/google.cloud.resourcemanager.v3.Projects/MoveProject";

const ON_VERSION: &[Grant] = &[grant("secretmanager.versions.access", "{name}")];
const ON_PARENT: &[Grant] = &[grant("secretmanager.secrets.create", "{parent}")];

const ON_BOTH: &[Grant] = &[
    grant("resourcemanager.projects.move", "{name}"),
    grant("resourcemanager.projects.create", "{destination_parent}"),
];

#[derive(Default)]
struct Vault {
    /// How often a project was moved.
    moves: Arc<AtomicUsize>,
}

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

/// Takes whatever it is given.
async fn move_project(vault: Arc<Vault>, _: Caller, _: MoveProjectRequest) -> Result<Operation> {
    vault.moves.fetch_add(1, Ordering::Relaxed);
    Ok(Operation::default())
}

fn methods(moves: Arc<AtomicUsize>) -> Vec<Method> {
    Mount::new(Arc::new(Vault { moves }))
        .unary(ACCESS_SECRET_VERSION, ON_VERSION, access)
        .unary(CREATE_SECRET, ON_PARENT, create)
        .unary(MOVE_PROJECT, ON_BOTH, move_project)
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

/// The owner may everything; the reader may read what lies in `my-project`, and take projects away from where they are.
struct Rules;

impl Authority for Rules {
    fn allows(&self, who: &Principal, permission: &str, on: &Resource, _: &RequestInfo) -> bool {
        *who == owner()
            || (permission == "secretmanager.versions.access" && on.name.starts_with("projects/my-project/"))
            || permission == "resourcemanager.projects.move"
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
    moves: Arc<AtomicUsize>,
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
        let moves = Arc::new(AtomicUsize::new(0));
        let builder = Gateway::builder(Arc::new(Tokens), Arc::new(Rules), Arc::new(Known))
            .methods(methods(moves.clone()))
            .anonymous(Anonymous::Owner(owner()))
            .tls(ca.clone());
        let gateway = change(builder).build().unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let opened = gateway.open(Listener::machine(socket)).unwrap();
        World { gateway, ca, moves, opened, _directory: directory }
    }

    /// How often a project was moved.
    pub(crate) fn moves(&self) -> usize {
        self.moves.load(Ordering::Relaxed)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.opened.address()
    }
}

/// Fails a test that would otherwise hang.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it takes too long")
}
