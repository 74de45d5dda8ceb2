//! A Cloud SQL in directories of its own, called as the gateway calls it.

use std::{
    fs::{DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ::sql::{Config, Sql};
use apis::{
    Rpc,
    google::cloud::sql::v1beta4::{
        self as proto, sql_databases_service as databases, sql_instances_service as instances,
        sql_operations_service as operations, sql_users_service as users,
    },
};
use kernel::{
    BoxFuture, Caller, Error, Method, Principal, Resource, Result,
    call::RequestInfo,
    clock::Clock,
    operations::Operations,
    ports::{Authority, Databases, Project, Projects},
    store::{Embedded, Store},
};
use prost::Message;
use tempfile::TempDir;

pub(crate) const P: &str = "haar-test";

/// How long an operation of these tests may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    dir: TempDir,
    store: Arc<dyn Store>,
    pub(crate) sql: Arc<Sql>,
    methods: Vec<Method>,
}

impl World {
    pub(crate) async fn new() -> World {
        // Short: sockets are below it.
        World::open(tempfile::Builder::new().prefix("sql").tempdir_in("/tmp").unwrap()).await
    }

    /// Leaves everything where it stands, and gives the directory. What runs ends with its runtime.
    pub(crate) fn abandon(self) -> TempDir {
        self.dir
    }

    pub(crate) async fn open(dir: TempDir) -> World {
        // As haar has it: PostgreSQL's user may come to the sockets, and not to the data.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        let closed = dir.path().join("data");
        DirBuilder::new().recursive(true).mode(0o700).create(&closed).unwrap();
        let store = opened(&closed.join("store")).await;
        let clock = Clock::system();
        let operations = Operations::open(store.clone(), clock.clone()).await.unwrap();
        let config = Config {
            directory: closed.join("sql"),
            run_directory: dir.path().join("run"),
            postgres_directory: None,
            installed_directory: None,
        };
        let sql =
            Sql::open(config, store.clone(), clock, Arc::new(OneProject), operations.clone()).await.unwrap();
        operations.fail_unfinished().await.unwrap();
        World { dir, store, methods: ::sql::methods(sql.clone()), sql }
    }

    /// Ends haar, as far as its data is concerned, and starts it again. Nothing tells the servers.
    pub(crate) async fn reopen(self) -> World {
        let World { dir, store, sql, methods } = self;
        drop((methods, sql));
        let mut store = store;
        while Arc::get_mut(&mut store).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(store);
        World::open(dir).await
    }

    /// Leaves no server behind.
    pub(crate) async fn end(self) {
        self.sql.shut_down().await;
    }

    pub(crate) async fn call<Q: Message, S: Message + Default>(
        &self,
        rpc: Rpc<Q, S>,
        request: Q,
    ) -> Result<S> {
        let method = self.methods.iter().find(|method| method.id == rpc.id()).expect("a served method");
        let answer = (method.handler)(owner(), request.encode_to_vec().into()).await?;
        Ok(S::decode(&answer[..]).unwrap())
    }

    pub(crate) async fn insert(&self, instance: proto::DatabaseInstance) -> Result<proto::Operation> {
        let request = proto::SqlInstancesInsertRequest { project: P.into(), body: Some(instance) };
        self.call(instances::INSERT, request).await
    }

    pub(crate) async fn get(&self, id: &str) -> Result<proto::DatabaseInstance> {
        let request = proto::SqlInstancesGetRequest { project: P.into(), instance: id.into() };
        self.call(instances::GET, request).await
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<proto::Operation> {
        let request =
            proto::SqlInstancesDeleteRequest { project: P.into(), instance: id.into(), ..Default::default() };
        self.call(instances::DELETE, request).await
    }

    pub(crate) async fn patch(&self, id: &str, settings: proto::Settings) -> Result<proto::Operation> {
        let body = proto::DatabaseInstance { settings: Some(settings), ..Default::default() };
        let request = proto::SqlInstancesPatchRequest {
            project: P.into(),
            instance: id.into(),
            body: Some(body),
            ..Default::default()
        };
        self.call(instances::PATCH, request).await
    }

    pub(crate) async fn create_database(&self, id: &str, name: &str) -> Result<proto::Operation> {
        let body = Some(proto::Database { name: name.into(), ..Default::default() });
        let request = proto::SqlDatabasesInsertRequest { project: P.into(), instance: id.into(), body };
        self.call(databases::INSERT, request).await
    }

    pub(crate) async fn database_names(&self, id: &str) -> Vec<String> {
        let request = proto::SqlDatabasesListRequest { project: P.into(), instance: id.into() };
        let listed = self.call(databases::LIST, request).await.unwrap();
        listed.items.into_iter().map(|database| database.name).collect()
    }

    pub(crate) async fn create_user(&self, id: &str, name: &str, password: &str) -> Result<proto::Operation> {
        let user = proto::User { name: name.into(), password: password.into(), ..Default::default() };
        let request =
            proto::SqlUsersInsertRequest { project: P.into(), instance: id.into(), body: Some(user) };
        self.call(users::INSERT, request).await
    }

    pub(crate) async fn user_names(&self, id: &str) -> Vec<String> {
        let request = proto::SqlUsersListRequest { project: P.into(), instance: id.into() };
        let listed = self.call(users::LIST, request).await.unwrap();
        listed.items.into_iter().map(|user| user.name).collect()
    }

    /// Polls an operation until it is done, as gcloud does.
    pub(crate) async fn wait(&self, operation: proto::Operation) -> proto::Operation {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let request = proto::SqlOperationsGetRequest {
                project: P.into(),
                operation: operation.name.clone(),
                ..Default::default()
            };
            let now = self.call(operations::GET, request).await.unwrap();
            if now.status() == proto::operation::SqlOperationStatus::Done {
                return now;
            }
            assert!(tokio::time::Instant::now() < deadline, "{} takes too long", operation.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for an operation, which must not fail.
    pub(crate) async fn succeeds(&self, operation: Result<proto::Operation>) {
        let done = self.wait(operation.unwrap()).await;
        let errors: Vec<String> =
            done.error.into_iter().flat_map(|error| error.errors).map(|error| error.message).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }

    pub(crate) fn socket(&self, id: &str) -> PathBuf {
        self.sql.socket_dir(&format!("{P}:us-central1:{id}")).expect("a running instance")
    }

    /// The server's process, from the file that PostgreSQL keeps.
    pub(crate) fn pid(&self) -> i32 {
        let clusters = std::fs::read_dir(self.dir.path().join("data/sql")).unwrap();
        let cluster = clusters.flatten().next().expect("a cluster").path();
        let file = std::fs::read_to_string(cluster.join("data/postmaster.pid")).unwrap_or_default();
        file.lines().next().and_then(|pid| pid.parse().ok()).unwrap_or(0)
    }

    /// How many clusters lie on the disk.
    pub(crate) fn clusters(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("data/sql")).unwrap().count()
    }
}

/// The store, once whoever had it open has let go of it.
async fn opened(path: &Path) -> Arc<dyn Store> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match Embedded::open(path) {
            Ok(store) => return Arc::new(store),
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Connects as a workload does.
pub(crate) async fn connect(
    socket: &Path,
    user: &str,
    password: &str,
    database: &str,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(socket).user(user).password(password).dbname(database);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The newest PostgreSQL of this machine; says so where there is none.
pub(crate) fn newest(test: &str) -> Option<u32> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max();
    if found.is_none() {
        eprintln!("{test}: SKIPPED: no PostgreSQL under /usr/lib/postgresql");
    }
    found
}

fn owner() -> Caller {
    let request = RequestInfo {
        time: std::time::SystemTime::now(),
        peer: None,
        host: "sqladmin.googleapis.com".into(),
        user_agent: "tests".into(),
    };
    Caller::new(Principal::User("owner@example.com".into()), request, Arc::new(Everything))
}

struct Everything;

impl Authority for Everything {
    fn allows(&self, _: &Principal, _: &str, _: &Resource, _: &RequestInfo) -> bool {
        true
    }
}

struct OneProject;

impl Projects for OneProject {
    fn resolve<'a>(&'a self, id_or_number: &'a str) -> BoxFuture<'a, Result<Project>> {
        let found = self.known(id_or_number).ok_or_else(|| Error::not_found("No such project."));
        Box::pin(std::future::ready(found))
    }

    fn known(&self, id_or_number: &str) -> Option<Project> {
        (id_or_number == P).then(|| Project { id: P.into(), number: 123_456_789_012 })
    }

    fn enabled(&self, _: &str, _: &str) -> bool {
        true
    }
}
