//! Projects in a directory of their own, with policies that are small but real.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use ::projects::{Mode, Projects};
use apis::{
    Rpc,
    google::iam::v1::{Binding, Policy, SetIamPolicyRequest},
};
use kernel::{
    BoxFuture, Caller, Code, Method, Principal, Resource, Result,
    call::RequestInfo,
    clock::Clock,
    ports::{Authority, Policies},
    store::{Embedded, Key, Store},
};
use prost::Message;
use tempfile::TempDir;

pub(crate) const ADA: &str = "ada@example.com";

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) clock: Clock,
    pub(crate) projects: Arc<Projects>,
    policies: Arc<dyn Policies>,
    store: Arc<dyn Store>,
    methods: Vec<Method>,
}

impl World {
    pub(crate) async fn new(mode: Mode) -> World {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
        World::open(tempfile::tempdir().unwrap(), clock, mode).await
    }

    pub(crate) async fn open(dir: TempDir, clock: Clock, mode: Mode) -> World {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&dir.path().join("store")).unwrap());
        let projects = Projects::open(store.clone(), clock.clone(), mode).await.unwrap();
        let policies: Arc<dyn Policies> = Arc::new(PolicyMap::default());
        projects.bind(&policies);
        let methods = ::projects::methods(projects.clone());
        World { dir, clock, projects, policies, store, methods }
    }

    /// Ends the process, as far as its data is concerned, and starts it again.
    pub(crate) async fn reopen(self, mode: Mode) -> World {
        let World { dir, clock, projects, policies, mut store, methods } = self;
        drop((methods, projects, policies));
        while Arc::get_mut(&mut store).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(store);
        World::open(dir, clock, mode).await
    }

    pub(crate) fn method(&self, name: &str) -> &Method {
        self.methods.iter().find(|method| method.id.name().ends_with(name)).expect(name)
    }

    /// Calls a method with an encoded request, as the gateway does.
    pub(crate) async fn call<Q: Message, S: Message + Default>(
        &self,
        rpc: Rpc<Q, S>,
        request: Q,
    ) -> Result<S> {
        self.call_as(Allow::Everything, rpc, request).await
    }

    pub(crate) async fn call_as<Q, S>(&self, allow: Allow, rpc: Rpc<Q, S>, request: Q) -> Result<S>
    where
        Q: Message,
        S: Message + Default,
    {
        let method = self.methods.iter().find(|method| method.id == rpc.id()).expect("a served method");
        let answer = (method.handler)(caller(allow), request.encode_to_vec().into()).await?;
        Ok(S::decode(&answer[..]).unwrap())
    }
}

/// What was refused: its code and what it says.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T>) -> (Code, String) {
    let error = answer.expect_err("a refusal");
    (error.code(), error.message().to_owned())
}

/// What a caller may do.
#[derive(Clone, Copy)]
pub(crate) enum Allow {
    Everything,
    /// Everything on one project, and nothing else.
    On(&'static str),
}

impl Authority for Allow {
    fn allows(&self, _: &Principal, _: &str, resource: &Resource, _: &RequestInfo) -> bool {
        match self {
            Allow::Everything => true,
            Allow::On(project) => resource.project_id() == Some(project),
        }
    }
}

fn caller(allow: Allow) -> Caller {
    let request = RequestInfo {
        time: SystemTime::now(),
        peer: None,
        host: "cloudresourcemanager.googleapis.com".into(),
        user_agent: "test".into(),
    };
    Caller::new(Principal::User(ADA.into()), request, Arc::new(allow))
}

/// Policies by resource; a project's has an owner from the start.
#[derive(Default)]
struct PolicyMap(Mutex<BTreeMap<String, Policy>>);

impl Policies for PolicyMap {
    fn get(&self, resource: &Resource, _: i32) -> Result<Policy> {
        let members = vec!["user:owner@example.com".to_owned()];
        let owner = Binding { role: "roles/owner".into(), members, condition: None };
        let default =
            Policy { version: 1, bindings: vec![owner], etag: vec![1].into(), ..Default::default() };
        Ok(self.0.lock().unwrap().get(&resource.full_name()).cloned().unwrap_or(default))
    }

    fn set(&self, resource: &Resource, request: SetIamPolicyRequest) -> BoxFuture<'_, Result<Policy>> {
        let policy = request.policy.unwrap_or_default();
        self.0.lock().unwrap().insert(resource.full_name(), policy.clone());
        Box::pin(std::future::ready(Ok(policy)))
    }

    fn test(&self, caller: &Caller, resource: &Resource, permissions: Vec<String>) -> Result<Vec<String>> {
        Ok(permissions.into_iter().filter(|permission| caller.may(permission, resource)).collect())
    }

    fn key(&self, resource: &Resource) -> Key {
        resource.full_name()
    }
}
