//! The container contract: what Knative Serving's runtime contract and Google's page on Cloud Run's container contract
//! promise to a program, clause by clause, told by a program inside (`workloads/contract`).
//!
//! The clauses are those of Knative's `runtime-contract.md` that its own conformance tests check and that apply to Cloud
//! Run, which is certified by them; `Cloud Run:` marks what Google's page adds. A test breaks with the names of all the
//! clauses that do not hold. Left out is what Cloud Run leaves out: `runAsUser`, `exec` probes, ConfigMaps.
//!
//! `container` has what the program finds around it, `requests` what reaches it, `life` its start and end, `refusals`
//! what nobody may ask for.

mod container;
mod life;
mod refusals;
mod requests;

use std::{
    io::{Read, Write},
    net::TcpStream,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, instances_run};

use crate::run::{REGION, await_settled, ready};

/// A clause, and what holds the world to it.
type Clause = (&'static str, fn(&World));

/// A haar that runs the program, as a service with nothing said but its image.
struct World {
    haar: Haar,
    image: String,
    plain: String,
}

/// An answer over HTTP/1.1.
struct Answer {
    status: u16,
    /// With names in lower case.
    headers: Vec<(String, String)>,
    body: String,
}

impl World {
    /// None where instances cannot be had.
    fn new(more: &[&str]) -> Option<World> {
        let haar = Haar::start_with(more);
        if !instances_run(&haar) {
            return None;
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/contract");
        let made = crate::deploy::deployed(crate::deploy::deploy(&haar, &folder, &["--name", "plain"]));
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        Some(World { image: text("image"), plain: host(&made["url"]), haar })
    }

    /// Holds it to every clause, and names all that are broken.
    fn holds_to(&self, clauses: &[Clause]) {
        let broken = |(_, check): &&Clause| catch_unwind(AssertUnwindSafe(|| check(self))).is_err();
        let broken: Vec<&str> = clauses.iter().filter(broken).map(|(name, _)| *name).collect();
        assert!(broken.is_empty(), "these clauses do not hold: {broken:#?}");
    }

    /// Deploys the program with more to say of its container and of its template: the service, settled.
    fn deploy(&self, name: &str, container: Value, template: Value) -> Value {
        let answer = self.create(name, container, template);
        assert!(answer["error"].is_null(), "{answer:#}");
        await_settled(&self.haar, &services(name))
    }

    /// Asks for it, and no more.
    fn create(&self, name: &str, container: Value, template: Value) -> Value {
        let mut whole = json!({ "image": self.image });
        merge(&mut whole, container);
        let mut spec = json!({ "containers": [whole] });
        merge(&mut spec, template);
        let body = json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": { "name": name, "annotations": { "run.googleapis.com/invoker-iam-disabled": "true" } },
            "spec": { "template": { "spec": spec } },
        });
        self.haar.api("POST", &services(""), Some(&body))
    }

    /// The same, ready to serve: its host.
    fn serve(&self, name: &str, container: Value, template: Value) -> String {
        let service = self.deploy(name, container, template);
        assert_eq!(ready(&service)["status"], "True", "{service:#}");
        host(&service["status"]["url"])
    }

    fn delete(&self, name: &str) {
        let answer = self.haar.api("DELETE", &services(name), None);
        assert!(answer["error"].is_null(), "{answer:#}");
    }

    fn get(&self, host: &str, path: &str) -> Answer {
        self.ask(host, path, "")
    }

    fn ask(&self, host: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.haar.listen()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n")
            .expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        Answer::parse(&String::from_utf8_lossy(&answer))
    }

    /// What the program tells of its world.
    fn told(&self, host: &str) -> Value {
        let answer = self.get(host, "/");
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
    }

    /// Waits until a service's log says something.
    fn logged(&self, service: &str, text: &str) {
        eventually(&format!("{service} logs {text:?}"), || {
            self.haar.cli(&["logs", service]).stdout.contains(text)
        });
    }
}

impl Answer {
    fn parse(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let mut answer = Answer { status, headers: headers.collect(), body: body.to_owned() };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunked(body);
        }
        answer
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }
}

/// A body in chunks, without what is between them.
fn unchunked(mut rest: &str) -> String {
    let mut whole = String::new();
    while let Some((length, more)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a chunk's length");
        whole.push_str(&more[..length]);
        rest = &more[length + 2..];
    }
    whole
}

fn services(name: &str) -> String {
    let collection =
        format!("{REGION}-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services");
    format!("{collection}/{name}").trim_end_matches('/').to_owned()
}

fn host(url: &Value) -> String {
    url.as_str().expect("a URL").trim_start_matches("http://").to_owned()
}

fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { return };
    into.as_object_mut().expect("an object").extend(from);
}

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(45);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
