//! A Secret Manager in a directory of its own, with neighbours that are small but real: projects in a list,
//! policies in the same store.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ::secrets::Secrets;
use apis::{
    Rpc,
    google::{
        cloud::secretmanager::v1::{self as proto, secret_manager_service as rpc},
        iam::v1::{Policy, SetIamPolicyRequest},
    },
};
use kernel::{
    BoxFuture, Caller, Code, Error, Method, Principal, Resource, Result,
    call::RequestInfo,
    clock::Clock,
    mirror::{Mirror, Record},
    ports::{Authority, Policies, Project, Projects},
    store::{Embedded, Entry, Key, Store, Txn},
};
use prost::Message;
use tempfile::TempDir;

pub(crate) const P: &str = "projects/haar-test";
pub(crate) const NUMBER: u64 = 123_456_789_012;

/// Midnight before 2026.
pub(crate) const START: u64 = 1_767_225_600;

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) secrets: Arc<Secrets>,
    policies: Arc<dyn Policies>,
    methods: Vec<Method>,
}

impl World {
    pub(crate) async fn new() -> World {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(START));
        World::open(tempfile::tempdir().unwrap(), clock).await.unwrap()
    }

    pub(crate) async fn open(dir: TempDir, clock: Clock) -> Result<World> {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&dir.path().join("store"))?);
        let policies: Arc<dyn Policies> =
            Arc::new(StoredPolicies(Mirror::open(store.clone(), "policies/").await?));
        let keys = dir.path().join("keys");
        let projects = Arc::new(TwoProjects);
        let secrets = Secrets::open(store.clone(), &keys, clock.clone(), projects, policies.clone()).await?;
        Ok(World { dir, clock, store, methods: ::secrets::methods(secrets.clone()), secrets, policies })
    }

    /// Ends the process, as far as its data is concerned, and starts it again.
    pub(crate) async fn reopen(self) -> Result<World> {
        let (dir, clock) = self.close().await;
        World::open(dir, clock).await
    }

    /// Ends the process and leaves the directory.
    pub(crate) async fn close(self) -> (TempDir, Clock) {
        let World { dir, clock, store, secrets, methods, policies } = self;
        drop((methods, secrets, policies));
        let mut store = store;
        // Mirrors let go of the store once their tasks have noticed.
        while Arc::get_mut(&mut store).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(store);
        (dir, clock)
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
        self.call_at("secretmanager.googleapis.com", rpc, request).await
    }

    /// The same at another host.
    pub(crate) async fn call_at<Q: Message, S: Message + Default>(
        &self,
        host: &str,
        rpc: Rpc<Q, S>,
        request: Q,
    ) -> Result<S> {
        let method = self.methods.iter().find(|method| method.id == rpc.id()).expect("a served method");
        let caller = caller_at(host, Allow::Everything);
        let answer = (method.handler)(caller, request.encode_to_vec().into()).await?;
        Ok(S::decode(&answer[..]).unwrap())
    }

    pub(crate) async fn create(&self, id: &str) -> proto::Secret {
        self.create_with(id, automatic()).await.unwrap()
    }

    pub(crate) async fn create_with(&self, id: &str, secret: proto::Secret) -> Result<proto::Secret> {
        let request =
            proto::CreateSecretRequest { parent: P.into(), secret_id: id.into(), secret: Some(secret) };
        self.call(rpc::CREATE_SECRET, request).await
    }

    pub(crate) async fn get(&self, id: &str) -> Result<proto::Secret> {
        self.call(rpc::GET_SECRET, proto::GetSecretRequest { name: secret(id) }).await
    }

    pub(crate) async fn update(
        &self,
        id: &str,
        mask: &[&str],
        mut changed: proto::Secret,
    ) -> Result<proto::Secret> {
        changed.name = secret(id);
        let paths = mask.iter().map(|path| path.to_string()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        self.call(rpc::UPDATE_SECRET, proto::UpdateSecretRequest { secret: Some(changed), update_mask }).await
    }

    pub(crate) async fn delete(&self, id: &str, etag: &str) -> Result<()> {
        self.call(rpc::DELETE_SECRET, proto::DeleteSecretRequest { name: secret(id), etag: etag.into() })
            .await
    }

    pub(crate) async fn add(&self, id: &str, data: &[u8]) -> proto::SecretVersion {
        self.add_with(id, data, None).await.unwrap()
    }

    pub(crate) async fn add_with(
        &self,
        id: &str,
        data: &[u8],
        data_crc32c: Option<i64>,
    ) -> Result<proto::SecretVersion> {
        let payload = Some(proto::SecretPayload { data: data.to_vec().into(), data_crc32c });
        self.call(rpc::ADD_SECRET_VERSION, proto::AddSecretVersionRequest { parent: secret(id), payload })
            .await
    }

    pub(crate) async fn access(&self, id: &str, version: &str) -> Result<proto::AccessSecretVersionResponse> {
        let name = format!("{}/versions/{version}", secret(id));
        self.call(rpc::ACCESS_SECRET_VERSION, proto::AccessSecretVersionRequest { name }).await
    }

    /// The payload alone.
    pub(crate) async fn read(&self, id: &str, version: &str) -> Result<Vec<u8>> {
        Ok(self.access(id, version).await?.payload.unwrap().data.to_vec())
    }

    pub(crate) async fn version(&self, id: &str, version: &str) -> Result<proto::SecretVersion> {
        let name = format!("{}/versions/{version}", secret(id));
        self.call(rpc::GET_SECRET_VERSION, proto::GetSecretVersionRequest { name }).await
    }

    pub(crate) async fn enable(&self, id: &str, version: &str, etag: &str) -> Result<proto::SecretVersion> {
        let name = format!("{}/versions/{version}", secret(id));
        let request = proto::EnableSecretVersionRequest { name, etag: etag.into() };
        self.call(rpc::ENABLE_SECRET_VERSION, request).await
    }

    pub(crate) async fn disable(&self, id: &str, version: &str, etag: &str) -> Result<proto::SecretVersion> {
        let name = format!("{}/versions/{version}", secret(id));
        let request = proto::DisableSecretVersionRequest { name, etag: etag.into() };
        self.call(rpc::DISABLE_SECRET_VERSION, request).await
    }

    pub(crate) async fn destroy(&self, id: &str, version: &str, etag: &str) -> Result<proto::SecretVersion> {
        let name = format!("{}/versions/{version}", secret(id));
        let request = proto::DestroySecretVersionRequest { name, etag: etag.into() };
        self.call(rpc::DESTROY_SECRET_VERSION, request).await
    }

    pub(crate) async fn list(
        &self,
        size: i32,
        token: &str,
        filter: &str,
    ) -> Result<proto::ListSecretsResponse> {
        let (page_token, filter) = (token.into(), filter.into());
        let request = proto::ListSecretsRequest { parent: P.into(), page_size: size, page_token, filter };
        self.call(rpc::LIST_SECRETS, request).await
    }

    pub(crate) async fn list_versions(
        &self,
        id: &str,
        size: i32,
        token: &str,
        filter: &str,
    ) -> Result<proto::ListSecretVersionsResponse> {
        let (page_token, filter) = (token.into(), filter.into());
        let request =
            proto::ListSecretVersionsRequest { parent: secret(id), page_size: size, page_token, filter };
        self.call(rpc::LIST_SECRET_VERSIONS, request).await
    }

    /// The policy that decisions about a secret follow now.
    pub(crate) fn policy(&self, id: &str) -> Policy {
        let resource = Resource::new("secretmanager.googleapis.com", secret(id));
        self.policies.get(&resource, 3).unwrap()
    }

    /// Everything that the store has under a prefix.
    pub(crate) async fn stored(&self, prefix: &str) -> Vec<Entry> {
        self.store.range(prefix, "", 10_000).await.unwrap().0
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// The name a caller gives a secret.
pub(crate) fn secret(id: &str) -> String {
    format!("{P}/secrets/{id}")
}

/// The name Google shows for it.
pub(crate) fn shown(id: &str) -> String {
    format!("projects/{NUMBER}/secrets/{id}")
}

/// A secret that is replicated automatically, and nothing else.
pub(crate) fn automatic() -> proto::Secret {
    let automatic = proto::replication::Replication::Automatic(Default::default());
    let replication = Some(proto::Replication { replication: Some(automatic) });
    proto::Secret { replication, ..Default::default() }
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
    /// One permission on one resource.
    Only(&'static str, &'static str),
}

impl Authority for Allow {
    fn allows(&self, _: &Principal, permission: &str, resource: &Resource, _: &RequestInfo) -> bool {
        match self {
            Allow::Everything => true,
            Allow::Only(allowed, on) => permission == *allowed && resource.full_name() == *on,
        }
    }
}

pub(crate) fn caller(allow: Allow) -> Caller {
    caller_at("secretmanager.googleapis.com", allow)
}

fn caller_at(host: &str, allow: Allow) -> Caller {
    let request =
        RequestInfo { time: SystemTime::now(), peer: None, host: host.into(), user_agent: "test".into() };
    Caller::new(Principal::User("ada@example.com".into()), request, Arc::new(allow))
}

/// Two projects, and no more.
pub(crate) struct TwoProjects;

impl Projects for TwoProjects {
    fn resolve<'a>(&'a self, id_or_number: &'a str) -> BoxFuture<'a, Result<Project>> {
        let known = self.known(id_or_number);
        Box::pin(async move { known.ok_or_else(|| Error::not_found("Project not found.")) })
    }

    fn known(&self, id_or_number: &str) -> Option<Project> {
        match id_or_number {
            "haar-test" | "123456789012" => Some(Project { id: "haar-test".into(), number: NUMBER }),
            "haar-other" | "210987654321" => {
                Some(Project { id: "haar-other".into(), number: 210_987_654_321 })
            }
            _ => None,
        }
    }

    fn enabled(&self, _: &str, _: &str) -> bool {
        true
    }
}

/// A policy as the test's neighbour keeps it.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredPolicy {
    #[prost(message, required, tag = "1")]
    policy: Policy,
}

impl Record for StoredPolicy {
    const FORMAT: u8 = 1;
}

struct StoredPolicies(Mirror<StoredPolicy>);

impl Policies for StoredPolicies {
    fn get(&self, resource: &Resource, _: i32) -> Result<Policy> {
        Ok(self.0.get(&resource.full_name()).map(|stored| stored.policy.clone()).unwrap_or_default())
    }

    fn set(&self, resource: &Resource, request: SetIamPolicyRequest) -> BoxFuture<'_, Result<Policy>> {
        let key = self.key(resource);
        Box::pin(async move {
            let policy = request.policy.unwrap_or_default();
            let stored = StoredPolicy { policy: policy.clone() };
            self.0.commit(Txn::new().put(key, stored.to_stored())).await?;
            Ok(policy)
        })
    }

    fn test(&self, caller: &Caller, resource: &Resource, permissions: Vec<String>) -> Result<Vec<String>> {
        Ok(permissions.into_iter().filter(|permission| caller.may(permission, resource)).collect())
    }

    fn key(&self, resource: &Resource) -> Key {
        self.0.key(&resource.full_name())
    }

    fn catch_up(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.0.catch_up())
    }
}

/// Whether any file below a directory holds these bytes.
pub(crate) fn found_on_disk(dir: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => found_on_disk(&path, needle),
        false => std::fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle),
    })
}
