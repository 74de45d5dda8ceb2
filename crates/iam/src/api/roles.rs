//! Roles, predefined and custom, and what can be granted where.

use std::sync::Arc;

use apis::google::iam::admin::v1::{
    Permission as ShownPermission, Role as Shown, iam::*, permission::*, role::RoleLaunchStage, *,
};
use kernel::{
    Caller, Error, Mount, Result, etag, grant,
    mirror::Versioned,
    paging::{Limits, Page},
};

use crate::{
    Iam, conditions,
    custom::{self, Deleted, NamedRole},
    records::RoleRecord,
    roles::{Permission, Role},
};

/// <https://cloud.google.com/iam/docs/reference/rest/v1/roles/list>
const PAGES: Limits = Limits { usual: 300, most: 1000 };
/// <https://cloud.google.com/iam/docs/reference/rest/v1/permissions/queryTestablePermissions>
const PERMISSION_PAGES: Limits = Limits { usual: 100, most: 1000 };

pub(super) fn mount(mount: Mount<Iam>) -> Mount<Iam> {
    mount
        .unary(LIST_ROLES, &[], list)
        .unary(GET_ROLE, &[], get)
        .unary(CREATE_ROLE, const { &[grant("iam.roles.create", "{parent}")] }, create)
        .unary(UPDATE_ROLE, const { &[grant("iam.roles.update", "{name}")] }, update)
        .unary(DELETE_ROLE, const { &[grant("iam.roles.delete", "{name}")] }, delete)
        .unary(UNDELETE_ROLE, const { &[grant("iam.roles.undelete", "{name}")] }, undelete)
        .unary(QUERY_GRANTABLE_ROLES, &[], grantable)
        .unary(QUERY_TESTABLE_PERMISSIONS, &[], testable)
        .unary(LINT_POLICY, &[], lint)
}

async fn list(iam: Arc<Iam>, caller: Caller, request: ListRolesRequest) -> Result<ListRolesResponse> {
    let view = request.view();
    if request.parent.is_empty() {
        let page = Page::new(PAGES, request.page_size, &request.page_token, &["roles"])?;
        let (roles, next_page_token) = turn(&page, Role::all().iter(), |role| &role.name);
        return Ok(ListRolesResponse {
            roles: roles.into_iter().map(|role| predefined(role, view)).collect(),
            next_page_token,
        });
    }
    let parent = iam.role_parent(&request.parent).await?;
    caller.require("iam.roles.list", &custom::resource_of(&parent))?;
    let deleted = if request.show_deleted { Deleted::Shown } else { Deleted::Hidden };
    let page = Page::new(PAGES, request.page_size, &request.page_token, &[&parent])?;
    let (roles, next_page_token) = iam.custom_roles(&parent, &page, deleted);
    Ok(ListRolesResponse { roles: roles.iter().map(|role| listed(role, view)).collect(), next_page_token })
}

async fn get(iam: Arc<Iam>, caller: Caller, request: GetRoleRequest) -> Result<Shown> {
    if let Some(role) = Role::named(&request.name) {
        return Ok(predefined(role, RoleView::Full));
    }
    if request.name.starts_with("roles/") {
        return Err(Error::not_found(format!("The role named {} was not found.", request.name)));
    }
    let name = iam.role_name(&request.name).await?;
    caller
        .require("iam.roles.get", &custom::resource_of(name.split("/roles/").next().unwrap_or_default()))?;
    Ok(shown(&name, &*iam.custom_role(&name)?, RoleView::Full))
}

async fn create(iam: Arc<Iam>, _: Caller, request: CreateRoleRequest) -> Result<Shown> {
    let parent = iam.role_parent(&request.parent).await?;
    let given = request.role.unwrap_or_default();
    let role = RoleRecord {
        title: given.title,
        description: given.description,
        permissions: in_order(given.included_permissions),
        stage: given.stage,
        deleted: 0,
    };
    let made = iam.create_role(&parent, &request.role_id, role).await?;
    Ok(shown(&format!("{parent}/roles/{}", request.role_id), &made, RoleView::Full))
}

async fn update(iam: Arc<Iam>, _: Caller, request: UpdateRoleRequest) -> Result<Shown> {
    let name = iam.role_name(&request.name).await?;
    let given = request.role.unwrap_or_default();
    let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
    let etag = given.etag.clone();
    let changed = iam.change_role(&name, &etag, |role, _| apply(role, given, &paths)).await?;
    Ok(shown(&name, &changed, RoleView::Full))
}

/// Changes the fields that a mask names: all, where there is none.
fn apply(role: &mut RoleRecord, given: Shown, paths: &[String]) -> Result<()> {
    if role.deleted != 0 {
        return Err(Error::precondition("You can't update a role that has been marked for deletion."));
    }
    let every = ["title", "description", "stage", "included_permissions"].map(str::to_owned);
    for path in if paths.is_empty() { &every[..] } else { paths } {
        match path.as_str() {
            "title" => role.title.clone_from(&given.title),
            "description" => role.description.clone_from(&given.description),
            "stage" => role.stage = given.stage,
            "included_permissions" | "includedPermissions" => {
                role.permissions = in_order(given.included_permissions.clone());
            }
            "etag" | "name" => {}
            path => {
                return Err(Error::bad_field(
                    "update_mask",
                    format!("The update mask cannot name '{path}'."),
                ));
            }
        }
    }
    Ok(())
}

async fn delete(iam: Arc<Iam>, _: Caller, request: DeleteRoleRequest) -> Result<Shown> {
    let name = iam.role_name(&request.name).await?;
    let deleted = iam.change_role(&name, &request.etag, custom::delete).await?;
    Ok(shown(&name, &deleted, RoleView::Full))
}

async fn undelete(iam: Arc<Iam>, _: Caller, request: UndeleteRoleRequest) -> Result<Shown> {
    let name = iam.role_name(&request.name).await?;
    let role = iam.change_role(&name, &request.etag, custom::undelete).await?;
    Ok(shown(&name, &role, RoleView::Full))
}

async fn grantable(
    iam: Arc<Iam>,
    _: Caller,
    request: QueryGrantableRolesRequest,
) -> Result<QueryGrantableRolesResponse> {
    let (service, name) = resource_of(&request.full_resource_name)?;
    let page = Page::new(PAGES, request.page_size, &request.page_token, &[&request.full_resource_name])?;
    let view = request.view();
    let mut roles: Vec<Shown> =
        Role::all().iter().filter(|role| role.concerns(service)).map(|role| predefined(role, view)).collect();
    if let Some(id) = kernel::names::parse(name, ["projects"]).map(|[id]| id) {
        let parent = iam.role_parent(&format!("projects/{id}")).await?;
        let all = Page::new(Limits { usual: 1000, most: 1000 }, 0, "", &[])?;
        let (own, _) = iam.custom_roles(&parent, &all, Deleted::Hidden);
        roles.extend(own.iter().filter(|(_, role)| role.is_in_force()).map(|role| listed(role, view)));
    }
    let (roles, next_page_token) = turn(&page, roles.into_iter(), |role| &role.name);
    Ok(QueryGrantableRolesResponse { roles, next_page_token })
}

async fn testable(
    _: Arc<Iam>,
    _: Caller,
    request: QueryTestablePermissionsRequest,
) -> Result<QueryTestablePermissionsResponse> {
    let (service, name) = resource_of(&request.full_resource_name)?;
    let page =
        Page::new(PERMISSION_PAGES, request.page_size, &request.page_token, &[&request.full_resource_name])?;
    let permissions = Permission::all().filter(|permission| permission.concerns(service));
    let (permissions, next_page_token) = turn(&page, permissions, |permission| permission.name());
    let shown = |permission: Permission| ShownPermission {
        name: permission.name().to_owned(),
        stage: PermissionLaunchStage::Ga as i32,
        custom_roles_support_level: match custom::is_supported(permission, name) {
            true => CustomRolesSupportLevel::Supported as i32,
            false => CustomRolesSupportLevel::NotSupported as i32,
        },
        ..ShownPermission::default()
    };
    Ok(QueryTestablePermissionsResponse {
        permissions: permissions.into_iter().map(shown).collect(),
        next_page_token,
    })
}

/// Looks at a condition: what is wrong with it, if anything.
async fn lint(_: Arc<Iam>, _: Caller, request: LintPolicyRequest) -> Result<LintPolicyResponse> {
    let Some(lint_policy_request::LintObject::Condition(condition)) = request.lint_object else {
        return Err(Error::bad_field("condition", "A condition to look at is missing."));
    };
    let result = |severity, location_offset, debug_message| LintResult {
        level: lint_result::Level::Condition as i32,
        validation_unit_name: "LintValidationUnits/ConditionCompileCheck".into(),
        severity: severity as i32,
        field_name: "condition.expression".into(),
        location_offset,
        debug_message,
    };
    let problem = conditions::problem(&condition.expression);
    let lint_results = problem
        .map(|(at, why)| result(lint_result::Severity::Error, i32::try_from(at).unwrap_or(i32::MAX), why))
        .into_iter()
        .collect();
    Ok(LintPolicyResponse { lint_results })
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

/// The service and the relative name of a full resource name.
pub(super) fn resource_of(full: &str) -> Result<(&str, &str)> {
    full.strip_prefix("//")
        .and_then(|rest| rest.split_once('/'))
        .ok_or_else(|| Error::bad_field("full_resource_name", format!("Invalid full resource name: {full}")))
}

fn predefined(role: &Role, view: RoleView) -> Shown {
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

fn listed((name, role): &NamedRole, view: RoleView) -> Shown {
    shown(name, role, view)
}

fn shown(name: &str, role: &Versioned<RoleRecord>, view: RoleView) -> Shown {
    Shown {
        name: name.to_owned(),
        title: role.title.clone(),
        description: role.description.clone(),
        included_permissions: match view {
            RoleView::Basic => Vec::new(),
            RoleView::Full => role.permissions.clone(),
        },
        stage: role.stage,
        etag: etag::bytes(role.revision).into(),
        deleted: role.deleted != 0,
    }
}

fn in_order(mut permissions: Vec<String>) -> Vec<String> {
    permissions.sort();
    permissions.dedup();
    permissions
}
