use apis::google::iam::admin::v1::{role::RoleLaunchStage, *};
use kernel::{Code, Result};
use std::time::Duration;

use crate::{
    policies::{binding, set},
    support::{iam::*, *},
};

const PARENT: &str = "projects/demo-project";
const NAME: &str = "projects/demo-project/roles/tideReader";
const ACCESS: &str = "secretmanager.versions.access";

fn role(permissions: &[&str]) -> Role {
    Role {
        title: "Tide Reader".into(),
        included_permissions: permissions.iter().map(|permission| (*permission).into()).collect(),
        stage: RoleLaunchStage::Ga as i32,
        ..Role::default()
    }
}

async fn create(world: &World, id: &str, role: Role) -> Result<Role> {
    let request = CreateRoleRequest { parent: PARENT.into(), role_id: id.into(), role: Some(role) };
    world.call(world.owner(), CREATE_ROLE, request).await
}

/// A role on its way, which borrows nothing.
fn started(world: &World, id: String) -> impl Future<Output = ()> + Send + use<> {
    let method = world.iam.methods().into_iter().find(|method| method.id == CREATE_ROLE.id()).unwrap();
    let request = CreateRoleRequest { parent: PARENT.into(), role_id: id, role: Some(role(&[])) };
    let answer = (method.handler)(world.owner(), prost::Message::encode_to_vec(&request).into());
    async move { drop(answer.await.unwrap()) }
}

async fn change(world: &World, role: Role, paths: &[&str]) -> Result<Role> {
    let paths = paths.iter().map(|path| (*path).into()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = UpdateRoleRequest { name: NAME.into(), role: Some(role), update_mask };
    world.call(world.owner(), UPDATE_ROLE, request).await
}

async fn names(world: &World, show_deleted: bool) -> Vec<String> {
    let request = ListRolesRequest { parent: PARENT.into(), show_deleted, ..Default::default() };
    let listed = world.call(world.owner(), LIST_ROLES, request).await.unwrap();
    assert!(listed.roles.iter().all(|role| role.included_permissions.is_empty()), "the basic view");
    listed.roles.into_iter().map(|role| role.name).collect()
}

#[tokio::test]
async fn a_custom_role_from_made_to_gone() {
    let world = World::new().await;
    let ada = user("ada@example.com");
    let may = || world.allows(&ada, ACCESS, &secret());
    let made = create(&world, "tideReader", role(&[ACCESS])).await.unwrap();
    assert_eq!((made.name.as_str(), made.deleted), (NAME, false));
    set(&world, &secret(), vec![binding(NAME, &["user:ada@example.com"])]).await.unwrap();
    assert!(may());

    let other = role(&["secretmanager.secrets.get"]);
    change(&world, Role { etag: made.etag.clone(), ..other }, &["included_permissions"]).await.unwrap();
    assert!(!may() && world.allows(&ada, "secretmanager.secrets.get", &secret()), "at once");
    let stale = change(&world, Role { etag: made.etag, ..role(&[ACCESS]) }, &["stage"]).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    change(&world, role(&[ACCESS]), &["includedPermissions"]).await.unwrap();
    assert!(may());

    let disabled = Role { stage: RoleLaunchStage::Disabled as i32, ..Role::default() };
    change(&world, disabled, &["stage"]).await.unwrap();
    assert!(!may(), "a disabled role grants nothing");
    change(&world, role(&[]), &["stage"]).await.unwrap();
    assert!(may());

    let delete = DeleteRoleRequest { name: NAME.into(), ..Default::default() };
    assert!(world.call(world.owner(), DELETE_ROLE, delete.clone()).await.unwrap().deleted);
    assert!(!may() && names(&world, false).await.is_empty() && names(&world, true).await == [NAME]);
    assert_eq!(
        create(&world, "tideReader", role(&[])).await.unwrap_err().message(),
        "You can't create a role_id (tideReader) which has been marked for deletion."
    );
    let undelete = UndeleteRoleRequest { name: NAME.into(), ..Default::default() };
    world.call(world.owner(), UNDELETE_ROLE, undelete.clone()).await.unwrap();
    assert!(may(), "with the bindings that it had");

    world.call(world.owner(), DELETE_ROLE, delete).await.unwrap();
    world.clock.advance(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(
        world.call(world.owner(), UNDELETE_ROLE, undelete).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    world.clock.advance(Duration::from_secs(30 * 24 * 3600));
    assert!(names(&world, true).await.len() == 1, "until it is swept");
    world.iam.sweep().await.unwrap();
    assert!(names(&world, true).await.is_empty());
    create(&world, "tideReader", role(&[])).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_a_role_is_refused() {
    let world = World::new().await;
    let message = async |id, role| create(&world, id, role).await.unwrap_err().message().to_owned();
    assert_eq!(
        message("abc", role(&["secretmanager.moon.get"])).await,
        "Permission secretmanager.moon.get is not valid."
    );
    assert_eq!(
        message("abc", role(&["resourcemanager.projects.list"])).await,
        "Permission resourcemanager.projects.list is not valid."
    );
    assert!(message("a-b-c", role(&[])).await.contains("[a-zA-Z0-9_.]{3,64}"));
    assert!(message("abc", Role { title: "t".repeat(101), ..role(&[]) }).await.contains("100 bytes"));
    create(&world, "abc", role(&[])).await.unwrap();
    assert_eq!(message("abc", role(&[])).await, "A role named abc in projects/demo-project already exists.");
    let mut others = tokio::task::JoinSet::new();
    for n in 1..300 {
        // Together, so that they are written in a few groups.
        others.spawn(started(&world, format!("role{n}")));
    }
    others.join_all().await;
    assert_eq!(message("onemore", role(&[])).await, "Maximum number of roles reached. Maximum is: 300");

    let foreign = "projects/other-project/roles/abc";
    let error = set(&world, &secret(), vec![binding(foreign, &["user:a@b.c"])]).await.unwrap_err();
    assert_eq!(error.message(), format!("Role ({foreign}) does not exist in the resource's hierarchy."));
    let get = GetRoleRequest { name: foreign.into() };
    assert_eq!(
        world.call(world.owner(), GET_ROLE, get.clone()).await.unwrap_err().message(),
        format!("The role named {foreign} was not found.")
    );
    let stranger = world.caller(user("eve@example.com"));
    assert_eq!(world.call(stranger, GET_ROLE, get).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_organizations_roles_are_its_own() {
    let world = World::new().await;
    let request = CreateRoleRequest {
        parent: "organizations/123".into(),
        role_id: "finder".into(),
        role: Some(role(&["resourcemanager.projects.list"])),
    };
    let made = world.call(world.owner(), CREATE_ROLE, request).await.unwrap();
    assert_eq!(made.name, "organizations/123/roles/finder");
    set(&world, &project(), vec![binding(&made.name, &["user:ada@example.com"])]).await.unwrap();
    assert!(world.allows(&user("ada@example.com"), "resourcemanager.projects.list", &project()));
}

#[tokio::test]
async fn what_can_be_granted_and_asked_is_listed() {
    let world = World::new().await;
    create(&world, "tideReader", role(&[ACCESS])).await.unwrap();
    let full = |name: &str| QueryGrantableRolesRequest {
        full_resource_name: name.into(),
        view: RoleView::Full as i32,
        page_size: 1000,
        ..Default::default()
    };
    let of_project = full("//cloudresourcemanager.googleapis.com/projects/demo-project");
    let roles = world.call(world.owner(), QUERY_GRANTABLE_ROLES, of_project).await.unwrap().roles;
    assert_eq!(roles.last().unwrap().included_permissions, [ACCESS]);
    let of_secret = full("//secretmanager.googleapis.com/projects/demo-project/secrets/s");
    let roles = world.call(world.owner(), QUERY_GRANTABLE_ROLES, of_secret).await.unwrap().roles;
    assert!(roles.iter().any(|role| role.name == "roles/secretmanager.viewer"));
    assert!(roles.iter().all(|role| !role.name.starts_with("roles/run.")));

    let request = QueryTestablePermissionsRequest {
        full_resource_name: "//cloudresourcemanager.googleapis.com/projects/demo-project".into(),
        page_size: 1000,
        ..Default::default()
    };
    let found = world.call(world.owner(), QUERY_TESTABLE_PERMISSIONS, request).await.unwrap().permissions;
    let level =
        |name: &str| found.iter().find(|found| found.name == name).unwrap().custom_roles_support_level();
    assert_eq!(level(ACCESS), permission::CustomRolesSupportLevel::Supported);
    assert_eq!(level("resourcemanager.projects.list"), permission::CustomRolesSupportLevel::NotSupported);
}
