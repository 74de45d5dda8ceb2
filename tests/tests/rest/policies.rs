//! Organization policies in Resource Manager's first version.

use serde_json::json;
use tests::{Haar, PROJECT};

use super::{Api, names};

const ORGANIZATION: &str = "organizations/440056207318";
const KEYS: &str = "constraints/iam.disableServiceAccountKeyCreation";

#[test]
fn set_read_inherited_and_cleared() {
    let haar = Haar::start();
    let api = Api::new(&haar, "cloudresourcemanager.googleapis.com");
    let made = api.post("v3/folders", json!({ "parent": ORGANIZATION, "displayName": "Shore" }));
    let folder = made["response"]["name"].as_str().unwrap();
    let project = format!("projects/{PROJECT}");
    api.post(&format!("v3/{project}:move"), json!({ "destinationParent": folder }));
    for resource in [ORGANIZATION, folder] {
        let there = api.post(&format!("v1/{resource}:listAvailableOrgPolicyConstraints"), json!({}));
        assert!(names(&there["constraints"], "name").contains(&KEYS), "{there}");
        let policy = json!({ "policy": { "constraint": KEYS, "booleanPolicy": { "enforced": true } } });
        let set = api.post(&format!("v1/{resource}:setOrgPolicy"), policy);
        let asked = json!({ "constraint": KEYS });
        assert_eq!(api.post(&format!("v1/{resource}:getOrgPolicy"), asked.clone()), set);
        let listed = api.post(&format!("v1/{resource}:listOrgPolicies"), json!({}));
        assert_eq!(names(&listed["policies"], "constraint"), [KEYS], "{listed}");
        for at in [resource, &project] {
            let effective = api.post(&format!("v1/{at}:getEffectiveOrgPolicy"), asked.clone());
            assert_eq!(effective["booleanPolicy"]["enforced"], true, "{at}: {effective}");
        }
        api.post(&format!("v1/{resource}:clearOrgPolicy"), asked.clone());
        let effective = api.post(&format!("v1/{project}:getEffectiveOrgPolicy"), asked);
        assert_ne!(effective["booleanPolicy"]["enforced"], true, "{effective}");
    }
    let there = api.post(&format!("v1/{project}:listAvailableOrgPolicyConstraints"), json!({}));
    assert!(names(&there["constraints"], "name").contains(&KEYS), "{there}");
}
