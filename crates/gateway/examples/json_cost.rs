//! What JSON costs: a Cloud Run service in and out, and the way to its method, beside a general codec.
//!
//! `cargo run --release -p gateway --example json_cost`

use std::{hint::black_box, time::Instant};

use apis::schema::{Message, MethodId};
use gateway::{
    json::{Layout, Limits, Options, decode, encode},
    rest::Router,
};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

const NAME: &str = "google.cloud.run.v2.Service";

/// A service such as people deploy, of about 3 KB.
fn service() -> String {
    let env: Vec<_> = (0..14)
        .map(|n| match n % 3 {
            0 => format!(
                r#"{{"name": "SECRET_{n}", "valueSource": {{"secretKeyRef": {{"secret": "secret-{n}", "version": "latest"}}}}}}"#
            ),
            _ => format!(r#"{{"name": "VARIABLE_{n}", "value": "a value with \"quotes\" number {n}"}}"#),
        })
        .collect();
    format!(
        r#"{{
  "name": "projects/my-project/locations/us-central1/services/hello",
  "description": "A service that says hello",
  "uid": "0f6a2c3e-1111-2222-3333-444455556666",
  "generation": "42",
  "labels": {{"team": "web", "env": "prod", "cost-center": "1234"}},
  "annotations": {{"run.googleapis.com/launch-stage": "GA", "note": "kept by hand"}},
  "createTime": "2024-05-01T10:20:30.123456Z",
  "updateTime": "2024-06-01T10:20:30.654321Z",
  "creator": "someone@example.com",
  "client": "gcloud",
  "clientVersion": "528.0.0",
  "ingress": "INGRESS_TRAFFIC_ALL",
  "launchStage": "GA",
  "template": {{
    "labels": {{"a": "b"}},
    "scaling": {{"minInstanceCount": 1, "maxInstanceCount": 100}},
    "timeout": "300s",
    "serviceAccount": "hello@my-project.iam.gserviceaccount.com",
    "maxInstanceRequestConcurrency": 80,
    "containers": [{{
      "name": "app",
      "image": "us-central1-docker.pkg.dev/my-project/repo/hello@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      "command": ["/bin/server"],
      "args": ["--port", "8080", "--verbose"],
      "env": [{}],
      "resources": {{"limits": {{"cpu": "1000m", "memory": "512Mi"}}, "cpuIdle": true, "startupCpuBoost": true}},
      "ports": [{{"name": "http1", "containerPort": 8080}}],
      "volumeMounts": [{{"name": "cloudsql", "mountPath": "/cloudsql"}}],
      "startupProbe": {{"timeoutSeconds": 240, "periodSeconds": 240, "failureThreshold": 1, "tcpSocket": {{"port": 8080}}}}
    }}],
    "volumes": [{{"name": "cloudsql", "cloudSqlInstance": {{"instances": ["my-project:us-central1:db"]}}}}]
  }},
  "traffic": [{{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}}],
  "conditions": [
    {{"type": "RoutesReady", "state": "CONDITION_SUCCEEDED", "lastTransitionTime": "2024-06-01T10:20:30.654321Z"}},
    {{"type": "ConfigurationsReady", "state": "CONDITION_SUCCEEDED", "lastTransitionTime": "2024-06-01T10:20:29.1Z"}}
  ],
  "etag": "\"CLDd5K8GEOCx9esB/cHJvamVjdHMvbXktcHJvamVjdA\""
}}"#,
        env.join(", ")
    )
}

fn pool() -> DescriptorPool {
    let mut set = prost_types::FileDescriptorSet::default();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../apis/tables")).expect("tables") {
        let bytes = std::fs::read(entry.expect("a table").path()).expect("a table");
        set.merge(bytes.as_slice()).expect("a descriptor set");
    }
    set.file.sort_by(|a, b| a.name.cmp(&b.name));
    set.file.dedup_by(|a, b| a.name == b.name);
    DescriptorPool::from_file_descriptor_set(set).expect("a whole set")
}

/// The shortest time of a call over several rounds, in microseconds: what others do at the same time only adds.
fn time<T>(name: &str, mut call: impl FnMut() -> T) -> f64 {
    const CALLS: u32 = 2000;
    let best = (0..15)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..CALLS {
                black_box(call());
            }
            started.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:<42} {best:9.3} µs");
    best
}

fn reference_read(kind: &MessageDescriptor, json: &str) -> Vec<u8> {
    let mut text = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(kind.clone(), &mut text).expect("a service").encode_to_vec()
}

fn reference_write(kind: &MessageDescriptor, bytes: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&DynamicMessage::decode(kind.clone(), bytes).expect("a service")).expect("a service")
}

fn main() {
    let message = Message::by_name(NAME).expect("a table");
    let kind = pool().get_message_by_name(NAME).expect("a descriptor");
    let json = service();
    let bytes = decode(message, json.as_bytes(), Limits::default()).expect("a service");
    println!("{NAME}: {} bytes of JSON, {} of protobuf\n", json.len(), bytes.len());

    let ours = time("read, ours", || decode(message, json.as_bytes(), Limits::default()));
    let theirs = time("read, prost-reflect", || reference_read(&kind, &json));
    println!("{:>42} {:9.1} x\n", "", theirs / ours);

    let write = |layout| {
        let mut out = Vec::new();
        encode(message, &bytes, &Options { layout, ..Options::default() }, &mut out).map(|()| out)
    };
    let ours = time("write, ours", || write(Layout::Compact));
    time("write, ours, laid out for people", || write(Layout::Pretty));
    let theirs = time("write, prost-reflect", || reference_write(&kind, &bytes));
    println!("{:>42} {:9.1} x\n", "", theirs / ours);

    let methods: Vec<_> = MethodId::all().collect();
    let started = Instant::now();
    let router = Router::new(&methods);
    println!("a router over {} methods is built in {:?}", methods.len(), started.elapsed());
    let path = "/v1/projects/my-project/secrets/my-secret/versions/latest:access";
    time("route, by host", || {
        router.find("secretmanager.googleapis.com", "GET", path).map(|found| found.method)
    });
    time("route, by region's host", || {
        router
            .find("us-central1-run.googleapis.com", "GET", "/v2/projects/p/locations/l/services/s")
            .map(|f| f.method)
    });
    time("route, no host", || router.find("localhost", "GET", path).map(|found| found.method));
}
