//! `haar deploy`: from a folder to a URL, and what happens when there is no way.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, instances_run, run, skipped};

/// An app in one file that needs no library, and answers as its variable says.
const PLAIN: &str = r#"
import http.server, os, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (os.environ.get("SAYS", "hello") + " v1").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print("about to listen", flush=True)
http.server.HTTPServer((HOST, PORT), Answer).serve_forever()
"#;

/// A folder with one program.
fn folder(haar: &Haar, name: &str, program: &str) -> PathBuf {
    let folder = haar.home().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("main.py"), program).expect("a program");
    folder
}

fn plain(host: &str, port: &str) -> String {
    PLAIN.replace("HOST", host).replace("PORT", port)
}

fn listening() -> String {
    plain("\"0.0.0.0\"", "int(os.environ[\"PORT\"])")
}

pub(crate) fn deploy(haar: &Haar, folder: &Path, more: &[&str]) -> Ran {
    let folder = folder.to_str().expect("a path");
    haar.cli(&[&["deploy", folder, "--json"], more].concat())
}

pub(crate) fn deployed(ran: Ran) -> Value {
    serde_json::from_str(&ran.succeeds().stdout).expect("what was deployed, in JSON")
}

/// An HTTP answer: its status, and the whole of it.
fn request(address: &str, text: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream.write_all(text.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

pub(crate) fn get(haar: &Haar, url: &Value) -> (u16, String) {
    let host = url.as_str().expect("a url").trim_start_matches("http://");
    request(haar.listen(), &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

fn a_free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("its address").port()
}

#[test]
fn a_program_becomes_a_service_and_its_next_revision() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let app = folder(&haar, "tide", &listening());
    let port = a_free_port().to_string();
    let first = deployed(deploy(&haar, &app, &["--publish", &port, "--env", "SAYS=high water"]));
    assert!(get(&haar, &first["url"]).1.ends_with("high water v1"), "{first:#}");
    let door = format!("127.0.0.1:{port}");
    let published = request(&door, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(published.1.ends_with("high water v1"), "{published:?}");
    crate::bad_input::h2spec_finds_nothing_wrong_with(&door);

    fs::write(app.join("main.py"), listening().replace("v1", "v2")).expect("a new version");
    let began = Instant::now();
    let second = deployed(deploy(&haar, &app, &[]));
    println!("a second deploy took {:?}", began.elapsed());
    assert_ne!(first["revision"], second["revision"]);
    assert!(get(&haar, &second["url"]).1.ends_with("high water v2"), "variables stay: {second:#}");

    // The port is the service's own still when haar comes back.
    let mut haar = haar;
    haar.cli(&["down"]).succeeds();
    haar.up(&[]);
    let published = request(&door, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(published.1.ends_with("high water v2"), "{published:?}");
}

/// Whether somebody listens at an address, once that is as wanted or some seconds have gone by.
fn listens(door: &str, is_wanted: bool) -> bool {
    let until = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(door).is_ok() != is_wanted && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    TcpStream::connect(door).is_ok()
}

#[test]
fn a_port_is_given_back_and_nobody_has_to_read_to_the_end() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let app = folder(&haar, "tide", &listening());
    let [one, other] = [a_free_port().to_string(), a_free_port().to_string()];
    let [first, second] = [&one, &other].map(|port| format!("127.0.0.1:{port}"));
    deployed(deploy(&haar, &app, &["--publish", &one]));
    assert!(listens(&first, true));
    deployed(deploy(&haar, &app, &["--publish", &other]));
    assert!(listens(&second, true) && !listens(&first, false), "a service has one such port");
    deployed(deploy(&haar, &app, &["--publish", "none"]));
    assert!(!listens(&second, false));
    deployed(deploy(&haar, &app, &["--publish", &other]));

    // As in `haar logs tide --follow | head -1`.
    let mut logs = haar.command(&["logs", "tide", "--follow"]);
    let mut logs = logs.stdout(std::process::Stdio::piped()).spawn().expect("haar logs");
    let mut line = [0; 8];
    let mut out = logs.stdout.take().expect("its output");
    out.read_exact(&mut line).expect("a line");
    drop(out);
    assert!(logs.wait().expect("it ends").success());

    // Nothing that a service uses is removed; and the port goes with the service.
    haar.cli(&["images", "prune", "--older-than", "0"]).succeeds();
    let name = format!("run.googleapis.com/v2/projects/{PROJECT}/locations/us-central1/services/tide");
    assert_eq!(get(&haar, &haar.api("GET", &name, None)["uri"]).0, 200);
    haar.api("DELETE", &name, None);
    assert!(!listens(&second, false));
}

#[test]
fn flask_and_fastapi_are_found_out() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let flask = "from flask import Flask\napp = Flask(__name__)\n\n@app.get('/')\ndef hello():\n    return 'hello from Flask'\n";
    let fast = "from fastapi import FastAPI\napp = FastAPI()\n\n@app.get('/')\ndef hello():\n    return 'hello from FastAPI'\n";
    for (name, program, requirements, server) in
        [("flask", flask, "flask\ngunicorn\n", "gunicorn"), ("fast", fast, "fastapi\nuvicorn\n", "uvicorn")]
    {
        let app = folder(&haar, name, program);
        fs::write(app.join("requirements.txt"), requirements).expect("requirements");
        let service = deployed(deploy(&haar, &app, &[]));
        assert_eq!(service["start"][0], server, "{service:#}");
        let (status, answer) = get(&haar, &service["url"]);
        assert!(status == 200 && answer.contains("hello from F"), "{answer}");
    }
}

#[test]
fn what_cannot_be_deployed_is_refused_before_anything_is_made() {
    let haar = Haar::start();
    let empty = haar.home().join("empty");
    fs::create_dir_all(&empty).expect("a folder");
    deploy(&haar, &haar.home().join("nowhere"), &[]).fails_saying("cannot find");
    let app = folder(&haar, "tide", &listening());
    deploy(&haar, &app, &["--name", "Tide"]).fails_saying("cannot be a service's name");
    let nowhere = deploy(&haar, &app, &["--region", "atlantis1"]).fails_saying("atlantis1");
    assert!(!nowhere.stderr.contains("build"), "nothing is built for a region that is none: {nowhere:?}");
    if !instances_run(&haar) {
        return;
    }
    deploy(&haar, &empty, &[]).fails_saying("the folder is empty");
    fs::write(empty.join("notes.txt"), "not an app").expect("a file");
    deploy(&haar, &empty, &[]).fails_saying("requirements.txt");
    deployed(deploy(&haar, &app, &[]));
    let other = folder(&haar, "other", &listening());
    deploy(&haar, &other, &["--name", "tide"]).fails_saying("was deployed from");
    deployed(deploy(&haar, &other, &["--name", "tide", "--replace"]));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = taken.local_addr().expect("its address").port().to_string();
    deploy(&haar, &other, &["--name", "tide", "--publish", &port]).fails_saying("is taken by");
}

#[test]
fn an_app_that_cannot_serve_fails_its_deploy_and_the_one_before_stays() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let app = folder(&haar, "tide", &listening());
    let good = deployed(deploy(&haar, &app, &[]));
    // Cloud Run gives a container four minutes to listen; a probe that gives up sooner says the same.
    probe_for(&haar, "tide", 4);
    let failing = |program: &str, words: &str| {
        fs::write(app.join("main.py"), program).expect("a program");
        let ran = deploy(&haar, &app, &[]).fails_saying("failed to start and listen on the port");
        assert!(ran.stderr.contains(words), "its last words are missing: {ran:?}");
        assert!(ran.stderr.contains("keeps serving"), "{ran:?}");
        assert!(get(&haar, &good["url"]).1.ends_with("hello v1"), "the one before must serve");
    };
    failing("import sys; print('no water in the harbour'); sys.exit(3)", "no water in the harbour");
    failing("import nothing_of_that_name", "ModuleNotFoundError");
    failing("def (:\n    pass\n", "\"main.py\", line 1: SyntaxError: invalid syntax. The app fails once");
    failing(&plain("\"0.0.0.0\"", "9999"), "about to listen");
    failing(&plain("\"127.0.0.1\"", "int(os.environ[\"PORT\"])"), "about to listen");
    let account = format!("stranger@{PROJECT}.iam.gserviceaccount.com");
    deploy(&haar, &app, &["--service-account", &account]).fails_saying(&account);
}

/// Gives a service's next revisions a startup probe that fails after so many seconds.
fn probe_for(haar: &Haar, name: &str, seconds: u32) {
    let url =
        format!("us-central1-run.googleapis.com/v2/projects/{PROJECT}/locations/us-central1/services/{name}");
    let mut service = haar.api("GET", &url, None);
    let probe = json!({ "tcpSocket": { "port": 8080 }, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": seconds });
    service["template"]["containers"][0]["startupProbe"] = probe;
    service["template"].as_object_mut().expect("a template").remove("revision");
    let before = services(haar, name)["revision"].clone();
    let changed = haar.api("PATCH", &format!("{url}?updateMask=template"), Some(&service));
    assert!(changed["error"].is_null(), "{changed:#}");
    let until = Instant::now() + Duration::from_secs(30);
    while services(haar, name)["revision"] == before {
        assert!(Instant::now() < until, "the probe is not taken: {changed:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_service_whose_first_revision_failed_is_there_for_everybody_once_it_is_mended() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let app = folder(&haar, "tide", "import sys; sys.exit(3)");
    let failed = deploy(&haar, &app, &[]).fails_saying("mend the app");
    let failed_again = deploy(&haar, &app, &[]).fails_saying("mend the app");
    for ran in [failed, failed_again] {
        assert!(!ran.stderr.contains("keeps serving"), "there is nothing that serves: {ran:?}");
    }
    fs::write(app.join("main.py"), listening()).expect("a program");
    let mended = deployed(deploy(&haar, &app, &[]));
    assert_eq!(get(&haar, &mended["url"]).0, 200);
}

/// What the step of [`slow_folder`] becomes.
const SLOW: &str = "sleep 314159";

/// A folder whose dependencies are never installed, without a word and without a network.
fn slow_folder(haar: &Haar) -> PathBuf {
    let app = folder(haar, "slow", &listening());
    let file = |name: &str, text: &str| fs::write(app.join(name), text).expect("a file");
    fs::create_dir_all(app.join("package")).expect("a folder");
    file("requirements.txt", "./package\n");
    file("package/slow.py", "import os; os.execvp('sleep', ['sleep', '314159'])\n");
    let system = "[build-system]\nrequires = []\nbuild-backend = \"slow\"\nbackend-path = [\".\"]\n";
    file("package/pyproject.toml", system);
    app
}

#[test]
fn whoever_gives_up_ends_the_build() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let app = slow_folder(&haar);
    let scratch = haar.data().join("builds/scratch");
    let layers = haar.data().join("images/layers");
    let left = || {
        let unfinished = fs::read_dir(&layers).into_iter().flatten().flatten();
        let unfinished = unfinished.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
        fs::read_dir(&scratch).map_or(0, Iterator::count) + unfinished.count()
    };
    let installs = || !tests::processes_named(SLOW).is_empty();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    // As many as may go on at once, and one more.
    for _ in 0..3 {
        let mut deploying = haar.command(&["deploy", app.to_str().expect("a path")]).spawn().expect("haar");
        until("the build does not come so far", &installs);
        deploying.kill().and_then(|()| deploying.wait()).expect("to end it");
        until("the build goes on", &|| !installs() && left() == 0);
    }
}

/// The example, copied, so that a test may change it.
fn example(haar: &Haar) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/django");
    let to = haar.home().join("harbour-log");
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(from).arg(&to);
    run(copy).succeeds();
    to
}

/// The key that the app asks Secret Manager for, and the account that may read it.
fn prepare_key(haar: &Haar) {
    let secrets = format!("secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets");
    let secret = format!("{secrets}/django-secret-key");
    let ok = |answer: Value| assert!(answer["error"].is_null(), "{answer:#}");
    ok(haar.api(
        "POST",
        &format!("{secrets}?secretId=django-secret-key"),
        Some(&json!({ "replication": { "automatic": {} } })),
    ));
    ok(haar.api(
        "POST",
        &format!("{secret}:addVersion"),
        Some(&json!({ "payload": { "data": "dGhlIHRpZGUgaXMgb3V0" } })),
    ));
    let accounts = format!("iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts");
    ok(haar.api("POST", &accounts, Some(&json!({ "accountId": "harbour-log" }))));
    let member = format!("serviceAccount:harbour-log@{PROJECT}.iam.gserviceaccount.com");
    let policy = json!({ "policy": { "bindings": [{ "role": "roles/secretmanager.secretAccessor", "members": [member] }] } });
    ok(haar.api("POST", &format!("{secret}:setIamPolicy"), Some(&policy)));
}

/// Writes an entry as a browser would: the form with its token and its cookie.
fn write_entry(haar: &Haar, url: &Value, text: &str) -> (u16, String) {
    let host = url.as_str().expect("a url").trim_start_matches("http://");
    let (_, page) = get(haar, url);
    let between = |start: &str, end: char| {
        let from = page.find(start).unwrap_or_else(|| panic!("no {start} in {page}")) + start.len();
        page[from..].split(end).next().unwrap_or_default().to_owned()
    };
    let cookie = between("csrftoken=", ';');
    let token = between("name=\"csrfmiddlewaretoken\" value=\"", '"');
    let form = format!("csrfmiddlewaretoken={token}&text={}", text.replace(' ', "+"));
    request(
        haar.listen(),
        &format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nCookie: csrftoken={cookie}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    )
}

fn services(haar: &Haar, name: &str) -> Value {
    let status = haar.status();
    let all = status["services"].as_array().expect("services");
    all.iter().find(|service| service["name"] == name).cloned().expect("the service")
}

#[test]
fn django_goes_from_a_folder_to_a_url_with_a_database() {
    let haar = Haar::start_with(&["--idle-after", "1"]);
    if !instances_run(&haar) {
        return;
    }
    let versions: Value =
        serde_json::from_str(&haar.cli(&["sql", "list", "--json"]).succeeds().stdout).expect("versions");
    if versions["versions"].as_array().is_none_or(Vec::is_empty) {
        return skipped("PostgreSQL");
    }
    let app = example(&haar);
    prepare_key(&haar);
    let deploy_it = || deploy(&haar, &app, &["--with", "postgres"]);

    let first = deployed(deploy_it());
    let made = first["made"].to_string();
    for thing in ["instance", "database", "user", "secret", "cloudsql.client"] {
        assert!(made.contains(thing), "{thing} is not said to be made: {made}");
    }
    assert_eq!(get(&haar, &first["url"]).0, 200);
    assert_eq!(write_entry(&haar, &first["url"], "a seal on the pier").0, 302);
    let (_, page) = get(&haar, &first["url"]);
    assert!(page.contains("a seal on the pier"), "{page}");

    structured_lines_arrive(&haar);
    goes_to_zero_and_comes_back(&haar, &first["url"]);
    without_the_role_there_is_no_database(&haar, &first["url"]);
    a_failed_migration_keeps_the_revision(&haar, &app, &first);

    let second = deployed(deploy_it());
    assert_eq!(second["made"], json!([]), "a second deploy makes a revision and nothing else");
    let (_, page) = get(&haar, &second["url"]);
    assert!(page.contains("a seal on the pier"), "the rows are still there: {page}");
}

fn structured_lines_arrive(haar: &Haar) {
    let filter = "resource.labels.service_name=\"harbour-log\" AND jsonPayload.logger=\"logbook.views\"";
    let body = json!({ "resourceNames": [format!("projects/{PROJECT}")], "filter": filter });
    let listed = haar.api("POST", "logging.googleapis.com/v2/entries:list", Some(&body));
    let entry = &listed["entries"][0];
    assert_eq!(entry["severity"], "INFO", "{listed:#}");
    assert!(entry["trace"].as_str().is_some_and(|trace| trace.contains("/traces/")), "{entry:#}");
    assert_eq!(entry["jsonPayload"]["length"], 18, "{entry:#}");
}

fn goes_to_zero_and_comes_back(haar: &Haar, url: &Value) {
    await_zero(haar);
    assert_eq!(get(haar, url).0, 200, "the first request after zero");
}

fn await_zero(haar: &Haar) {
    let until = Instant::now() + Duration::from_secs(30);
    while services(haar, "harbour-log")["instances"] != 0 {
        assert!(Instant::now() < until, "it does not go to zero");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The socket is there only while the account may use it; which permission is missing stands in the log.
fn without_the_role_there_is_no_database(haar: &Haar, url: &Value) {
    let project = format!("cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}");
    let policy = haar.api("POST", &format!("{project}:getIamPolicy"), Some(&json!({})));
    let mut poorer = policy.clone();
    let bindings = poorer["bindings"].as_array_mut().expect("bindings");
    bindings.retain(|binding| binding["role"] != "roles/cloudsql.client");
    let set = |policy: &Value| {
        let mut policy = policy.clone();
        policy.as_object_mut().expect("a policy").remove("etag");
        let set = haar.api("POST", &format!("{project}:setIamPolicy"), Some(&json!({ "policy": policy })));
        assert!(set["error"].is_null(), "{set:#}");
    };
    set(&poorer);
    await_zero(haar);
    assert_eq!(get(haar, url).0, 500, "it has no database");
    let said = haar.cli(&["logs", "harbour-log", "--lines", "200"]).succeeds().stdout;
    assert!(said.contains("cloudsql.instances.connect"), "no permission is named: {said}");
    set(&policy);
    let until = Instant::now() + Duration::from_secs(10);
    while get(haar, url).0 != 200 {
        assert!(Instant::now() < until, "the database does not come back");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn a_failed_migration_keeps_the_revision(haar: &Haar, app: &Path, before: &Value) {
    let migration = app.join("logbook/migrations/0002_wrong.py");
    let wrong = "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    \
                 dependencies = [(\"logbook\", \"0001_initial\")]\n    \
                 operations = [migrations.RunSQL(\"ALTER TABLE no_such_table ADD COLUMN a int\")]\n";
    fs::write(&migration, wrong).expect("a migration");
    let ran = deploy(haar, app, &["--with", "postgres"]).fails_saying("the migration failed");
    assert!(ran.stderr.contains("no_such_table"), "the job's log is not shown: {ran:?}");
    fs::remove_file(migration).expect("to remove it again");
    assert_eq!(services(haar, "harbour-log")["revision"], before["revision"]);
    assert!(get(haar, &before["url"]).1.contains("a seal on the pier"), "the one before must serve");
}
