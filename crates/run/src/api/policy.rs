//! Policies of services and worker pools, in both forms. Once set, a service's also changes whether the ingress asks for a token.

use std::sync::Arc;

use apis::google::{
    cloud::run::v2::{self, services},
    discovery::run::v1::{self as knative, projects_locations_services, projects_locations_workerpools},
    iam::v1::{Binding, GetPolicyOptions},
    iam::v1::{
        GetIamPolicyRequest, Policy, SetIamPolicyRequest, TestIamPermissionsRequest,
        TestIamPermissionsResponse,
    },
    r#type::Expr,
};
use kernel::{Caller, Mount, Result, grant};

use super::v2_change::Form;
use crate::{
    Run,
    change::Place,
    record::{Kind, Service},
};

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount
        .unary(
            services::GET_IAM_POLICY,
            const { &[grant("run.services.getIamPolicy", "{resource}")] },
            get::<v2::Service>,
        )
        .unary(
            services::SET_IAM_POLICY,
            const { &[grant("run.services.setIamPolicy", "{resource}")] },
            set::<v2::Service>,
        )
        .unary(services::TEST_IAM_PERMISSIONS, &[], test::<v2::Service>)
        .unary(
            projects_locations_services::GET_IAM_POLICY,
            const { &[grant("run.services.getIamPolicy", "{resource}")] },
            get_old,
        )
        .unary(
            projects_locations_services::SET_IAM_POLICY,
            const { &[grant("run.services.setIamPolicy", "{resource}")] },
            set_old,
        )
        .unary(projects_locations_services::TEST_IAM_PERMISSIONS, &[], test_old)
        .unary(projects_locations_workerpools::GET_IAM_POLICY, &[], get_old_pool)
        .unary(projects_locations_workerpools::SET_IAM_POLICY, &[], set_old_pool)
        .unary(projects_locations_workerpools::TEST_IAM_PERMISSIONS, &[], test_old_pool)
}

pub(super) async fn get<F: Form>(run: Arc<Run>, _: Caller, request: GetIamPolicyRequest) -> Result<Policy> {
    let service = run.existing(F::KIND, &request.resource).await?;
    let version = request.options.map_or(1, |options: GetPolicyOptions| options.requested_policy_version);
    run.ports.policies.get(&service.resource(), version)
}

pub(super) async fn set<F: Form>(run: Arc<Run>, _: Caller, request: SetIamPolicyRequest) -> Result<Policy> {
    let service = run.existing(F::KIND, &request.resource).await?;
    let policy = run.ports.policies.set(&service.resource(), request).await?;
    run.route(&service.resource_name());
    Ok(policy)
}

pub(super) async fn test<F: Form>(
    run: Arc<Run>,
    caller: Caller,
    request: TestIamPermissionsRequest,
) -> Result<TestIamPermissionsResponse> {
    // Google answers this for services that do not exist yet too: gcloud asks before it deploys.
    let place = run.place(F::KIND, &request.resource).await?;
    let permissions = run.ports.policies.test(&caller, &place.resource(), request.permissions)?;
    Ok(TestIamPermissionsResponse { permissions })
}

async fn get_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsServicesGetIamPolicyRequest,
) -> Result<knative::Policy> {
    let version = request.options.and_then(|options| options.requested_policy_version);
    let request = read_request(request.resource, version);
    get::<v2::Service>(run, caller, request).await.map(to_old)
}

async fn set_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsServicesSetIamPolicyRequest,
) -> Result<knative::Policy> {
    let request = write_request(request.resource, request.body);
    set::<v2::Service>(run, caller, request).await.map(to_old)
}

async fn test_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsServicesTestIamPermissionsRequest,
) -> Result<knative::TestIamPermissionsResponse> {
    let request = test_request(request.resource, request.body);
    test::<v2::Service>(run, caller, request).await.map(answer_old)
}

async fn get_old_pool(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsWorkerpoolsGetIamPolicyRequest,
) -> Result<knative::Policy> {
    let pool = old_pool(&run, &request.resource).await?;
    caller.require("run.workerpools.getIamPolicy", &pool.resource())?;
    let version = request.options.and_then(|options| options.requested_policy_version);
    let request = read_request(pool.resource_name(), version);
    get::<v2::WorkerPool>(run, caller, request).await.map(to_old)
}

async fn set_old_pool(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsWorkerpoolsSetIamPolicyRequest,
) -> Result<knative::Policy> {
    let pool = old_pool(&run, &request.resource).await?;
    caller.require("run.workerpools.setIamPolicy", &pool.resource())?;
    let request = write_request(pool.resource_name(), request.body);
    set::<v2::WorkerPool>(run, caller, request).await.map(to_old)
}

async fn test_old_pool(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsWorkerpoolsTestIamPermissionsRequest,
) -> Result<knative::TestIamPermissionsResponse> {
    let pool = old_pool(&run, &request.resource).await?;
    let request = test_request(pool.resource_name(), request.body);
    test::<v2::WorkerPool>(run, caller, request).await.map(answer_old)
}

/// The pool that the old form names, which writes its collection in lower case: permissions are asked and policies kept
/// by the one name that it has.
async fn old_pool(run: &Run, name: &str) -> Result<Place> {
    run.place(Kind::WorkerPool, &name.replacen("/workerpools/", "/workerPools/", 1)).await
}

/// A request in the old form as one in the new.
pub(super) fn read_request(resource: String, version: Option<i32>) -> GetIamPolicyRequest {
    let options = GetPolicyOptions { requested_policy_version: version.unwrap_or(1) };
    GetIamPolicyRequest { resource, options: Some(options) }
}

/// The same of a change.
pub(super) fn write_request(
    resource: String,
    body: Option<knative::SetIamPolicyRequest>,
) -> SetIamPolicyRequest {
    let policy = body.and_then(|body| body.policy).map(from_old);
    SetIamPolicyRequest { resource, policy, update_mask: None }
}

/// The same of a question.
pub(super) fn test_request(
    resource: String,
    body: Option<knative::TestIamPermissionsRequest>,
) -> TestIamPermissionsRequest {
    let permissions = body.map(|body| body.permissions).unwrap_or_default();
    TestIamPermissionsRequest { resource, permissions }
}

/// An answer in the old form.
pub(super) fn answer_old(answer: TestIamPermissionsResponse) -> knative::TestIamPermissionsResponse {
    knative::TestIamPermissionsResponse { permissions: answer.permissions }
}

impl Run {
    async fn existing(&self, kind: Kind, name: &str) -> Result<Service> {
        let place = self.place(kind, name).await?;
        Ok(self.services.get(&place.resource_name())?.value.clone())
    }
}

pub(super) fn to_old(policy: Policy) -> knative::Policy {
    let binding = |binding: Binding| knative::Binding {
        role: Some(binding.role),
        members: binding.members,
        condition: binding.condition.map(|condition| knative::Expr {
            expression: Some(condition.expression),
            title: Some(condition.title),
            description: Some(condition.description),
            location: Some(condition.location),
        }),
    };
    knative::Policy {
        version: Some(policy.version),
        bindings: policy.bindings.into_iter().map(binding).collect(),
        etag: Some(policy.etag),
        audit_configs: Vec::new(),
    }
}

fn from_old(policy: knative::Policy) -> Policy {
    let binding = |binding: knative::Binding| Binding {
        role: binding.role.unwrap_or_default(),
        members: binding.members,
        condition: binding.condition.map(|condition| Expr {
            expression: condition.expression.unwrap_or_default(),
            title: condition.title.unwrap_or_default(),
            description: condition.description.unwrap_or_default(),
            location: condition.location.unwrap_or_default(),
        }),
    };
    Policy {
        version: policy.version.unwrap_or_default(),
        bindings: policy.bindings.into_iter().map(binding).collect(),
        etag: policy.etag.unwrap_or_default(),
        audit_configs: Vec::new(),
    }
}
