//! A haar's identity on a store of its own, with two projects and a clock that stands still.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::iam::{Iam, Owner};
use apis::{Rpc, google::iam::admin::v1::*};
use kernel::{
    BoxFuture, Caller, Error, Principal, Resource, Result,
    call::RequestInfo,
    clock::Clock,
    ports::{Authority, Project, Projects},
    store::{Embedded, Store, Txn},
};
use prost::Message;

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const NUMBER: u64 = 123456789012;

/// Where the demo project is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Above {
    Nothing,
    /// A folder of the organization.
    Folder,
}

struct Two(Above);

impl Projects for Two {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Project>> {
        Box::pin(async move { self.known(name).ok_or_else(|| Error::not_found("no such project")) })
    }

    fn known(&self, name: &str) -> Option<Project> {
        match name {
            "demo-project" | "123456789012" => Some(Project { id: "demo-project".into(), number: NUMBER }),
            "other-project" | "210987654321" => {
                Some(Project { id: "other-project".into(), number: 210987654321 })
            }
            _ => None,
        }
    }

    fn enabled(&self, _: &str, _: &str) -> bool {
        true
    }

    fn parent(&self, container: &str) -> Option<Arc<str>> {
        match container {
            "projects/demo-project" if self.0 == Above::Folder => Some("folders/5".into()),
            "folders/5" => Some(kernel::names::ORGANIZATION.into()),
            _ => None,
        }
    }
}

pub(crate) struct World {
    pub(crate) iam: Arc<Iam>,
    pub(crate) clock: Clock,
    store: Arc<dyn Store>,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::under(Above::Nothing).await
    }

    /// One whose demo project is in `folders/5`, in the organization.
    pub(crate) async fn in_a_folder() -> Self {
        Self::under(Above::Folder).await
    }

    async fn under(above: Above) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(dir.path()).unwrap());
        let clock = Clock::manual(UNIX_EPOCH + Duration::from_secs(NOW));
        let iam = open(&store, &clock, above).await;
        World { iam, clock, store, _dir: dir }
    }

    /// How many records the store has under a prefix.
    pub(crate) async fn stored(&self, prefix: &str) -> usize {
        self.store.range(prefix, "", 1000).await.unwrap().0.len()
    }

    /// Writes past IAM, as other parts of the program do.
    pub(crate) async fn write(&self, txn: Txn) {
        self.store.txn(txn).await.unwrap();
    }

    /// Another reading of the same store, as after a restart.
    pub(crate) async fn reopened(&self) -> Arc<Iam> {
        open(&self.store, &self.clock, Above::Nothing).await
    }

    pub(crate) fn caller(&self, principal: Principal) -> Caller {
        Caller::new(principal, request(), self.iam.clone())
    }

    pub(crate) fn owner(&self) -> Caller {
        self.caller(self.iam.owner().principal())
    }

    pub(crate) fn allows(&self, principal: &Principal, permission: &str, resource: &Resource) -> bool {
        self.iam.allows(principal, permission, resource, &request())
    }

    /// The same, at another moment.
    pub(crate) fn allows_at(
        &self,
        unix: u64,
        principal: &Principal,
        permission: &str,
        resource: &Resource,
    ) -> bool {
        let request = RequestInfo { time: UNIX_EPOCH + Duration::from_secs(unix), ..request() };
        self.iam.allows(principal, permission, resource, &request)
    }

    /// Calls a method as somebody, past the permissions that the gateway asks.
    pub(crate) async fn call<Q: Message, S: Message + Default>(
        &self,
        caller: Caller,
        rpc: Rpc<Q, S>,
        request: Q,
    ) -> Result<S> {
        let method =
            self.iam.methods().into_iter().find(|method| method.id == rpc.id()).expect("it is served");
        let answer = (method.handler)(caller, request.encode_to_vec().into()).await?;
        Ok(S::decode(answer.as_slice()).unwrap())
    }

    pub(crate) async fn account(&self, id: &str) -> ServiceAccount {
        let request = CreateServiceAccountRequest {
            name: "projects/demo-project".into(),
            account_id: id.into(),
            service_account: None,
        };
        self.call(self.owner(), iam::CREATE_SERVICE_ACCOUNT, request).await.unwrap()
    }
}

async fn open(store: &Arc<dyn Store>, clock: &Clock, above: Above) -> Arc<Iam> {
    Iam::open(store.clone(), clock.clone(), Arc::new(Two(above)), Owner::named("ada")).await.unwrap()
}

pub(crate) fn request() -> RequestInfo {
    RequestInfo { time: SystemTime::now(), peer: None, host: "".into(), user_agent: "".into() }
}

pub(crate) fn user(email: &str) -> Principal {
    Principal::User(email.into())
}

pub(crate) fn machine(email: &str) -> Principal {
    Principal::ServiceAccount(email.into())
}

pub(crate) fn project() -> Resource {
    Resource::project("demo-project")
}

pub(crate) fn secret() -> Resource {
    Resource::new("secretmanager.googleapis.com", "projects/demo-project/secrets/s")
}

pub(crate) use apis::google::iam::admin::v1::iam;
