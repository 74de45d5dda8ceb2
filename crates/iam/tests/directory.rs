use apis::google::discovery::cloudidentity::v1::{groups, groups_memberships as memberships, *};
use kernel::{Code, Result};

use crate::{
    groups::{FORUM, create, creation, join, made},
    policies::{binding, set},
    support::*,
};

const CREW: &str = "crew@haar.localhost";

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

    let relations = async |query: &str| {
        let found = search_groups(&world, query).await.unwrap().memberships;
        found.into_iter().map(|one| one.relation_type.unwrap()).collect::<Vec<_>>()
    };
    let bobs = format!("member_key_id=='bob@example.com' && '{FORUM}' in labels");
    assert_eq!(relations(&bobs).await, ["INDIRECT", "DIRECT"]);
    assert_eq!(relations(&format!("{bobs} && parent == 'customers/C0haar000'")).await.len(), 2);
    assert!(relations(&bobs.replace("discussion_forum", "security")).await.is_empty());
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

/// The groups that a query finds.
async fn search_groups(world: &World, query: &str) -> Result<SearchTransitiveGroupsResponse> {
    let request = GroupsMembershipsSearchTransitiveGroupsRequest {
        parent: "groups/-".into(),
        query: Some(query.into()),
        ..Default::default()
    };
    world.call(world.owner(), memberships::SEARCH_TRANSITIVE_GROUPS, request).await
}

#[tokio::test]
async fn a_search_that_asks_for_what_nobody_can_answer_is_refused() {
    let world = World::new().await;
    let crew = create(&world, CREW).await;
    let refused = async |query: &str| search_groups(&world, query).await.unwrap_err().code();
    let bobs = format!("member_key_id=='bob@example.com' && '{FORUM}' in labels");
    for wrong in [
        "",
        "member_key_id=='bob@example.com'",
        &format!("'{FORUM}' in labels"),
        &format!("{bobs} && member_key_namespace == 'identitysources/1'"),
        &format!("{bobs} && parent == ''"),
    ] {
        assert_eq!(refused(wrong).await, Code::InvalidArgument, "{wrong}");
    }
    assert_eq!(refused(&format!("{bobs} && parent == 'customers/C0other00'")).await, Code::PermissionDenied);

    let asked = |query: &str| GroupsMembershipsCheckTransitiveMembershipRequest {
        parent: crew.clone(),
        query: Some(query.into()),
    };
    let check = async |query: &str| {
        world.call(world.owner(), memberships::CHECK_TRANSITIVE_MEMBERSHIP, asked(query)).await
    };
    assert_eq!(check(&bobs).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(check("member_key_id=='bob@example.com'").await.unwrap().has_membership, Some(false));

    let backwards = GroupsMembershipsSearchDirectGroupsRequest {
        parent: "groups/-".into(),
        query: Some(bobs),
        order_by: Some("group_name desc".into()),
        ..Default::default()
    };
    let refused = world.call(world.owner(), memberships::SEARCH_DIRECT_GROUPS, backwards).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
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
