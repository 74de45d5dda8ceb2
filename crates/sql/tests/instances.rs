//! The life of an instance: from nothing to rows in a table, through haar's ends, to nothing again.

use std::time::Duration;

use apis::google::cloud::sql::{
    v1,
    v1beta4::{
        self as proto, DatabaseInstance, Settings, SqlDatabaseVersion, database_instance::SqlInstanceState,
        sql_connect_service as connects, sql_databases_service as databases, sql_users_service as users,
    },
};
use kernel::{Code, ports::Databases};

use crate::world::{P, World, connect, newest};

pub(crate) fn instance(id: &str, major: u32) -> DatabaseInstance {
    let version = SqlDatabaseVersion::from_str_name(&format!("POSTGRES_{major}")).unwrap();
    let tier = if major < 16 { "db-f1-micro" } else { "db-perf-optimized-N-2" };
    DatabaseInstance {
        name: id.into(),
        database_version: version as i32,
        settings: Some(Settings { tier: tier.into(), ..Default::default() }),
        root_password: "root secret".into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_from_its_creation_to_its_end() {
    let Some(major) = newest("an_instance_from_its_creation_to_its_end") else { return };
    let world = World::new().await;
    let operation = world.insert(instance("db", major)).await.unwrap();
    assert_eq!((&*operation.kind, &*operation.target_id), ("sql#operation", "db"));
    assert_eq!(world.get("db").await.unwrap().state(), SqlInstanceState::PendingCreate);
    let early = world.create_database("db", "early").await.unwrap_err();
    assert_eq!(early.message(), "Invalid request: Invalid request since instance is not running.");
    assert_eq!(world.insert(instance("db", major)).await.unwrap_err().code(), Code::AlreadyExists);
    world.succeeds(Ok(operation)).await;

    is_shown_as_google_shows_it(&world, major).await;
    databases_and_users_can_be_used(&world).await;
    what_is_in_use_or_missing_is_refused(&world).await;
    let world = haar_ends_and_comes_back(world).await;
    a_killed_server_is_started_again(&world).await;
    new_flags_restart_the_server(&world).await;

    let socket = world.socket("db");
    world.succeeds(world.delete("db").await).await;
    assert_eq!(world.get("db").await.unwrap_err().message(), "The Cloud SQL instance does not exist.");
    assert_eq!((world.clusters(), socket.exists()), (0, false), "nothing is left");
}

async fn is_shown_as_google_shows_it(world: &World, major: u32) {
    let shown = world.get("db").await.unwrap();
    assert_eq!(shown.state(), SqlInstanceState::Runnable);
    assert_eq!(shown.connection_name, format!("{P}:us-central1:db"));
    assert!(shown.database_installed_version.starts_with(&format!("POSTGRES_{major}_")));
    assert_eq!(shown.root_password, "", "no password is shown");
    let request = v1::SqlInstancesGetRequest { project: P.into(), instance: "db".into() };
    let newer = world.call(v1::sql_instances_service::GET, request).await.unwrap();
    assert_eq!(newer.connection_name, shown.connection_name);
    let request =
        proto::GetConnectSettingsRequest { project: P.into(), instance: "db".into(), read_time: None };
    let settings = world.call(connects::GET_CONNECT_SETTINGS, request).await.unwrap();
    assert_eq!((settings.database_version, &*settings.region), (shown.database_version, "us-central1"));
}

async fn databases_and_users_can_be_used(world: &World) {
    world.succeeds(world.create_database("db", "app").await).await;
    world.succeeds(world.create_user("db", "django", "it's \"secret\"").await).await;
    assert_eq!(world.database_names("db").await, ["app", "postgres"]);
    assert_eq!(world.user_names("db").await, ["django", "postgres"]);

    let socket = world.socket("db");
    let client = connect(&socket, "django", "it's \"secret\"", "app").await.unwrap();
    client.batch_execute("CREATE TABLE rows (n int); INSERT INTO rows VALUES (7)").await.unwrap();
    assert_eq!(client.query_one("SELECT n FROM rows", &[]).await.unwrap().get::<_, i32>(0), 7);
    let wrong = connect(&socket, "django", "wrong", "app").await.expect_err("a refusal");
    assert_eq!(wrong.code().unwrap().code(), "28P01", "invalid_password");
    connect(&socket, "postgres", "root secret", "postgres").await.unwrap();
    assert!(connect(&socket, "cloudsqladmin", "root secret", "postgres").await.is_err());

    let body = Some(proto::User { password: "other".into(), ..Default::default() });
    let request = proto::SqlUsersUpdateRequest {
        project: P.into(),
        instance: "db".into(),
        name: "django".into(),
        body,
        ..Default::default()
    };
    world.succeeds(world.call(users::UPDATE, request).await).await;
    connect(&socket, "django", "other", "app").await.unwrap();
}

async fn what_is_in_use_or_missing_is_refused(world: &World) {
    let twice = world.create_database("db", "app").await.unwrap_err();
    assert_eq!(
        twice.message(),
        "Invalid request: failed to create database app. Detail: pq: database \"app\" already exists"
    );
    let request = proto::SqlUsersDeleteRequest {
        project: P.into(),
        instance: "db".into(),
        name: "django".into(),
        ..Default::default()
    };
    let owner = world.call(users::DELETE, request.clone()).await.unwrap_err();
    assert!(owner.message().starts_with(
        "Invalid request: failed to delete user django: . role \"django\" cannot be dropped because some objects \
         depend on it Details: "
    ));
    let admin = proto::SqlUsersDeleteRequest { name: "cloudsqladmin".into(), ..request };
    assert_eq!(world.call(users::DELETE, admin).await.unwrap_err().code(), Code::NotFound);
    let request = proto::SqlDatabasesDeleteRequest {
        project: P.into(),
        instance: "db".into(),
        database: "none".into(),
    };
    assert_eq!(world.call(databases::DELETE, request).await.unwrap_err().code(), Code::NotFound);
}

async fn haar_ends_and_comes_back(world: World) -> World {
    let (pid, socket) = (world.pid(), world.socket("db"));
    let client = connect(&socket, "django", "other", "app").await.unwrap();
    let world = world.reopen().await;
    assert_eq!(client.query_one("SELECT n FROM rows", &[]).await.unwrap().get::<_, i32>(0), 7, "still there");
    assert_eq!((world.pid(), world.socket("db")), (pid, socket), "the same server");
    assert_eq!(world.database_names("db").await, ["app", "postgres"]);
    world
}

async fn a_killed_server_is_started_again(world: &World) {
    // The task that watches the server begins a moment after haar has come back.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let pid = rustix::process::Pid::from_raw(world.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while connect(&world.socket("db"), "django", "other", "app").await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "it is not started again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(world.pid(), pid.as_raw_nonzero().get());
}

async fn new_flags_restart_the_server(world: &World) {
    let flag = proto::DatabaseFlags { name: "work_mem".into(), value: "5MB".into() };
    let labels = [("team".to_owned(), "blue".to_owned())].into();
    let settings = Settings { database_flags: vec![flag], user_labels: labels, ..Default::default() };
    world.succeeds(world.patch("db", settings).await).await;
    let client = connect(&world.socket("db"), "django", "other", "app").await.unwrap();
    assert_eq!(client.query_one("SHOW work_mem", &[]).await.unwrap().get::<_, String>(0), "5MB");
    let shown = world.get("db").await.unwrap().settings.unwrap();
    assert_eq!((shown.settings_version, &*shown.user_labels["team"]), (Some(2), "blue"));
}

#[tokio::test]
async fn a_version_that_is_not_here_fails_and_says_what_is() {
    let world = World::new().await;
    let operation = world.insert(instance("old", 10)).await.unwrap();
    let done = world.wait(operation).await;
    let message = &done.error.as_ref().expect("a failure").errors[0].message;
    assert!(message.contains("PostgreSQL 10 is not on this machine"), "{message}");
    assert!(message.contains("haar sql install 10"), "{message}");
    assert_eq!(world.get("old").await.unwrap().state(), SqlInstanceState::Failed);
    assert_eq!(world.sql.socket_dir(&format!("{P}:us-central1:old")), None);
    world.succeeds(world.delete("old").await).await;
    world.end().await;
}

#[tokio::test]
async fn what_may_not_be_is_refused_at_once() {
    let world = World::new().await;
    let refused = async |change: &dyn Fn(&mut DatabaseInstance)| {
        let mut wanted = instance("db", 15);
        change(&mut wanted);
        world.insert(wanted).await.unwrap_err()
    };
    let mysql = refused(&|wanted| wanted.set_database_version(SqlDatabaseVersion::Mysql80)).await;
    assert!(mysql.message().contains("only PostgreSQL is"), "{mysql}");
    let named = refused(&|wanted| wanted.name = "Db".into()).await;
    assert_eq!(named.message(), "Invalid request: Invalid instance name (Db).");
    let replica = refused(&|wanted| wanted.master_instance_name = "other".into()).await;
    assert_eq!(replica.message(), "Invalid request: A replica is not implemented here.");
    let nowhere = refused(&|wanted| wanted.region = "../..".into()).await;
    assert_eq!(nowhere.code(), Code::InvalidArgument);
    assert_eq!(world.get("db").await.unwrap_err().code(), Code::NotFound);
    let request = proto::GenerateEphemeralCertRequest { project: P.into(), ..Default::default() };
    let refused = world.call(connects::GENERATE_EPHEMERAL_CERT, request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    world.end().await;
}
