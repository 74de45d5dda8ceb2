//! `google.cloud.resourcemanager.v3.Projects`.

use std::sync::Arc;

use apis::{
    google::{
        cloud::resourcemanager::v3::{self as proto, Project, projects as rpc},
        iam::v1::{
            GetIamPolicyRequest, Policy, SetIamPolicyRequest, TestIamPermissionsRequest,
            TestIamPermissionsResponse,
        },
        longrunning::{Operation, operation},
    },
    schema::Message as Schema,
};
use kernel::{
    Caller, Error, Method, Mount, Result, grant, mask, mirror::Versioned, operations::to_any, time::Micros,
};
use prost::Message;

use super::{policy_resource, project_in};
use crate::{
    engine::{Chosen, Projects, Seen},
    record::{Lifecycle, ProjectRecord},
};

const PROJECT: &str = "google.cloud.resourcemanager.v3.Project";

pub(super) fn methods(projects: Arc<Projects>) -> Vec<Method> {
    Mount::new(projects)
        // These two ask by themselves, for they are of use on deleted projects.
        .unary(rpc::GET_PROJECT, &[], get)
        .unary(rpc::UNDELETE_PROJECT, &[], undelete)
        // Callers are shown what they may see, and may create what belongs to nobody else.
        .unary(rpc::LIST_PROJECTS, &[], list)
        .unary(rpc::SEARCH_PROJECTS, &[], search)
        .unary(rpc::CREATE_PROJECT, &[], create)
        .unary(
            rpc::UPDATE_PROJECT,
            const { &[grant("resourcemanager.projects.update", "{project.name}")] },
            update,
        )
        .unary(
            rpc::MOVE_PROJECT,
            const {
                &[
                    grant("resourcemanager.projects.move", "{name}"),
                    grant("resourcemanager.projects.create", "{destination_parent}"),
                ]
            },
            move_project,
        )
        .unary(rpc::DELETE_PROJECT, const { &[grant("resourcemanager.projects.delete", "{name}")] }, delete)
        .unary(
            rpc::GET_IAM_POLICY,
            const { &[grant("resourcemanager.projects.getIamPolicy", "{resource}")] },
            get_policy,
        )
        .unary(
            rpc::SET_IAM_POLICY,
            const { &[grant("resourcemanager.projects.setIamPolicy", "{resource}")] },
            set_policy,
        )
        .unary(rpc::TEST_IAM_PERMISSIONS, &[], test_permissions)
        .done()
}

async fn get(projects: Arc<Projects>, caller: Caller, request: proto::GetProjectRequest) -> Result<Project> {
    let project = project_in(&request.name)?;
    Ok(show(&*projects.allowed(&caller, "resourcemanager.projects.get", project).await?))
}

async fn list(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::ListProjectsRequest,
) -> Result<proto::ListProjectsResponse> {
    let filter = if request.show_deleted { "" } else { "state=ACTIVE" };
    let (parent, page_token) = (&*request.parent, &*request.page_token);
    let (found, next_page_token) =
        projects.list(&caller, &Seen { parent, filter, page_size: request.page_size, page_token })?;
    let projects = found.iter().map(|project| show(project)).collect();
    Ok(proto::ListProjectsResponse { projects, next_page_token })
}

async fn search(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::SearchProjectsRequest,
) -> Result<proto::SearchProjectsResponse> {
    let (filter, page_token) = (&*request.query, &*request.page_token);
    let (found, next_page_token) =
        projects.list(&caller, &Seen { parent: "", filter, page_size: request.page_size, page_token })?;
    let projects = found.iter().map(|project| show(project)).collect();
    Ok(proto::SearchProjectsResponse { projects, next_page_token })
}

async fn create(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::CreateProjectRequest,
) -> Result<Operation> {
    let Some(Project { project_id, display_name, labels, parent, .. }) = request.project else {
        return Err(Error::bad_field("project", "Field [project] is required."));
    };
    let made = projects.create(&caller, &project_id, Chosen { display_name, labels, parent }).await?;
    let metadata = proto::CreateProjectMetadata {
        create_time: Some(Micros(made.create_time).into()),
        gettable: true,
        ready: true,
    };
    Ok(done("cp", "CreateProjectMetadata", &metadata, &made))
}

async fn update(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::UpdateProjectRequest,
) -> Result<Operation> {
    let Some(wanted) = request.project else {
        return Err(Error::bad_field("project", "Field [project] is required."));
    };
    let paths = request.update_mask.unwrap_or_default().paths;
    let allowed = ["display_name", "labels"];
    let schema = Schema::by_name(PROJECT).ok_or_else(|| Error::internal("no schema of a project"))?;
    let paths = if paths.is_empty() {
        allowed.map(str::to_owned).into()
    } else {
        mask::check(schema, &paths, &allowed)?
    };
    let names = |field: &str| paths.iter().any(|path| path == field);
    let change = |project: &mut ProjectRecord| {
        if names("display_name") {
            project.display_name.clone_from(&wanted.display_name);
        }
        if names("labels") {
            project.labels.clone_from(&wanted.labels);
        }
    };
    let changed = projects.update(project_in(&wanted.name)?, &wanted.etag, change).await?;
    Ok(done("up", "UpdateProjectMetadata", &proto::UpdateProjectMetadata {}, &changed))
}

async fn move_project(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::MoveProjectRequest,
) -> Result<Operation> {
    let to = &request.destination_parent;
    if to.is_empty() {
        return Err(Error::bad_field("destination_parent", "A destination is required."));
    }
    let moved =
        projects.update(project_in(&request.name)?, "", |project| project.parent.clone_from(to)).await?;
    Ok(done("mp", "MoveProjectMetadata", &proto::MoveProjectMetadata {}, &moved))
}

async fn delete(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::DeleteProjectRequest,
) -> Result<Operation> {
    let deleted = projects.set_lifecycle(project_in(&request.name)?, Lifecycle::DeleteRequested).await?;
    Ok(done("dp", "DeleteProjectMetadata", &proto::DeleteProjectMetadata {}, &deleted))
}

async fn undelete(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::UndeleteProjectRequest,
) -> Result<Operation> {
    let found =
        projects.allowed(&caller, "resourcemanager.projects.undelete", project_in(&request.name)?).await?;
    let restored = projects.set_lifecycle(&found.id, Lifecycle::Active).await?;
    Ok(done("udp", "UndeleteProjectMetadata", &proto::UndeleteProjectMetadata {}, &restored))
}

async fn get_policy(projects: Arc<Projects>, _: Caller, request: GetIamPolicyRequest) -> Result<Policy> {
    let (policies, resource) = policy_resource(&projects, project_in(&request.resource)?).await?;
    policies.get(&resource, request.options.map_or(0, |options| options.requested_policy_version))
}

async fn set_policy(projects: Arc<Projects>, _: Caller, request: SetIamPolicyRequest) -> Result<Policy> {
    let (policies, resource) = policy_resource(&projects, project_in(&request.resource)?).await?;
    policies.set(&resource, request).await
}

async fn test_permissions(
    projects: Arc<Projects>,
    caller: Caller,
    request: TestIamPermissionsRequest,
) -> Result<TestIamPermissionsResponse> {
    let (policies, resource) = policy_resource(&projects, project_in(&request.resource)?).await?;
    let permissions = policies.test(&caller, &resource, request.permissions)?;
    Ok(TestIamPermissionsResponse { permissions })
}

/// An operation that is done as it is answered: nothing here takes time.
fn done(
    kind: &str,
    metadata_name: &str,
    metadata: &impl Message,
    project: &Versioned<ProjectRecord>,
) -> Operation {
    Operation {
        name: format!("operations/{kind}.{}", project.number),
        metadata: Some(to_any(&format!("google.cloud.resourcemanager.v3.{metadata_name}"), metadata)),
        done: true,
        result: Some(operation::Result::Response(to_any(PROJECT, &show(project)))),
    }
}

fn show(project: &Versioned<ProjectRecord>) -> Project {
    let state = match project.lifecycle() {
        Lifecycle::Active => proto::project::State::Active,
        Lifecycle::DeleteRequested => proto::project::State::DeleteRequested,
    };
    Project {
        name: format!("projects/{}", project.number),
        parent: project.parent_name().to_owned(),
        project_id: project.id.clone(),
        state: state.into(),
        display_name: project.display_name.clone(),
        create_time: Some(Micros(project.create_time).into()),
        update_time: Some(Micros(project.update_time).into()),
        delete_time: project.delete_time.map(|at| Micros(at).into()),
        etag: project.etag(),
        labels: project.labels.clone(),
    }
}
