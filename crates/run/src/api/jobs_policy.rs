//! Policies of jobs, in both forms.

use std::sync::Arc;

use apis::google::{
    cloud::run::v2::jobs,
    discovery::run::v1::{self as knative, projects_locations_jobs},
    iam::v1::{
        GetIamPolicyRequest, GetPolicyOptions, Policy, SetIamPolicyRequest, TestIamPermissionsRequest,
        TestIamPermissionsResponse,
    },
};
use kernel::{Caller, Mount, Resource, Result, grant};

use super::policy::{from_old, to_old};
use crate::Run;

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount
        .unary(jobs::GET_IAM_POLICY, const { &[grant("run.jobs.getIamPolicy", "{resource}")] }, get)
        .unary(jobs::SET_IAM_POLICY, const { &[grant("run.jobs.setIamPolicy", "{resource}")] }, set)
        .unary(jobs::TEST_IAM_PERMISSIONS, &[], test)
        .unary(
            projects_locations_jobs::GET_IAM_POLICY,
            const { &[grant("run.jobs.getIamPolicy", "{resource}")] },
            get_old,
        )
        .unary(
            projects_locations_jobs::SET_IAM_POLICY,
            const { &[grant("run.jobs.setIamPolicy", "{resource}")] },
            set_old,
        )
        .unary(projects_locations_jobs::TEST_IAM_PERMISSIONS, &[], test_old)
}

async fn get(run: Arc<Run>, _: Caller, request: GetIamPolicyRequest) -> Result<Policy> {
    let job = existing(&run, &request.resource).await?;
    let version = request.options.map_or(1, |options: GetPolicyOptions| options.requested_policy_version);
    run.ports.policies.get(&job, version)
}

async fn set(run: Arc<Run>, _: Caller, request: SetIamPolicyRequest) -> Result<Policy> {
    let job = existing(&run, &request.resource).await?;
    run.ports.policies.set(&job, request).await
}

async fn test(
    run: Arc<Run>,
    caller: Caller,
    request: TestIamPermissionsRequest,
) -> Result<TestIamPermissionsResponse> {
    // As with services, asked before there is a job, too.
    let job = run.job_place(&request.resource).await?.resource();
    let permissions = run.ports.policies.test(&caller, &job, request.permissions)?;
    Ok(TestIamPermissionsResponse { permissions })
}

async fn get_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsJobsGetIamPolicyRequest,
) -> Result<knative::Policy> {
    let requested_policy_version =
        request.options.and_then(|options| options.requested_policy_version).unwrap_or(1);
    let options = Some(GetPolicyOptions { requested_policy_version });
    get(run, caller, GetIamPolicyRequest { resource: request.resource, options }).await.map(to_old)
}

async fn set_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsJobsSetIamPolicyRequest,
) -> Result<knative::Policy> {
    let policy = request.body.and_then(|body| body.policy).map(from_old);
    let request = SetIamPolicyRequest { resource: request.resource, policy, update_mask: None };
    set(run, caller, request).await.map(to_old)
}

async fn test_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsJobsTestIamPermissionsRequest,
) -> Result<knative::TestIamPermissionsResponse> {
    let permissions = request.body.map(|body| body.permissions).unwrap_or_default();
    let request = TestIamPermissionsRequest { resource: request.resource, permissions };
    let TestIamPermissionsResponse { permissions } = test(run, caller, request).await?;
    Ok(knative::TestIamPermissionsResponse { permissions })
}

/// A job that exists, as permission checks see it.
async fn existing(run: &Run, name: &str) -> Result<Resource> {
    let place = run.job_place(name).await?;
    run.existing_job(&place).map(|held| held.value.resource())
}
