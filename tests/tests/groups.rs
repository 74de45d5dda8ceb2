//! Groups by gcloud: made, filled, searched, and what is granted to them.

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, have};

const FORUM: &str = "cloudidentity.googleapis.com/groups.discussion_forum";

fn identity(haar: &Haar, line: &str) -> Ran {
    haar.gcloud(&format!("identity groups {line}"))
}

fn read(ran: Ran) -> Value {
    serde_json::from_str(&ran.succeeds().stdout).expect("JSON")
}

fn may_read(haar: &Haar, who: &str) -> bool {
    let url = format!(
        "https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/tide/versions/latest:access"
    );
    haar.api_as(Some(who), "GET", &url, None)["payload"]["data"] == "aGlnaA=="
}

#[test]
fn groups_by_gcloud() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    let secrets = format!("https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets");
    let secret = json!({ "replication": { "automatic": {} } });
    haar.api("POST", &format!("{secrets}?secretId=tide"), Some(&secret));
    let version = json!({ "payload": { "data": "aGlnaA==" } });
    haar.api("POST", &format!("{secrets}/tide:addVersion"), Some(&version));

    let (crew, deck, bob) = ("crew@haar.localhost", "deck@haar.localhost", "bob@haar.localhost");
    identity(&haar, &format!("create {crew} --organization=haar.localhost --display-name=Crew")).succeeds();
    identity(&haar, &format!("create {deck} --customer=C0haar000 --with-initial-owner=empty")).succeeds();
    identity(&haar, &format!("create {deck} --customer=C0haar000")).fails_saying("because it already exists");
    let described = read(identity(&haar, &format!("describe {crew} --format=json")));
    assert_eq!(described["displayName"], "Crew", "{described}");
    identity(&haar, &format!("update {crew} --description=sails")).succeeds();
    let listed =
        haar.api("GET", "https://cloudidentity.googleapis.com/v1/groups?parent=customers/C0haar000", None);
    assert_eq!(listed["groups"][0]["description"], "sails", "{listed}");
    let search = format!("search --organization=haar.localhost --labels={FORUM} --format=json");
    assert_eq!(read(identity(&haar, &search))["groups"].as_array().map(Vec::len), Some(2));
    identity(&haar, "describe nobody@haar.localhost").fails_saying("There is no such a group");

    haar.gcloud(&format!(
        "secrets add-iam-policy-binding tide --member=group:{crew} --role=roles/secretmanager.secretAccessor"
    ))
    .succeeds();
    let memberships = |line: &str| identity(&haar, &format!("memberships {line}"));
    memberships(&format!("add --group-email={crew} --member-email={deck}")).succeeds();
    assert!(!may_read(&haar, bob));
    memberships(&format!("add --group-email={deck} --member-email={bob}")).succeeds();
    assert!(may_read(&haar, bob), "by a group in a group, with the next call");
    let more =
        format!("modify-membership-roles --group-email={deck} --member-email={bob} --add-roles=MANAGER");
    assert!(memberships(&more).succeeds().stdout.contains("MANAGER"));
    let listed = memberships(&format!("list --group-email={deck} --format=json"));
    assert!(listed.succeeds().stdout.contains(bob));
    let transitive =
        format!("check-transitive-membership --group-email={crew} --member-email={bob} --format=json");
    assert_eq!(read(memberships(&transitive))["hasMembership"], true);
    let above =
        memberships(&format!("search-transitive-groups --member-email={bob} --labels={FORUM} --format=json"));
    assert!(above.succeeds().stdout.contains("INDIRECT"));

    let below = memberships(&format!("search-transitive-memberships --group-email={crew} --format=json"));
    assert!(below.succeeds().stdout.contains(bob));
    let direct = format!(
        "https://cloudidentity.googleapis.com/v1/groups/-/memberships:searchDirectGroups?query=member_key_id=='{bob}'\
         %20%26%26%20'{FORUM}'%20in%20labels"
    );
    assert_eq!(haar.api("GET", &direct, None)["memberships"][0]["groupKey"]["id"], deck);
    let described = memberships(&format!("describe --group-email={deck} --member-email={bob} --format=json"));
    assert_eq!(read(described)["preferredMemberKey"]["id"], bob);

    memberships(&format!("delete --group-email={deck} --member-email={bob} --quiet")).succeeds();
    assert!(!may_read(&haar, bob));
    identity(&haar, &format!("delete {deck} --quiet")).succeeds();
    assert_eq!(read(identity(&haar, &search))["groups"].as_array().map(Vec::len), Some(1));
}
