//! Policies of services, in both forms. Once set, a policy also changes whether the ingress asks for a token.

use std::sync::Arc;

use apis::google::{
    cloud::run::v2::services,
    discovery::run::v1::{self as knative, projects_locations_services},
    iam::v1::{Binding, GetPolicyOptions},
    iam::v1::{
        GetIamPolicyRequest, Policy, SetIamPolicyRequest, TestIamPermissionsRequest,
        TestIamPermissionsResponse,
    },
    r#type::Expr,
};
use kernel::{Caller, Mount, Result, grant};

use crate::{Run, record::Service};

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount
        .unary(services::GET_IAM_POLICY, const { &[grant("run.services.getIamPolicy", "{resource}")] }, get)
        .unary(services::SET_IAM_POLICY, const { &[grant("run.services.setIamPolicy", "{resource}")] }, set)
        .unary(services::TEST_IAM_PERMISSIONS, &[], test)
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
}

async fn get(run: Arc<Run>, _: Caller, request: GetIamPolicyRequest) -> Result<Policy> {
    let service = run.existing(&request.resource).await?;
    let version = request.options.map_or(1, |options: GetPolicyOptions| options.requested_policy_version);
    run.ports.policies.get(&service.resource(), version)
}

async fn set(run: Arc<Run>, _: Caller, request: SetIamPolicyRequest) -> Result<Policy> {
    let service = run.existing(&request.resource).await?;
    let policy = run.ports.policies.set(&service.resource(), request).await?;
    run.route(&service.resource_name());
    Ok(policy)
}

async fn test(
    run: Arc<Run>,
    caller: Caller,
    request: TestIamPermissionsRequest,
) -> Result<TestIamPermissionsResponse> {
    // Google answers this for services that do not exist yet too: gcloud asks before it deploys.
    let place = run.place(&request.resource).await?;
    let resource = kernel::Resource::new(crate::engine::RUN, place.resource_name());
    let permissions = run.ports.policies.test(&caller, &resource, request.permissions)?;
    Ok(TestIamPermissionsResponse { permissions })
}

async fn get_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsServicesGetIamPolicyRequest,
) -> Result<knative::Policy> {
    let requested_policy_version =
        request.options.and_then(|options| options.requested_policy_version).unwrap_or(1);
    let options = Some(GetPolicyOptions { requested_policy_version });
    get(run, caller, GetIamPolicyRequest { resource: request.resource, options }).await.map(to_old)
}

async fn set_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsServicesSetIamPolicyRequest,
) -> Result<knative::Policy> {
    let policy = request.body.and_then(|body| body.policy).map(from_old);
    set(run, caller, SetIamPolicyRequest { resource: request.resource, policy, update_mask: None })
        .await
        .map(to_old)
}

async fn test_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsServicesTestIamPermissionsRequest,
) -> Result<knative::TestIamPermissionsResponse> {
    let permissions = request.body.map(|body| body.permissions).unwrap_or_default();
    let answer =
        test(run, caller, TestIamPermissionsRequest { resource: request.resource, permissions }).await?;
    Ok(knative::TestIamPermissionsResponse { permissions: answer.permissions })
}

impl Run {
    async fn existing(&self, name: &str) -> Result<Service> {
        let place = self.place(name).await?;
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

pub(super) fn from_old(policy: knative::Policy) -> Policy {
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
