//! Resource Manager, v1 and v3.

use apis::google::{
    cloud::resourcemanager::v3::{
        self, folders as rpc_folders, organizations as rpc_organizations, projects as rpc3,
    },
    discovery::cloudresourcemanager::v1::{self, operations, projects as rpc1},
    iam::v1::GetIamPolicyRequest,
    longrunning::{Operation, operation},
};
use kernel::{Code, names::ORGANIZATION};
use projects::Mode;
use prost::Message;
use prost_types::{FieldMask, value::Kind};

use crate::world::*;

/// The organization's number.
const NUMBER: &str = "440056207318";

async fn create(
    world: &World,
    id: &str,
    change: impl FnOnce(&mut v3::Project),
) -> kernel::Result<v3::Project> {
    let mut project = v3::Project { project_id: id.into(), ..Default::default() };
    change(&mut project);
    let request = v3::CreateProjectRequest { project: Some(project) };
    Ok(project_in(world.call(rpc3::CREATE_PROJECT, request).await?))
}

fn project_in(operation: Operation) -> v3::Project {
    assert!(operation.done && operation.metadata.is_some());
    let Some(operation::Result::Response(any)) = operation.result else { panic!("{operation:?}") };
    assert_eq!(any.type_url, "type.googleapis.com/google.cloud.resourcemanager.v3.Project");
    v3::Project::decode(&any.value[..]).unwrap()
}

async fn get(world: &World, name: &str) -> kernel::Result<v3::Project> {
    world.call(rpc3::GET_PROJECT, v3::GetProjectRequest { name: name.into() }).await
}

#[tokio::test]
async fn a_project_is_created_read_changed_deleted_and_restored() {
    let world = World::new(Mode::Strict).await;
    let labels: std::collections::BTreeMap<_, _> = [("env".to_owned(), "dev".to_owned())].into();
    let made = create(&world, "my-project", |project| {
        project.display_name = "My Project".into();
        project.labels = labels.clone();
    })
    .await
    .unwrap();
    let number = made.name.strip_prefix("projects/").unwrap();
    assert_eq!((number.len(), made.state()), (12, v3::project::State::Active));
    assert_eq!((&*made.project_id, &*made.display_name, &made.labels), ("my-project", "My Project", &labels));
    for name in ["projects/my-project", &made.name] {
        assert_eq!(get(&world, name).await.unwrap(), made);
    }
    let again = create(&world, "my-project", |_| {}).await;
    assert_eq!(refusal(again), (Code::AlreadyExists, "Requested entity already exists".into()));

    let renamed =
        v3::Project { name: made.name.clone(), display_name: "Renamed".into(), ..Default::default() };
    let mask =
        |paths: &[&str]| Some(FieldMask { paths: paths.iter().map(|path| path.to_string()).collect() });
    let update = |project: v3::Project, paths: &[&str]| {
        let request = v3::UpdateProjectRequest { project: Some(project), update_mask: mask(paths) };
        world.call(rpc3::UPDATE_PROJECT, request)
    };
    let changed = project_in(update(renamed.clone(), &["display_name"]).await.unwrap());
    assert_eq!((&*changed.display_name, &changed.labels), ("Renamed", &labels));
    let stale = v3::Project { etag: made.etag.clone(), ..renamed.clone() };
    assert_eq!(refusal(update(stale, &["display_name"]).await).0, Code::Aborted);
    assert_eq!(refusal(update(renamed.clone(), &["project_id"]).await).0, Code::InvalidArgument);
    let bad = v3::Project { display_name: "a_b".into(), ..renamed };
    assert_eq!(refusal(update(bad, &["display_name"]).await).0, Code::InvalidArgument);

    let delete = || world.call(rpc3::DELETE_PROJECT, v3::DeleteProjectRequest { name: made.name.clone() });
    let deleted = project_in(delete().await.unwrap());
    assert_eq!(deleted.state(), v3::project::State::DeleteRequested);
    assert!(deleted.delete_time.is_some());
    assert_eq!(refusal(delete().await).0, Code::FailedPrecondition);
    assert_eq!(
        refusal(create(&world, "my-project", |_| {}).await).0,
        Code::AlreadyExists,
        "its id stays taken"
    );
    let undelete =
        || world.call(rpc3::UNDELETE_PROJECT, v3::UndeleteProjectRequest { name: made.name.clone() });
    assert_eq!(project_in(undelete().await.unwrap()).state(), v3::project::State::Active);
    assert_eq!(refusal(undelete().await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn what_google_refuses_to_create_is_refused() {
    let world = World::new(Mode::Open).await;
    for id in ["", "short", "Upper-case", "1digit-first", "ends-with-", &"x".repeat(31)] {
        assert_eq!(refusal(create(&world, id, |_| {}).await).0, Code::InvalidArgument, "{id}");
    }
    let named = create(&world, "my-project", |project| project.display_name = "x".into()).await;
    assert_eq!(refusal(named).0, Code::InvalidArgument);
    let labelled =
        create(&world, "my-project", |project| drop(project.labels.insert("A".into(), "".into()))).await;
    assert_eq!(refusal(labelled).0, Code::InvalidArgument);
    let below = create(&world, "my-project", |project| project.parent = "projects/1".into()).await;
    assert_eq!(refusal(below).0, Code::InvalidArgument);
}

#[tokio::test]
async fn whoever_creates_a_project_owns_it() {
    let world = World::new(Mode::Strict).await;
    create(&world, "my-project", |_| {}).await.unwrap();
    let request = GetIamPolicyRequest { resource: "projects/my-project".into(), options: None };
    let policy = world.call(rpc3::GET_IAM_POLICY, request).await.unwrap();
    assert_eq!(policy.bindings[0].role, "roles/owner");
    assert_eq!(policy.bindings[0].members, ["user:owner@example.com".to_owned(), format!("user:{ADA}")]);
}

#[tokio::test]
async fn gcloud_creates_lists_and_deletes_projects_over_v1() {
    let world = World::new(Mode::Strict).await;
    let body = v1::Project {
        project_id: Some("my-project".into()),
        name: Some("My Project".into()),
        labels: [("env".to_owned(), "dev".to_owned())].into(),
        parent: Some(v1::ResourceId { id: Some(NUMBER.into()), r#type: Some("organization".into()) }),
        ..Default::default()
    };
    let made = world.call(rpc1::CREATE, v1::ProjectsCreateRequest { body: Some(body) }).await.unwrap();
    assert_eq!(made.done, Some(true));
    let fields = made.response.clone().unwrap().fields;
    assert_eq!(fields["projectId"].kind, Some(Kind::StringValue("my-project".into())));
    let name = made.name.clone().unwrap();
    let polled = world.call(operations::GET, v1::OperationsGetRequest { name }).await.unwrap();
    assert_eq!(polled, made, "gcloud asks for the operation once more");
    let unknown = v1::OperationsGetRequest { name: "operations/cp.999".into() };
    assert_eq!(refusal(world.call(operations::GET, unknown).await).0, Code::NotFound);

    let get = || v1::ProjectsGetRequest { project_id: "my-project".into() };
    let project = world.call(rpc1::GET, get()).await.unwrap();
    assert_eq!(project.lifecycle_state.as_deref(), Some("ACTIVE"));
    assert_eq!(project.create_time.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(project.project_number.unwrap().to_string().len(), 12);
    let changed = v1::Project { name: Some("Another".into()), ..project.clone() };
    let request = v1::ProjectsUpdateRequest { project_id: "my-project".into(), body: Some(changed.clone()) };
    assert_eq!(world.call(rpc1::UPDATE, request).await.unwrap(), changed);

    let request = v1::ProjectsGetAncestryRequest { project_id: "my-project".into(), body: None };
    let line = world.call(rpc1::GET_ANCESTRY, request).await.unwrap().ancestor;
    let kinds: Vec<_> = line.into_iter().map(|one| one.resource_id.unwrap().r#type.unwrap()).collect();
    assert_eq!(kinds, ["project", "organization"]);

    let list = |filter: &str| {
        let filter = Some(filter.to_owned());
        world.call(rpc1::LIST, v1::ProjectsListRequest { filter, ..Default::default() })
    };
    for (filter, found) in [
        ("lifecycleState:ACTIVE", 1),
        ("lifecycleState:DELETE_REQUESTED", 0),
        ("labels.env:dev", 1),
        ("labels.env=prod", 0),
        ("name:Another", 1),
        ("id:my-*", 1),
        ("parent.type:organization parent.id:440056207318", 1),
        ("parent.id:13", 0),
    ] {
        assert_eq!(list(filter).await.unwrap().projects.len(), found, "{filter}");
    }
    assert_eq!(refusal(list("colour:red").await).0, Code::InvalidArgument);
    world.call(rpc1::DELETE, v1::ProjectsDeleteRequest { project_id: "my-project".into() }).await.unwrap();
    assert_eq!(list("lifecycleState:DELETE_REQUESTED").await.unwrap().projects.len(), 1);
    let restore = v1::ProjectsUndeleteRequest { project_id: "my-project".into(), body: None };
    world.call(rpc1::UNDELETE, restore).await.unwrap();
    assert_eq!(list("lifecycleState:ACTIVE").await.unwrap().projects.len(), 1);
}

#[tokio::test]
async fn a_policy_is_the_same_in_both_versions() {
    let world = World::new(Mode::Open).await;
    let options = v1::GetPolicyOptions { requested_policy_version: Some(3) };
    let body = Some(v1::GetIamPolicyRequest { options: Some(options) });
    let request = v1::ProjectsGetIamPolicyRequest { resource: "my-project".into(), body };
    let mut policy = world.call(rpc1::GET_IAM_POLICY, request).await.unwrap();
    policy.bindings.push(v1::Binding {
        role: Some("roles/viewer".into()),
        members: vec!["allUsers".into()],
        condition: Some(v1::Expr {
            expression: Some("true".into()),
            title: Some("always".into()),
            ..Default::default()
        }),
    });
    let log = v1::AuditLogConfig { log_type: Some("DATA_READ".into()), exempted_members: Vec::new() };
    policy.audit_configs =
        vec![v1::AuditConfig { service: Some("allServices".into()), audit_log_configs: vec![log] }];
    let set = |policy: v1::Policy| {
        let body = v1::SetIamPolicyRequest { policy: Some(policy), update_mask: None };
        let request = v1::ProjectsSetIamPolicyRequest { resource: "my-project".into(), body: Some(body) };
        world.call(rpc1::SET_IAM_POLICY, request)
    };
    assert_eq!(set(policy.clone()).await.unwrap(), policy);

    let request = GetIamPolicyRequest { resource: "projects/my-project".into(), options: None };
    let same = world.call(rpc3::GET_IAM_POLICY, request).await.unwrap();
    assert_eq!((same.version, same.bindings.len()), (1, 2));
    assert_eq!(same.bindings[1].condition.as_ref().unwrap().title, "always");
    assert_eq!(same.audit_configs[0].audit_log_configs[0].log_type, 3);

    policy.audit_configs[0].audit_log_configs[0].log_type = Some("EVERYTHING".into());
    assert_eq!(refusal(set(policy).await).0, Code::InvalidArgument);
    let body = Some(v1::TestIamPermissionsRequest { permissions: vec!["run.services.get".into()] });
    let test = v1::ProjectsTestIamPermissionsRequest { resource: "my-project".into(), body };
    assert_eq!(world.call(rpc1::TEST_IAM_PERMISSIONS, test).await.unwrap().permissions, ["run.services.get"]);
}

#[tokio::test]
async fn a_listing_shows_what_its_caller_may_see() {
    let world = World::new(Mode::Strict).await;
    for id in ["project-a", "project-b", "project-c"] {
        create(&world, id, |_| {}).await.unwrap();
    }
    let search = || v3::SearchProjectsRequest { query: "state:ACTIVE".into(), ..Default::default() };
    assert_eq!(world.call(rpc3::SEARCH_PROJECTS, search()).await.unwrap().projects.len(), 3);
    let seen = world.call_as(Allow::On("project-b"), rpc3::SEARCH_PROJECTS, search()).await.unwrap().projects;
    assert_eq!(seen.iter().map(|project| &*project.project_id).collect::<Vec<_>>(), ["project-b"]);

    let page = |page_token| v3::ListProjectsRequest { page_size: 2, page_token, ..Default::default() };
    let first = world.call(rpc3::LIST_PROJECTS, page(String::new())).await.unwrap();
    let second = world.call(rpc3::LIST_PROJECTS, page(first.next_page_token)).await.unwrap();
    assert_eq!((first.projects.len(), second.projects.len(), &*second.next_page_token), (2, 1, ""));
}

#[tokio::test]
async fn deleted_projects_are_shown_and_restored_to_those_who_may() {
    let world = World::new(Mode::Strict).await;
    let name = create(&world, "my-project", |_| {}).await.unwrap().name;
    world.call(rpc3::DELETE_PROJECT, v3::DeleteProjectRequest { name: name.clone() }).await.unwrap();
    let get = v3::GetProjectRequest { name: name.clone() };
    let undelete = v3::UndeleteProjectRequest { name: name.clone() };
    let other = Allow::On("another-project");
    let (code, message) = refusal(world.call_as(other, rpc3::GET_PROJECT, get.clone()).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(message.contains("'resourcemanager.projects.get'"), "{message}");
    assert_eq!(
        refusal(world.call_as(other, rpc3::UNDELETE_PROJECT, undelete.clone()).await).0,
        Code::PermissionDenied
    );
    let request = v1::ProjectsGetRequest { project_id: "my-project".into() };
    assert_eq!(refusal(world.call_as(other, rpc1::GET, request).await).0, Code::PermissionDenied);
    let request = v1::ProjectsUndeleteRequest { project_id: "my-project".into(), body: None };
    assert_eq!(refusal(world.call_as(other, rpc1::UNDELETE, request).await).0, Code::PermissionDenied);
    let own = Allow::On("my-project");
    let seen = world.call_as(own, rpc3::GET_PROJECT, get).await.unwrap();
    assert_eq!(seen.state(), v3::project::State::DeleteRequested);
    world.call_as(own, rpc3::UNDELETE_PROJECT, undelete).await.unwrap();
}

#[tokio::test]
async fn below_a_parent_only_those_create_who_may_there() {
    let world = World::new(Mode::Open).await;
    let create = |allow| {
        let project = v3::Project {
            project_id: "my-project".into(),
            parent: ORGANIZATION.into(),
            ..Default::default()
        };
        world.call_as(allow, rpc3::CREATE_PROJECT, v3::CreateProjectRequest { project: Some(project) })
    };
    assert_eq!(refusal(create(Allow::On("my-project")).await).0, Code::PermissionDenied);
    create(Allow::Everything).await.unwrap();
}

#[tokio::test]
async fn a_project_that_came_by_being_used_can_still_be_created() {
    let world = World::new(Mode::Open).await;
    let used = get(&world, "projects/my-project").await.unwrap();
    let request = v3::CreateProjectRequest {
        project: Some(v3::Project { project_id: "my-project".into(), ..Default::default() }),
    };
    let foreign = world.call_as(Allow::On("another-project"), rpc3::CREATE_PROJECT, request).await;
    assert_eq!(refusal(foreign).0, Code::AlreadyExists, "its owner only");
    let made =
        create(&world, "my-project", |project| project.display_name = "My Project".into()).await.unwrap();
    assert_eq!((made.name, &*made.display_name), (used.name, "My Project"));
    assert_eq!(refusal(create(&world, "my-project", |_| {}).await).0, Code::AlreadyExists, "once");
}

#[tokio::test]
async fn every_method_asks_for_its_own_permission_on_the_right_resource() {
    let world = World::new(Mode::Open).await;
    for (method, permission, resource) in [
        ("v3.Projects.UpdateProject", "resourcemanager.projects.update", "{project.name}"),
        ("v3.Projects.DeleteProject", "resourcemanager.projects.delete", "{name}"),
        ("v3.Projects.GetIamPolicy", "resourcemanager.projects.getIamPolicy", "{resource}"),
        ("v3.Projects.SetIamPolicy", "resourcemanager.projects.setIamPolicy", "{resource}"),
        ("ServiceUsage.GetService", "serviceusage.services.get", "{name}"),
        ("ServiceUsage.ListServices", "serviceusage.services.list", "{parent}"),
        ("ServiceUsage.EnableService", "serviceusage.services.enable", "{name}"),
        ("ServiceUsage.DisableService", "serviceusage.services.disable", "{name}"),
        ("ServiceUsage.BatchEnableServices", "serviceusage.services.enable", "{parent}"),
        ("ServiceUsage.BatchGetServices", "serviceusage.services.get", "{parent}"),
    ] {
        let grants = world.method(method).grants;
        assert_eq!(grants.len(), 1, "{method}");
        assert_eq!((grants[0].permission, grants[0].resource), (permission, resource), "{method}");
    }
}

async fn folder(world: &World, parent: &str, name: &str) -> kernel::Result<v3::Folder> {
    let folder = v3::Folder { parent: parent.into(), display_name: name.into(), ..Default::default() };
    let request = v3::CreateFolderRequest { folder: Some(folder) };
    world.call(rpc_folders::CREATE_FOLDER, request).await.map(folder_in)
}

fn folder_in(operation: Operation) -> v3::Folder {
    let Some(operation::Result::Response(any)) = operation.result else { panic!("{operation:?}") };
    v3::Folder::decode(&any.value[..]).unwrap()
}

#[tokio::test]
async fn folders_stand_between_the_organization_and_projects() {
    use kernel::ports::Projects as _;
    let world = World::new(Mode::Strict).await;
    let found = world
        .call(rpc_organizations::SEARCH_ORGANIZATIONS, v3::SearchOrganizationsRequest::default())
        .await
        .unwrap();
    assert_eq!(found.organizations.len(), 1);
    assert_eq!(found.organizations[0].name, ORGANIZATION);

    let team = folder(&world, ORGANIZATION, "Team").await.unwrap();
    let inner = folder(&world, &team.name, "Inner").await.unwrap();
    assert_eq!(refusal(folder(&world, ORGANIZATION, "team").await).0, Code::FailedPrecondition);
    assert_eq!(refusal(folder(&world, "folders/1", "Lost").await).0, Code::InvalidArgument);
    let project = create(&world, "my-project", |project| project.parent = inner.name.clone()).await.unwrap();
    assert_eq!(project.parent, inner.name);
    let line = |name: &str| world.projects.parent(name).map(|above| above.to_string());
    assert_eq!(line("projects/my-project"), Some(inner.name.clone()));
    assert_eq!(line(&inner.name), Some(team.name.clone()));
    assert_eq!(line(&team.name).as_deref(), Some(ORGANIZATION));
    assert_eq!(line(ORGANIZATION), None);
    let request = v1::ProjectsGetAncestryRequest { project_id: "my-project".into(), body: None };
    assert_eq!(world.call(rpc1::GET_ANCESTRY, request).await.unwrap().ancestor.len(), 4);

    let into_itself =
        v3::MoveFolderRequest { name: team.name.clone(), destination_parent: inner.name.clone() };
    assert_eq!(refusal(world.call(rpc_folders::MOVE_FOLDER, into_itself).await).0, Code::FailedPrecondition);
    let delete =
        |name: &str| world.call(rpc_folders::DELETE_FOLDER, v3::DeleteFolderRequest { name: name.into() });
    assert_eq!(refusal(delete(&inner.name).await).0, Code::FailedPrecondition, "it holds a project");
    let up = v3::MoveProjectRequest {
        name: "projects/my-project".into(),
        destination_parent: ORGANIZATION.into(),
    };
    // Whoever may only change a project's words may not take it out from under a folder's policies.
    let elsewhere = |parent: v1::ResourceId| v1::ProjectsUpdateRequest {
        project_id: "my-project".into(),
        body: Some(v1::Project { parent: Some(parent), ..Default::default() }),
    };
    let to =
        |kind: &str, id: &str| elsewhere(v1::ResourceId { r#type: Some(kind.into()), id: Some(id.into()) });
    let above = ORGANIZATION.trim_start_matches("organizations/");
    let moved = world.call_as(Allow::On("another-project"), rpc1::UPDATE, to("organization", above)).await;
    assert_eq!(refusal(moved).0, Code::PermissionDenied);
    let own = inner.name.trim_start_matches("folders/");
    world.call_as(Allow::On("another-project"), rpc1::UPDATE, to("folder", own)).await.unwrap();
    let nowhere =
        v3::MoveProjectRequest { name: "projects/my-project".into(), destination_parent: String::new() };
    assert_eq!(refusal(world.call(rpc3::MOVE_PROJECT, nowhere).await).0, Code::InvalidArgument);
    assert_eq!(line("projects/my-project"), Some(inner.name.clone()));
    world.call(rpc3::MOVE_PROJECT, up).await.unwrap();
    assert_eq!(folder_in(delete(&inner.name).await.unwrap()).state(), v3::folder::State::DeleteRequested);
    let world = world.reopen(Mode::Strict).await;
    let listed = v3::ListFoldersRequest { parent: ORGANIZATION.into(), ..Default::default() };
    let listed = world.call(rpc_folders::LIST_FOLDERS, listed).await.unwrap().folders;
    assert_eq!(listed.into_iter().map(|folder| folder.display_name).collect::<Vec<_>>(), ["Team"]);
}
