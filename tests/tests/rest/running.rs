//! Cloud Run: jobs' policies and tasks, revisions, and the operations that all products share.

use serde_json::{Value, json};
use tests::{Haar, PROJECT, instances_run};

use super::{Api, names};

const REGION: &str = "us-central1";

/// Waits for an operation of version 2.
fn done(api: &Api, operation: &Value) -> Value {
    let name = operation["name"].as_str().expect("a name");
    let ended = api.post(&format!("v2/{name}:wait"), json!({ "timeout": "60s" }));
    assert!(ended["done"] == true && ended["error"].is_null(), "{ended}");
    ended["response"].clone()
}

#[test]
fn jobs_and_their_tasks() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let api = Api::new(&haar, "run.googleapis.com");
    let jobs = format!("v2/projects/{PROJECT}/locations/{REGION}/jobs");
    let image = json!({ "image": "us-docker.pkg.dev/cloudrun/container/job" });
    let job = json!({ "template": { "template": { "containers": [image] } } });
    done(&api, &api.post(&format!("{jobs}?jobId=tide"), job));
    assert_eq!(names(&api.get(&jobs)["jobs"], "name").len(), 1);
    let execution = done(&api, &api.post(&format!("{jobs}/tide:run"), json!({})));
    let execution = execution["name"].as_str().unwrap();
    let tasks = api.get(&format!("v2/{execution}/tasks"));
    let task = api.get(&format!("v2/{}", names(&tasks["tasks"], "name")[0]));
    assert_eq!(
        (&task["index"], &task["lastAttemptResult"]["exitCode"]),
        (&Value::Null, &Value::Null),
        "{task}"
    );
    assert!(task["completionTime"].is_string(), "{task}");
    let short = names(&tasks["tasks"], "name")[0].rsplit('/').next().unwrap();
    let regional = Api::new(&haar, "us-central1-run.googleapis.com");
    let knative = regional.get(&format!("apis/run.googleapis.com/v1/namespaces/{PROJECT}/tasks/{short}"));
    assert_eq!(knative["metadata"]["name"], short, "{knative}");

    for version in ["v2", "v1"] {
        let resource = format!("{version}/projects/{PROJECT}/locations/{REGION}/jobs/tide");
        let roles =
            json!([{ "role": "roles/run.invoker", "members": [format!("user:{version}@example.com")] }]);
        let set = api.post(&format!("{resource}:setIamPolicy"), json!({ "policy": { "bindings": roles } }));
        assert_eq!(set["bindings"], roles);
        assert_eq!(api.get(&format!("{resource}:getIamPolicy")), set);
        let asked = json!({ "permissions": ["run.jobs.run"] });
        assert_eq!(api.post(&format!("{resource}:testIamPermissions"), asked.clone()), asked);
    }
}

#[test]
fn services_their_revisions_and_operations() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let api = Api::new(&haar, "run.googleapis.com");
    let place = format!("projects/{PROJECT}/locations/{REGION}");
    let service =
        json!({ "template": { "containers": [{ "image": "us-docker.pkg.dev/cloudrun/container/hello" }] } });
    let operation = api.post(&format!("v2/{place}/services?serviceId=tide"), service);
    let made = done(&api, &operation);
    let revision = api.get(&format!("v2/{}", made["latestReadyRevision"].as_str().unwrap()));
    assert_eq!(revision["service"], "tide", "{revision}");
    let knative = api.get(&format!("v1/{place}/revisions"));
    assert_eq!(knative["items"].as_array().unwrap().len(), 1, "{knative}");
    for version in ["v2", "v1"] {
        let asked = json!({ "permissions": ["run.services.get", "run.routes.invoke"] });
        let may = api.post(&format!("{version}/{place}/services/tide:testIamPermissions"), asked.clone());
        assert_eq!(may, asked, "{version}");
    }
    let listed = api.get(&format!("v2/{place}/operations"));
    assert!(
        names(&listed["operations"], "name").contains(&operation["name"].as_str().expect("a name")),
        "{listed}"
    );
    api.delete(&format!("v2/{}", operation["name"].as_str().expect("a name")));
    let gone = api.refusal("GET", &format!("v2/{}", operation["name"].as_str().expect("a name")), None);
    assert_eq!(gone, "NOT_FOUND");
}

#[test]
fn places_are_named() {
    let haar = Haar::start();
    let api = Api::new(&haar, "secretmanager.googleapis.com");
    let place = format!("projects/{PROJECT}/locations/{REGION}");
    assert_eq!(api.get(&format!("v1/{place}"))["locationId"], REGION);
}
