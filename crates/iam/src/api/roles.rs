//! Predefined roles, to be looked at.

use std::sync::Arc;

use apis::google::iam::admin::v1::{Role as Shown, iam::*, role::RoleLaunchStage, *};
use kernel::{
    Caller, Error, Mount, Resource, Result,
    names::RESOURCE_MANAGER,
    paging::{Limits, Page},
};

use crate::{Iam, roles::Role};

/// <https://cloud.google.com/iam/docs/reference/rest/v1/roles/list>
const PAGES: Limits = Limits { usual: 300, most: 1000 };
/// <https://cloud.google.com/iam/docs/reference/rest/v1/permissions/queryTestablePermissions>
const PERMISSION_PAGES: Limits = Limits { usual: 100, most: 1000 };

pub(super) fn mount(mount: Mount<Iam>) -> Mount<Iam> {
    mount
        .unary(LIST_ROLES, &[], list)
        .unary(GET_ROLE, &[], get)
        .unary(QUERY_GRANTABLE_ROLES, &[], grantable)
        .unary(QUERY_TESTABLE_PERMISSIONS, &[], testable)
}

async fn list(_: Arc<Iam>, caller: Caller, request: ListRolesRequest) -> Result<ListRolesResponse> {
    if !request.parent.is_empty() {
        // Custom roles, of which there are none yet.
        caller.require("iam.roles.list", &Resource::new(RESOURCE_MANAGER, request.parent))?;
        return Ok(ListRolesResponse::default());
    }
    let page = Page::new(PAGES, request.page_size, &request.page_token, &["roles"])?;
    let (roles, next_page_token) = turn(&page, Role::all().iter(), |role| &role.name);
    let roles = roles.into_iter().map(|role| shown(role, request.view())).collect();
    Ok(ListRolesResponse { roles, next_page_token })
}

async fn get(_: Arc<Iam>, caller: Caller, request: GetRoleRequest) -> Result<Shown> {
    if let Some((parent, _)) = request.name.split_once("/roles/") {
        caller.require("iam.roles.get", &Resource::new(RESOURCE_MANAGER, parent))?;
    }
    match Role::named(&request.name) {
        Some(role) => Ok(shown(role, RoleView::Full)),
        None => Err(Error::not_found(format!("The role named {} was not found.", request.name))),
    }
}

async fn grantable(
    _: Arc<Iam>,
    _: Caller,
    request: QueryGrantableRolesRequest,
) -> Result<QueryGrantableRolesResponse> {
    let service = service_of(&request.full_resource_name)?;
    let page = Page::new(PAGES, request.page_size, &request.page_token, &[&request.full_resource_name])?;
    let roles = Role::all().iter().filter(|role| role.concerns(service));
    let (roles, next_page_token) = turn(&page, roles, |role| &role.name);
    let roles = roles.into_iter().map(|role| shown(role, request.view())).collect();
    Ok(QueryGrantableRolesResponse { roles, next_page_token })
}

async fn testable(
    _: Arc<Iam>,
    _: Caller,
    request: QueryTestablePermissionsRequest,
) -> Result<QueryTestablePermissionsResponse> {
    let service = service_of(&request.full_resource_name)?;
    let page =
        Page::new(PERMISSION_PAGES, request.page_size, &request.page_token, &[&request.full_resource_name])?;
    let permissions = crate::roles::Permission::all().filter(|permission| permission.concerns(service));
    let (permissions, next_page_token) = turn(&page, permissions, |permission| permission.name());
    let shown = |permission: crate::roles::Permission| Permission {
        name: permission.name().to_owned(),
        stage: permission::PermissionLaunchStage::Ga as i32,
        ..Permission::default()
    };
    Ok(QueryTestablePermissionsResponse {
        permissions: permissions.into_iter().map(shown).collect(),
        next_page_token,
    })
}

/// One page of a list that stays as it is: what follows the last name of the page before.
fn turn<T>(page: &Page, all: impl Iterator<Item = T>, name: impl Fn(&T) -> &str) -> (Vec<T>, String) {
    let mut seen = page.after().is_empty();
    let mut rest = all.skip_while(|item| {
        let skip = !seen;
        seen |= name(item) == page.after();
        skip
    });
    let items: Vec<T> = rest.by_ref().take(page.size()).collect();
    let token = match (items.last(), rest.next()) {
        (Some(last), Some(_)) => page.token(name(last)),
        _ => String::new(),
    };
    (items, token)
}

fn service_of(full: &str) -> Result<&str> {
    full.strip_prefix("//")
        .and_then(|rest| rest.split_once('/'))
        .map(|(service, _)| service)
        .ok_or_else(|| Error::bad_field("full_resource_name", format!("Invalid full resource name: {full}")))
}

fn shown(role: &Role, view: RoleView) -> Shown {
    let permissions = match view {
        RoleView::Basic => Vec::new(),
        RoleView::Full => role.permissions().iter().map(|permission| permission.name().to_owned()).collect(),
    };
    Shown {
        name: role.name.clone(),
        title: role.title.to_owned(),
        included_permissions: permissions,
        stage: RoleLaunchStage::Ga as i32,
        etag: bytes::Bytes::from_static(&[0]),
        ..Shown::default()
    }
}
