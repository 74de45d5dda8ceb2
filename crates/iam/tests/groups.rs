use apis::google::{
    discovery::cloudidentity::v1::{groups, groups_memberships as memberships, *},
    iam::v1,
};
use kernel::{Resource, Result, ports::Authority};
use prost_types::{Struct, value::Kind};

use crate::{
    policies::{binding, replace, set},
    support::*,
};

pub(crate) const FORUM: &str = "cloudidentity.googleapis.com/groups.discussion_forum";

fn key(email: &str) -> Option<EntityKey> {
    Some(EntityKey { id: Some(email.into()), namespace: None })
}

pub(crate) fn creation(email: &str) -> GroupsCreateRequest {
    let body = Group {
        group_key: key(email),
        parent: Some("customers/C0haar000".into()),
        display_name: Some("Crew".into()),
        labels: [(FORUM.to_owned(), String::new())].into(),
        ..Group::default()
    };
    GroupsCreateRequest { initial_group_config: Some("EMPTY".into()), body: Some(body) }
}

/// A text of what an operation made.
pub(crate) fn made(operation: &Operation, field: &str) -> String {
    assert_eq!(operation.done, Some(true));
    let Struct { fields } = operation.response.as_ref().unwrap();
    match &fields[field].kind {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{field} is {other:?}"),
    }
}

/// Makes a group, and says its name.
pub(crate) async fn create(world: &World, email: &str) -> String {
    made(&world.call(world.owner(), groups::CREATE, creation(email)).await.unwrap(), "name")
}

pub(crate) async fn join(world: &World, group: &str, email: &str, role: &str) -> Result<Operation> {
    let role = MembershipRole { name: Some(role.into()), ..MembershipRole::default() };
    let body = Membership { preferred_member_key: key(email), roles: vec![role], ..Membership::default() };
    let request = GroupsMembershipsCreateRequest { parent: group.into(), body: Some(body) };
    world.call(world.owner(), memberships::CREATE, request).await
}

#[tokio::test]
async fn a_grant_to_a_group_is_a_grant_to_whoever_is_in_it_now() {
    let world = World::new().await;
    let crew = binding("roles/secretmanager.viewer", &["group:Crew@example.com"]);
    set(&world, &secret(), vec![crew]).await.unwrap();
    let may = |principal| world.allows(&principal, "secretmanager.secrets.get", &secret());
    assert!(!may(user("ada@example.com")), "a group that does not exist is empty");

    let app = "my-app-sa@demo-project.iam.gserviceaccount.com";
    world.account("my-app-sa").await;
    let (crew, deck) = (create(&world, "crew@example.com").await, create(&world, "deck@example.com").await);
    join(&world, &crew, "Ada@example.com", "MEMBER").await.unwrap();
    join(&world, &crew, "deck@example.com", "MEMBER").await.unwrap();
    join(&world, &deck, app, "MEMBER").await.unwrap();
    assert!(may(user("ADA@example.com")) && may(machine(app)) && !may(user("bob@example.com")));

    let delete = GroupsDeleteRequest { name: deck };
    world.call(world.owner(), groups::DELETE, delete).await.unwrap();
    assert!(!may(machine(app)));
    let again = world.reopened().await;
    let viewed = |who| again.allows(&who, "secretmanager.secrets.get", &secret(), &request());
    assert!(viewed(user("ada@example.com")) && !viewed(machine(app)), "after a restart too");
}

#[tokio::test]
async fn a_buckets_policy_knows_the_basic_roles_of_a_project() {
    let world = World::new().await;
    let bucket = Resource::new("storage.googleapis.com", "projects/_/buckets/shore");
    let editors = binding("roles/storage.objectViewer", &["projectEditor:demo-project"]);
    replace(&world, &bucket, v1::Policy { bindings: vec![editors], ..v1::Policy::default() }).await.unwrap();
    let ada = user("ada@example.com");
    let may = || world.allows(&ada, "storage.objects.get", &bucket);
    assert!(!may());
    set(&world, &project(), vec![binding("roles/viewer", &["user:ada@example.com"])]).await.unwrap();
    assert!(!may(), "a viewer is no editor");
    set(&world, &project(), vec![binding("roles/editor", &["user:ada@example.com"])]).await.unwrap();
    assert!(may());
}
