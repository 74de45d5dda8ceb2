//! Service accounts and their policies.

use std::sync::Arc;

use apis::google::iam::{
    admin::v1::{iam::*, *},
    v1::{
        GetIamPolicyRequest, Policy, SetIamPolicyRequest, TestIamPermissionsRequest,
        TestIamPermissionsResponse,
    },
};
use kernel::{
    Caller, Error, Mount, Resource, Result, grant,
    paging::{Limits, Page},
    ports::Policies,
};

use crate::{Iam, SERVICE, accounts::Chosen, records::AccountRecord};

/// <https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts/list>
const PAGES: Limits = Limits { usual: 20, most: 100 };

pub(super) fn mount(mount: Mount<Iam>) -> Mount<Iam> {
    mount
        .unary(CREATE_SERVICE_ACCOUNT, const { &[grant("iam.serviceAccounts.create", "{name}")] }, create)
        .unary(GET_SERVICE_ACCOUNT, const { &[grant("iam.serviceAccounts.get", "{name}")] }, get)
        .unary(LIST_SERVICE_ACCOUNTS, const { &[grant("iam.serviceAccounts.list", "{name}")] }, list)
        .unary(UPDATE_SERVICE_ACCOUNT, const { &[grant("iam.serviceAccounts.update", "{name}")] }, update)
        .unary(
            PATCH_SERVICE_ACCOUNT,
            const { &[grant("iam.serviceAccounts.update", "{service_account.name}")] },
            patch,
        )
        .unary(DELETE_SERVICE_ACCOUNT, const { &[grant("iam.serviceAccounts.delete", "{name}")] }, delete)
        .unary(
            UNDELETE_SERVICE_ACCOUNT,
            const { &[grant("iam.serviceAccounts.undelete", "{name}")] },
            undelete,
        )
        .unary(ENABLE_SERVICE_ACCOUNT, const { &[grant("iam.serviceAccounts.enable", "{name}")] }, enable)
        .unary(DISABLE_SERVICE_ACCOUNT, const { &[grant("iam.serviceAccounts.disable", "{name}")] }, disable)
        .unary(
            GET_IAM_POLICY,
            const { &[grant("iam.serviceAccounts.getIamPolicy", "{resource}")] },
            get_policy,
        )
        .unary(
            SET_IAM_POLICY,
            const { &[grant("iam.serviceAccounts.setIamPolicy", "{resource}")] },
            set_policy,
        )
        .unary(TEST_IAM_PERMISSIONS, &[], test_permissions)
}

async fn create(iam: Arc<Iam>, _: Caller, request: CreateServiceAccountRequest) -> Result<ServiceAccount> {
    let project = iam.parent(&request.name).await?;
    iam.may_create_account(&project.id, &request.account_id)?;
    let given = request.service_account.unwrap_or_default();
    let chosen = Chosen { display_name: given.display_name, description: given.description };
    iam.create_account(&project, &request.account_id, chosen).await.map(shown)
}

async fn get(iam: Arc<Iam>, _: Caller, request: GetServiceAccountRequest) -> Result<ServiceAccount> {
    iam.account_named(&request.name).await.map(|account| shown(account.value.clone()))
}

async fn list(
    iam: Arc<Iam>,
    _: Caller,
    request: ListServiceAccountsRequest,
) -> Result<ListServiceAccountsResponse> {
    let project = iam.parent(&request.name).await?;
    let page = Page::new(PAGES, request.page_size, &request.page_token, &[&project.id])?;
    let (accounts, next_page_token) = iam.list_accounts(&project, &page).await?;
    Ok(ListServiceAccountsResponse { accounts: accounts.into_iter().map(shown).collect(), next_page_token })
}

async fn update(iam: Arc<Iam>, _: Caller, request: ServiceAccount) -> Result<ServiceAccount> {
    let change = |account: &mut AccountRecord| account.display_name = request.display_name;
    iam.change_account(&request.name, change).await.map(shown)
}

async fn patch(iam: Arc<Iam>, _: Caller, request: PatchServiceAccountRequest) -> Result<ServiceAccount> {
    let given = request.service_account.unwrap_or_default();
    let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
    let known =
        |path: &String| matches!(path.as_str(), "display_name" | "displayName" | "description" | "etag");
    if paths.is_empty() || !paths.iter().all(known) {
        return Err(Error::bad_field(
            "update_mask",
            "The update mask must name display_name, description or both.",
        ));
    }
    let has = |name: &str| paths.iter().any(|path| path.eq_ignore_ascii_case(name));
    let (title, description) = (has("display_name") || has("displayName"), has("description"));
    let change = |account: &mut AccountRecord| {
        if title {
            account.display_name = given.display_name;
        }
        if description {
            account.description = given.description;
        }
    };
    iam.change_account(&given.name, change).await.map(shown)
}

async fn delete(iam: Arc<Iam>, _: Caller, request: DeleteServiceAccountRequest) -> Result<()> {
    iam.delete_account(&request.name).await
}

async fn undelete(
    iam: Arc<Iam>,
    _: Caller,
    request: UndeleteServiceAccountRequest,
) -> Result<UndeleteServiceAccountResponse> {
    let account = iam.undelete_account(&request.name).await?;
    Ok(UndeleteServiceAccountResponse { restored_account: Some(shown(account)) })
}

async fn enable(iam: Arc<Iam>, _: Caller, request: EnableServiceAccountRequest) -> Result<()> {
    iam.change_account(&request.name, |account| account.disabled = false).await.map(drop)
}

async fn disable(iam: Arc<Iam>, _: Caller, request: DisableServiceAccountRequest) -> Result<()> {
    iam.change_account(&request.name, |account| account.disabled = true).await.map(drop)
}

async fn get_policy(iam: Arc<Iam>, _: Caller, request: GetIamPolicyRequest) -> Result<Policy> {
    let resource = existing(&iam, &request.resource).await?;
    iam.get(&resource, request.options.unwrap_or_default().requested_policy_version)
}

async fn set_policy(iam: Arc<Iam>, _: Caller, request: SetIamPolicyRequest) -> Result<Policy> {
    let resource = existing(&iam, &request.resource).await?;
    iam.set(&resource, request).await
}

async fn test_permissions(
    iam: Arc<Iam>,
    caller: Caller,
    request: TestIamPermissionsRequest,
) -> Result<TestIamPermissionsResponse> {
    let resource = existing(&iam, &request.resource).await?;
    let permissions = iam.test(&caller, &resource, request.permissions)?;
    Ok(TestIamPermissionsResponse { permissions })
}

async fn existing(iam: &Iam, name: &str) -> Result<Resource> {
    iam.account_named(name).await.map(|_| Resource::new(SERVICE, name))
}

/// An account as the API shows it. Its etag is the same for every account, as Google's is.
#[allow(deprecated)]
fn shown(account: AccountRecord) -> ServiceAccount {
    ServiceAccount {
        name: format!("projects/{}/serviceAccounts/{}", account.project, account.email),
        project_id: account.project,
        oauth2_client_id: account.unique_id.clone(),
        unique_id: account.unique_id,
        email: account.email,
        display_name: account.display_name,
        etag: bytes::Bytes::from_static(b"01021920"),
        description: account.description,
        disabled: account.disabled,
    }
}
