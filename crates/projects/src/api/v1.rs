//! Resource Manager v1, which gcloud and Terraform speak. It has no proto: its messages come from the discovery
//! document, where every field is optional and enums and times are text.

use std::{collections::BTreeMap, sync::Arc};

use apis::google::{
    discovery::cloudresourcemanager::v1::{
        self as proto, Operation, Project, ResourceId, operations, projects as rpc,
    },
    iam::v1::{self as iam, audit_log_config::LogType},
    r#type::Expr,
};
use kernel::{Caller, Error, Method, Mount, Resource, Result, grant, mirror::Versioned, names, time::Micros};
use prost_types::{FieldMask, Struct, Timestamp, Value, value::Kind};

use super::{policy_resource, v2};
use crate::{
    engine::{Chosen, Projects, Seen},
    record::{Lifecycle, ProjectRecord},
};

/// The beginning of the names of operations: they name the project, and so need not be stored.
const CREATION: &str = "operations/cp.";

/// More levels than there can be.
const MOST_ANCESTORS: usize = 16;

pub(super) fn methods(projects: Arc<Projects>) -> Vec<Method> {
    Mount::new(projects)
        // These two ask by themselves, for they are of use on deleted projects.
        .unary(rpc::GET, &[], get)
        .unary(rpc::UNDELETE, &[], undelete)
        .unary(rpc::LIST, &[], list)
        .unary(rpc::CREATE, &[], create)
        .unary(
            rpc::UPDATE,
            const { &[grant("resourcemanager.projects.update", "projects/{project_id}")] },
            update,
        )
        .unary(
            rpc::DELETE,
            const { &[grant("resourcemanager.projects.delete", "projects/{project_id}")] },
            delete,
        )
        .unary(
            rpc::GET_ANCESTRY,
            const { &[grant("resourcemanager.projects.get", "projects/{project_id}")] },
            ancestry,
        )
        .unary(
            rpc::GET_IAM_POLICY,
            const { &[grant("resourcemanager.projects.getIamPolicy", "projects/{resource}")] },
            get_policy,
        )
        .unary(
            rpc::SET_IAM_POLICY,
            const { &[grant("resourcemanager.projects.setIamPolicy", "projects/{resource}")] },
            set_policy,
        )
        .unary(rpc::TEST_IAM_PERMISSIONS, &[], test_permissions)
        .unary(operations::GET, &[], operation)
        .done()
}

async fn get(projects: Arc<Projects>, caller: Caller, request: proto::ProjectsGetRequest) -> Result<Project> {
    Ok(show(&*projects.allowed(&caller, "resourcemanager.projects.get", &request.project_id).await?))
}

async fn list(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::ProjectsListRequest,
) -> Result<proto::ListProjectsResponse> {
    let (filter, page_token) = (text(&request.filter), text(&request.page_token));
    let page_size = request.page_size.unwrap_or_default();
    let (found, next) = projects.list(&caller, &Seen { parent: "", filter, page_size, page_token })?;
    Ok(proto::ListProjectsResponse {
        next_page_token: (!next.is_empty()).then_some(next),
        projects: found.iter().map(|project| show(project)).collect(),
    })
}

async fn create(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::ProjectsCreateRequest,
) -> Result<Operation> {
    let body = request.body.unwrap_or_default();
    let chosen = Chosen {
        display_name: body.name.clone().unwrap_or_default(),
        labels: body.labels,
        parent: body.parent.as_ref().map(parent_name).unwrap_or_default(),
    };
    let made = projects.create(&caller, text(&body.project_id), chosen).await?;
    Ok(creation(&made))
}

/// What a call to create a project, or to make or move a folder, answered, once more.
async fn operation(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::OperationsGetRequest,
) -> Result<Operation> {
    if let Some(operation) = v2::operation(&projects, &caller, &request.name)? {
        return Ok(operation);
    }
    let missing = || Error::not_found(format!("Operation [{}] not found.", request.name));
    let number = request.name.strip_prefix(CREATION).ok_or_else(missing)?;
    if kernel::ports::Projects::known(&*projects, number).is_none() {
        return Err(missing());
    }
    let project = projects.find(number).await?;
    caller.require("resourcemanager.projects.get", &Resource::project(&project.id))?;
    Ok(creation(&project))
}

async fn update(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::ProjectsUpdateRequest,
) -> Result<Project> {
    let body = request.body.unwrap_or_default();
    let current = projects.find(&request.project_id).await?;
    // What is above a project decides what may be done in it: another parent is a move, not a change of words. One that
    // was read and is put back is none.
    if let Some(to) = body.parent.as_ref().map(parent_name).filter(|to| to != current.parent_name()) {
        caller.require("resourcemanager.projects.move", &Resource::project(&current.id))?;
        caller.require("resourcemanager.projects.create", &Resource::new(names::RESOURCE_MANAGER, to))?;
    }
    let change = |project: &mut ProjectRecord| {
        project.labels.clone_from(&body.labels);
        project.display_name.clone_from(body.name.as_ref().unwrap_or(&project.id));
        if let Some(parent) = &body.parent {
            project.parent = parent_name(parent);
        }
    };
    Ok(show(&*projects.update(&request.project_id, "", change).await?))
}

async fn delete(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::ProjectsDeleteRequest,
) -> Result<proto::Empty> {
    projects.set_lifecycle(&request.project_id, Lifecycle::DeleteRequested).await?;
    Ok(proto::Empty {})
}

async fn undelete(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::ProjectsUndeleteRequest,
) -> Result<proto::Empty> {
    let found = projects.allowed(&caller, "resourcemanager.projects.undelete", &request.project_id).await?;
    projects.set_lifecycle(&found.id, Lifecycle::Active).await?;
    Ok(proto::Empty {})
}

async fn ancestry(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::ProjectsGetAncestryRequest,
) -> Result<proto::GetAncestryResponse> {
    let project = projects.find(&request.project_id).await?;
    let above =
        |name: &String| kernel::ports::Projects::parent(&*projects, name).map(|above| above.to_string());
    let line = std::iter::successors(Some(format!("projects/{}", project.id)), above);
    let ancestors = line.map(|name| proto::Ancestor { resource_id: parent_id(&name) });
    let ancestor = ancestors.take(MOST_ANCESTORS).collect();
    Ok(proto::GetAncestryResponse { ancestor })
}

async fn get_policy(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::ProjectsGetIamPolicyRequest,
) -> Result<proto::Policy> {
    let (policies, resource) = policy_resource(&projects, &request.resource).await?;
    let options = request.body.and_then(|body| body.options);
    let version = options.and_then(|options| options.requested_policy_version).unwrap_or_default();
    Ok(show_policy(policies.get(&resource, version)?))
}

async fn set_policy(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::ProjectsSetIamPolicyRequest,
) -> Result<proto::Policy> {
    let (policies, resource) = policy_resource(&projects, &request.resource).await?;
    let request = read_request(&resource, request.body)?;
    Ok(show_policy(policies.set(&resource, request).await?))
}

async fn test_permissions(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::ProjectsTestIamPermissionsRequest,
) -> Result<proto::TestIamPermissionsResponse> {
    let (policies, resource) = policy_resource(&projects, &request.resource).await?;
    let asked = request.body.unwrap_or_default().permissions;
    Ok(proto::TestIamPermissionsResponse { permissions: policies.test(&caller, &resource, asked)? })
}

fn creation(project: &Versioned<ProjectRecord>) -> Operation {
    let status = [
        ("@type", text_value("type.googleapis.com/google.cloudresourcemanager.v1.ProjectCreationStatus")),
        ("createTime", text_value(time(project.create_time))),
        ("gettable", value(Kind::BoolValue(true))),
        ("ready", value(Kind::BoolValue(true))),
    ];
    Operation {
        done: Some(true),
        error: None,
        metadata: Some(structure(status)),
        name: Some(format!("{CREATION}{}", project.number)),
        response: Some(response(project)),
    }
}

/// The project as JSON shows it, with its type.
fn response(project: &ProjectRecord) -> Struct {
    let label = |(key, label): (&String, &String)| (key.clone(), text_value(label));
    let mut fields = vec![
        ("@type", text_value("type.googleapis.com/google.cloudresourcemanager.v1.Project")),
        ("projectNumber", text_value(project.number.to_string())),
        ("projectId", text_value(&*project.id)),
        ("lifecycleState", text_value(project.lifecycle().name())),
        ("name", text_value(&*project.display_name)),
        ("createTime", text_value(time(project.create_time))),
    ];
    if !project.labels.is_empty() {
        let labels = Struct { fields: project.labels.iter().map(label).collect() };
        fields.push(("labels", value(Kind::StructValue(labels))));
    }
    if let Some(ResourceId { id: Some(id), r#type: Some(kind) }) = parent_id(project.parent_name()) {
        let parent = structure([("type", text_value(kind)), ("id", text_value(id))]);
        fields.push(("parent", value(Kind::StructValue(parent))));
    }
    structure(fields)
}

fn show(project: &ProjectRecord) -> Project {
    Project {
        create_time: Some(time(project.create_time)),
        labels: project.labels.clone(),
        lifecycle_state: Some(project.lifecycle().name().into()),
        name: Some(project.display_name.clone()),
        parent: parent_id(project.parent_name()),
        project_id: Some(project.id.clone()),
        project_number: i64::try_from(project.number).ok(),
        ..Project::default()
    }
}

/// `organizations/1` as v1 writes it: a type, in the singular, and an id.
fn parent_id(parent: &str) -> Option<ResourceId> {
    let (kind, id) = parent.split_once('/')?;
    Some(ResourceId { id: Some(id.into()), r#type: Some(kind.trim_end_matches('s').into()) })
}

fn parent_name(parent: &ResourceId) -> String {
    format!("{}s/{}", text(&parent.r#type), text(&parent.id))
}

/// A policy that is to be set, as the newer versions have it.
pub(super) fn read_request(
    resource: &Resource,
    body: Option<proto::SetIamPolicyRequest>,
) -> Result<iam::SetIamPolicyRequest> {
    let proto::SetIamPolicyRequest { policy, update_mask } = body.unwrap_or_default();
    let paths = |mask: String| mask.split(',').map(|path| path.trim().to_owned()).collect();
    Ok(iam::SetIamPolicyRequest {
        resource: resource.name.clone(),
        policy: policy.map(read_policy).transpose()?,
        update_mask: update_mask.map(|mask| FieldMask { paths: paths(mask) }),
    })
}

pub(super) fn show_policy(policy: iam::Policy) -> proto::Policy {
    proto::Policy {
        audit_configs: policy.audit_configs.into_iter().map(show_audit).collect(),
        bindings: policy.bindings.into_iter().map(show_binding).collect(),
        etag: Some(policy.etag),
        version: Some(policy.version),
    }
}

fn show_binding(binding: iam::Binding) -> proto::Binding {
    let condition = binding.condition.map(|condition| proto::Expr {
        description: Some(condition.description).filter(|text| !text.is_empty()),
        expression: Some(condition.expression),
        location: Some(condition.location).filter(|text| !text.is_empty()),
        title: Some(condition.title),
    });
    proto::Binding { condition, members: binding.members, role: Some(binding.role) }
}

fn show_audit(config: iam::AuditConfig) -> proto::AuditConfig {
    let log = |log: iam::AuditLogConfig| proto::AuditLogConfig {
        log_type: Some(log.log_type().as_str_name().into()),
        exempted_members: log.exempted_members,
    };
    proto::AuditConfig {
        audit_log_configs: config.audit_log_configs.into_iter().map(log).collect(),
        service: Some(config.service),
    }
}

fn read_policy(policy: proto::Policy) -> Result<iam::Policy> {
    Ok(iam::Policy {
        version: policy.version.unwrap_or_default(),
        bindings: policy.bindings.into_iter().map(read_binding).collect(),
        audit_configs: policy.audit_configs.into_iter().map(read_audit).collect::<Result<_>>()?,
        etag: policy.etag.unwrap_or_default(),
    })
}

fn read_binding(binding: proto::Binding) -> iam::Binding {
    let condition = binding.condition.map(|condition| Expr {
        expression: condition.expression.unwrap_or_default(),
        title: condition.title.unwrap_or_default(),
        description: condition.description.unwrap_or_default(),
        location: condition.location.unwrap_or_default(),
    });
    iam::Binding { role: binding.role.unwrap_or_default(), members: binding.members, condition }
}

fn read_audit(config: proto::AuditConfig) -> Result<iam::AuditConfig> {
    let log = |log: proto::AuditLogConfig| {
        let name = text(&log.log_type);
        let kind = LogType::from_str_name(name).ok_or_else(|| {
            Error::bad_field("policy.audit_configs", format!("Log type [{name}] is not valid."))
        })?;
        Ok(iam::AuditLogConfig { log_type: kind.into(), exempted_members: log.exempted_members })
    };
    Ok(iam::AuditConfig {
        service: config.service.unwrap_or_default(),
        audit_log_configs: config.audit_log_configs.into_iter().map(log).collect::<Result<_>>()?,
    })
}

pub(super) fn text(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

pub(super) fn time(micros: u64) -> String {
    Timestamp::from(Micros(micros)).to_string()
}

pub(super) fn structure<'k>(fields: impl IntoIterator<Item = (&'k str, Value)>) -> Struct {
    let fields: BTreeMap<String, Value> =
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Struct { fields }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

pub(super) fn text_value(text: impl Into<String>) -> Value {
    value(Kind::StringValue(text.into()))
}
