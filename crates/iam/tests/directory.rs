use apis::google::discovery::cloudidentity::v1::{groups, groups_memberships as memberships, *};
use kernel::{Code, Result};
use prost_types::{Struct, value::Kind};

use crate::{
    policies::{binding, set},
    support::*,
};

const FORUM: &str = "cloudidentity.googleapis.com/groups.discussion_forum";
const CREW: &str = "crew@haar.localhost";

fn key(email: &str) -> Option<EntityKey> {
    Some(EntityKey { id: Some(email.into()), namespace: None })
}

fn creation(email: &str) -> GroupsCreateRequest {
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
fn made(operation: &Operation, field: &str) -> String {
    assert_eq!(operation.done, Some(true));
    let Struct { fields } = operation.response.as_ref().unwrap();
    match &fields[field].kind {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{field} is {other:?}"),
    }
}

async fn create(world: &World, email: &str) -> String {
    made(&world.call(world.owner(), groups::CREATE, creation(email)).await.unwrap(), "name")
}

async fn join(world: &World, group: &str, email: &str, role: &str) -> Result<Operation> {
    let role = MembershipRole { name: Some(role.into()), ..MembershipRole::default() };
    let body = Membership { preferred_member_key: key(email), roles: vec![role], ..Membership::default() };
    let request = GroupsMembershipsCreateRequest { parent: group.into(), body: Some(body) };
    world.call(world.owner(), memberships::CREATE, request).await
}

async fn members(world: &World, group: &str) -> Vec<String> {
    let request = GroupsMembershipsListRequest { parent: group.into(), ..Default::default() };
    let listed = world.call(world.owner(), memberships::LIST, request).await.unwrap().memberships;
    let id = |one: Membership| one.preferred_member_key.unwrap().id.unwrap();
    listed.into_iter().map(id).collect()
}

async fn is_in(world: &World, group: &str, email: &str) -> bool {
    let query = Some(format!("member_key_id=='{email}'"));
    let request = GroupsMembershipsCheckTransitiveMembershipRequest { parent: group.into(), query };
    let answer = world.call(world.owner(), memberships::CHECK_TRANSITIVE_MEMBERSHIP, request).await;
    answer.unwrap().has_membership == Some(true)
}

#[tokio::test]
async fn a_group_from_made_to_gone() {
    let world = World::new().await;
    let operation = world.call(world.owner(), groups::CREATE, creation("Crew@haar.localhost")).await.unwrap();
    assert!(made(&operation, "@type").ends_with("cloudidentity.groups.v1.Group"));
    let name = made(&operation, "name");
    let again = world.call(world.owner(), groups::CREATE, creation(CREW)).await.unwrap_err();
    assert_eq!(
        (again.code(), again.message()),
        (
            Code::AlreadyExists,
            "Error(2018): Cannot create group 'crew@haar.localhost' because it already exists."
        )
    );
    let group_key = Some(groups_lookup_request::GroupKey { id: Some(CREW.into()), namespace: None });
    let looked = world.call(world.owner(), groups::LOOKUP, GroupsLookupRequest { group_key }).await.unwrap();
    assert_eq!(looked.name.as_ref(), Some(&name));

    let body = Some(Group { description: Some("who sails".into()), ..Group::default() });
    let request = GroupsPatchRequest {
        name: name.clone(),
        update_mask: Some("description".into()),
        body: body.clone(),
    };
    world.call(world.owner(), groups::PATCH, request).await.unwrap();
    let group =
        world.call(world.owner(), groups::GET, GroupsGetRequest { name: name.clone() }).await.unwrap();
    assert_eq!(
        (group.description.as_deref(), group.display_name.as_deref()),
        (Some("who sails"), Some("Crew"))
    );
    let other = GroupsPatchRequest { name: name.clone(), update_mask: Some("parent".into()), body };
    assert_eq!(
        world.call(world.owner(), groups::PATCH, other).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let query = format!("parent==\"customerId/C0haar000\" && \"{FORUM}\" in labels");
    let search = |query: &str| GroupsSearchRequest { query: Some(query.into()), ..Default::default() };
    let found = world.call(world.owner(), groups::SEARCH, search(&query)).await.unwrap();
    assert_eq!(found.groups.len(), 1);
    let none = query.replace("discussion_forum", "security");
    assert!(world.call(world.owner(), groups::SEARCH, search(&none)).await.unwrap().groups.is_empty());
    let wrong = query.replace("labels", "colours");
    assert_eq!(
        world.call(world.owner(), groups::SEARCH, search(&wrong)).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let delete = || GroupsDeleteRequest { name: name.clone() };
    world.call(world.owner(), groups::DELETE, delete()).await.unwrap();
    let gone = world.call(world.owner(), groups::DELETE, delete()).await.unwrap_err();
    assert_eq!(
        gone.message(),
        format!("Error(2028): Permission denied for resource {name} (or it may not exist).")
    );
    assert_ne!(create(&world, CREW).await, name, "another group under the same address");
}

#[tokio::test]
async fn who_is_in_a_group_is_granted_what_it_is_granted() {
    let world = World::new().await;
    let (crew, deck) = (create(&world, CREW).await, create(&world, "deck@haar.localhost").await);
    let viewers = vec![binding("roles/secretmanager.viewer", &["group:crew@haar.localhost"])];
    set(&world, &secret(), viewers).await.unwrap();
    let may = || world.allows(&user("bob@example.com"), "secretmanager.secrets.get", &secret());
    assert!(!may());
    join(&world, &crew, "deck@haar.localhost", "MEMBER").await.unwrap();
    let joined = join(&world, &deck, "Bob@example.com", "OWNER").await.unwrap();
    assert!(may() && is_in(&world, &crew, "bob@example.com").await);
    assert_eq!(members(&world, &crew).await, ["deck@haar.localhost"]);
    let again = join(&world, &deck, "bob@example.com", "MEMBER").await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);

    let query = Some("member_key_id=='bob@example.com'".into());
    let request = GroupsMembershipsSearchTransitiveGroupsRequest {
        parent: "groups/-".into(),
        query,
        ..Default::default()
    };
    let above = world.call(world.owner(), memberships::SEARCH_TRANSITIVE_GROUPS, request).await.unwrap();
    let relations: Vec<_> =
        above.memberships.iter().map(|one| one.relation_type.as_deref().unwrap()).collect();
    assert_eq!(relations, ["INDIRECT", "DIRECT"]);
    let request =
        GroupsMembershipsSearchTransitiveMembershipsRequest { parent: crew.clone(), ..Default::default() };
    let below = world.call(world.owner(), memberships::SEARCH_TRANSITIVE_MEMBERSHIPS, request).await.unwrap();
    assert_eq!(below.memberships.len(), 2);

    let name = made(&joined, "name");
    let changed = GroupsMembershipsModifyMembershipRolesRequest {
        name: name.clone(),
        body: Some(ModifyMembershipRolesRequest {
            add_roles: vec![MembershipRole { name: Some("MANAGER".into()), ..Default::default() }],
            remove_roles: vec!["OWNER".into()],
            ..Default::default()
        }),
    };
    let changed = world.call(world.owner(), memberships::MODIFY_MEMBERSHIP_ROLES, changed).await.unwrap();
    let roles: Vec<_> =
        changed.membership.unwrap().roles.into_iter().map(|role| role.name.unwrap()).collect();
    assert_eq!(roles, ["MEMBER", "MANAGER"]);
    let delete = GroupsMembershipsDeleteRequest { name: name.clone() };
    world.call(world.owner(), memberships::DELETE, delete).await.unwrap();
    assert!(!may() && members(&world, &deck).await.is_empty());
    let get = GroupsMembershipsGetRequest { name };
    assert_eq!(
        world.call(world.owner(), memberships::GET, get).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn groups_are_the_owners_of_the_organization() {
    let world = World::new().await;
    let name = create(&world, CREW).await;
    let eve = || world.caller(user("eve@example.com"));
    let refused = world.call(eve(), groups::CREATE, creation("mine@haar.localhost")).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "Error(2015): Actor does not have permission to create group 'mine@haar.localhost'."
    );
    for code in [
        world.call(eve(), groups::GET, GroupsGetRequest { name: name.clone() }).await.unwrap_err().code(),
        world
            .call(eve(), groups::DELETE, GroupsDeleteRequest { name: name.clone() })
            .await
            .unwrap_err()
            .code(),
        world
            .call(
                eve(),
                memberships::LIST,
                GroupsMembershipsListRequest { parent: name, ..Default::default() },
            )
            .await
            .unwrap_err()
            .code(),
    ] {
        assert_eq!(code, Code::PermissionDenied);
    }
    let mut elsewhere = creation("x@haar.localhost");
    elsewhere.body.as_mut().unwrap().parent = Some("customers/C0other00".into());
    let refused = world.call(world.owner(), groups::CREATE, elsewhere).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut dynamic = creation("x@haar.localhost");
    dynamic.body.as_mut().unwrap().dynamic_group_metadata = Some(DynamicGroupMetadata::default());
    let refused = world.call(world.owner(), groups::CREATE, dynamic).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}
