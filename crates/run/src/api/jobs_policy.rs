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

use super::policy::{answer_old, read_request, test_request, to_old, write_request};
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
    let version = request.options.and_then(|options| options.requested_policy_version);
    get(run, caller, read_request(request.resource, version)).await.map(to_old)
}

async fn set_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsJobsSetIamPolicyRequest,
) -> Result<knative::Policy> {
    set(run, caller, write_request(request.resource, request.body)).await.map(to_old)
}

async fn test_old(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsJobsTestIamPermissionsRequest,
) -> Result<knative::TestIamPermissionsResponse> {
    test(run, caller, test_request(request.resource, request.body)).await.map(answer_old)
}

/// A job that exists, as permission checks see it.
async fn existing(run: &Run, name: &str) -> Result<Resource> {
    let place = run.job_place(name).await?;
    run.existing_job(&place).map(|held| held.value.resource())
}
