//! Resource Manager, versions 1 and 3, and Service Usage.

use serde_json::{Value, json};
use tests::{Haar, PROJECT};

use super::{Api, names};

const ORGANIZATION: &str = "organizations/440056207318";
const HOST: &str = "cloudresourcemanager.googleapis.com";

fn folder(api: &Api, parent: &str, name: &str) -> String {
    let made = api.post("v3/folders", json!({ "parent": parent, "displayName": name }));
    assert_eq!(made["done"], true, "{made}");
    made["response"]["name"].as_str().expect("a name").to_owned()
}

#[test]
fn folders_from_made_to_gone_and_back() {
    let haar = Haar::start();
    let api = Api::new(&haar, HOST);
    let (shore, sea) = (folder(&api, ORGANIZATION, "Shore"), folder(&api, ORGANIZATION, "Sea"));
    let got = api.get(&format!("v3/{shore}"));
    assert_eq!((&got["displayName"], &got["state"]), (&json!("Shore"), &json!("ACTIVE")));
    let listed = api.get(&format!("v3/folders?parent={ORGANIZATION}"));
    assert_eq!(names(&listed["folders"], "displayName").len(), 2, "{listed}");
    let found = api.get("v3/folders:search");
    assert_eq!(names(&found["folders"], "name").len(), 2, "{found}");
    let found = api.get("v3/folders:search?query=displayName%3DSh*");
    assert_eq!(names(&found["folders"], "displayName"), ["Shore"]);
    let found =
        api.post("v2/folders:search", json!({ "query": "displayName=Sea AND lifecycleState=ACTIVE" }));
    assert_eq!(names(&found["folders"], "displayName"), ["Sea"]);
    assert_eq!(
        api.refusal("POST", "v2/folders:search", Some(json!({ "query": "size=3" }))),
        "INVALID_ARGUMENT"
    );

    let change = json!({ "displayName": "Beach" });
    api.call("PATCH", &format!("v3/{shore}?updateMask=displayName"), Some(change));
    api.post(&format!("v3/{shore}:move"), json!({ "destinationParent": sea }));
    let moved = api.get(&format!("v3/{shore}"));
    assert_eq!((&moved["displayName"], moved["parent"].as_str()), (&json!("Beach"), Some(&*sea)));
    assert_eq!(api.refusal("DELETE", &format!("v3/{sea}"), None), "FAILED_PRECONDITION", "it is not empty");
    api.delete(&format!("v3/{shore}"));
    assert_eq!(api.get(&format!("v3/{shore}"))["state"], "DELETE_REQUESTED");
    api.post(&format!("v3/{shore}:undelete"), json!({}));
    assert_eq!(api.get(&format!("v3/{shore}"))["state"], "ACTIVE");
}

#[test]
fn folders_and_the_organization_have_policies() {
    let haar = Haar::start();
    let api = Api::new(&haar, HOST);
    let shore = folder(&api, ORGANIZATION, "Shore");
    let roles = json!([{ "role": "roles/viewer", "members": ["user:ada@example.com"] }]);
    for (version, resource) in [("v3", &*shore), ("v2", &*shore), ("v3", ORGANIZATION), ("v1", ORGANIZATION)]
    {
        let before = api.post(&format!("{version}/{resource}:getIamPolicy"), json!({}));
        let policy = json!({ "policy": { "bindings": roles, "etag": before["etag"] } });
        let set = api.post(&format!("{version}/{resource}:setIamPolicy"), policy.clone());
        assert_eq!(set["bindings"], roles, "{set}");
        assert_eq!(api.post(&format!("{version}/{resource}:getIamPolicy"), json!({})), set);
        let stale = api.refusal("POST", &format!("{version}/{resource}:setIamPolicy"), Some(policy));
        assert_eq!(stale, "ABORTED", "{resource}");
        let asked =
            json!({ "permissions": ["resourcemanager.folders.get", "resourcemanager.organizations.get"] });
        let may = api.post(&format!("{version}/{resource}:testIamPermissions"), asked);
        assert!(!may["permissions"].as_array().unwrap().is_empty(), "{may}");
    }
}

#[test]
fn the_organization_is_found() {
    let haar = Haar::start();
    let api = Api::new(&haar, HOST);
    assert_eq!(api.get(&format!("v3/{ORGANIZATION}"))["displayName"], "haar.localhost");
    assert_eq!(api.get(&format!("v1/{ORGANIZATION}"))["displayName"], "haar.localhost");
    assert_eq!(names(&api.get("v3/organizations:search")["organizations"], "name"), [ORGANIZATION]);
    let ancestors = api.post(&format!("v1/projects/{PROJECT}:getAncestry"), json!({}));
    let kinds: Vec<&Value> =
        ancestors["ancestor"].as_array().unwrap().iter().map(|one| &one["resourceId"]["type"]).collect();
    assert_eq!(kinds, ["project", "organization"]);
}

#[test]
fn projects_from_made_to_gone_and_back() {
    let haar = Haar::start();
    let api = Api::new(&haar, HOST);
    let made = api.post(
        "v3/projects",
        json!({ "projectId": "ebb-tide", "displayName": "Neap tide", "parent": ORGANIZATION }),
    );
    assert_eq!(made["response"]["projectId"], "ebb-tide", "{made}");
    let change = json!({ "displayName": "Ebb tide", "labels": { "moon": "new" } });
    api.call("PATCH", "v3/projects/ebb-tide?updateMask=displayName,labels", Some(change));
    let sea = folder(&api, ORGANIZATION, "Sea");
    api.post("v3/projects/ebb-tide:move", json!({ "destinationParent": sea }));
    let listed = api.get(&format!("v3/projects?parent={sea}"));
    assert_eq!(names(&listed["projects"], "displayName"), ["Ebb tide"]);
    let found = api.get("v3/projects:search?query=labels.moon:new");
    assert_eq!(names(&found["projects"], "projectId"), ["ebb-tide"], "{found}");
    api.delete("v3/projects/ebb-tide");
    assert_eq!(api.get("v3/projects/ebb-tide")["state"], "DELETE_REQUESTED");
    api.post("v3/projects/ebb-tide:undelete", json!({}));
    assert_eq!(api.get("v3/projects/ebb-tide")["state"], "ACTIVE");
}

#[test]
fn projects_in_the_first_version() {
    let haar = Haar::start();
    let api = Api::new(&haar, HOST);
    let made = api.post("v1/projects", json!({ "projectId": "ebb-tide", "name": "Neap tide" }));
    let operation = made["name"].as_str().unwrap();
    assert_eq!(api.get(&format!("v1/{operation}"))["response"]["projectId"], "ebb-tide");
    api.call("PUT", "v1/projects/ebb-tide", Some(json!({ "name": "Ebb tide", "labels": { "moon": "new" } })));
    let listed = api.get("v1/projects?filter=labels.moon:new");
    assert_eq!(names(&listed["projects"], "name"), ["Ebb tide"], "{listed}");
    let asked = json!({ "permissions": ["resourcemanager.projects.get", "resourcemanager.projects.delete"] });
    assert_eq!(api.post("v1/projects/ebb-tide:testIamPermissions", asked.clone()), asked);
    api.delete("v1/projects/ebb-tide");
    assert_eq!(api.get("v1/projects/ebb-tide")["lifecycleState"], "DELETE_REQUESTED");
    api.post("v1/projects/ebb-tide:undelete", json!({}));
    assert_eq!(api.get("v1/projects/ebb-tide")["lifecycleState"], "ACTIVE");
}

#[test]
fn services_are_switched_off_and_on() {
    let haar = Haar::start();
    let api = Api::new(&haar, "serviceusage.googleapis.com");
    let services = format!("v1/projects/{PROJECT}/services");
    let secrets = format!("{services}/secretmanager.googleapis.com");
    api.post(&format!("{secrets}:disable"), json!({}));
    assert_eq!(api.get(&secrets)["state"], "DISABLED");
    let listing = Api::new(&haar, "secretmanager.googleapis.com");
    let list = format!("v1/projects/{PROJECT}/secrets");
    assert_eq!(listing.refusal("GET", &list, None), "PERMISSION_DENIED");
    api.post(&format!("{secrets}:enable"), json!({}));
    assert_eq!(listing.get(&list), json!({}));
    let both = ["run.googleapis.com", "sqladmin.googleapis.com"];
    let enabled = api.post(&format!("{services}:batchEnable"), json!({ "serviceIds": both }));
    assert_eq!(enabled["done"], true, "{enabled}");
    let wanted: Vec<String> =
        both.iter().map(|service| format!("names=projects/{PROJECT}/services/{service}")).collect();
    let got = api.get(&format!("{services}:batchGet?{}", wanted.join("&")));
    assert_eq!(names(&got["services"], "state"), ["ENABLED", "ENABLED"], "{got}");
}
