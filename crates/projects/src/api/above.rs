//! `google.cloud.resourcemanager.v3.Folders` and `Organizations`, and what v1 has of organizations.

use std::sync::Arc;

use apis::google::{
    cloud::resourcemanager::v3::{
        self as proto, Folder, Organization, folder, folders, organization, organizations,
    },
    discovery::cloudresourcemanager::v1::{self as old, organizations as old_rpc},
    iam::v1::{
        GetIamPolicyRequest, Policy, SetIamPolicyRequest, TestIamPermissionsRequest,
        TestIamPermissionsResponse,
    },
    longrunning::{Operation, operation},
};
use kernel::{
    Caller, Error, Method, Mount, Resource, Result, grant,
    mirror::Versioned,
    names::{CUSTOMER, DOMAIN, ORGANIZATION, RESOURCE_MANAGER},
    operations::to_any,
    time::Micros,
};
use prost::Message;
use prost_types::Timestamp;

use super::v1::{read_request, show_policy};
use crate::{
    engine::{FolderSettings, Projects, organization_made},
    record::FolderRecord,
};

const FOLDER: &str = "google.cloud.resourcemanager.v3.Folder";
const SEE: &str = "resourcemanager.organizations.get";

pub(super) fn methods(projects: Arc<Projects>) -> Vec<Method> {
    let mut methods = folder_methods(projects.clone());
    methods.extend(organization_methods(projects.clone()));
    methods.extend(old_methods(projects));
    methods
}

fn folder_methods(projects: Arc<Projects>) -> Vec<Method> {
    Mount::new(projects)
        .unary(folders::GET_FOLDER, const { &[grant("resourcemanager.folders.get", "{name}")] }, get_folder)
        .unary(
            folders::LIST_FOLDERS,
            const { &[grant("resourcemanager.folders.list", "{parent}")] },
            list_folders,
        )
        // Callers are shown what they may see.
        .unary(folders::SEARCH_FOLDERS, &[], search_folders)
        .unary(
            folders::CREATE_FOLDER,
            const { &[grant("resourcemanager.folders.create", "{folder.parent}")] },
            create_folder,
        )
        .unary(
            folders::UPDATE_FOLDER,
            const { &[grant("resourcemanager.folders.update", "{folder.name}")] },
            update_folder,
        )
        .unary(
            folders::MOVE_FOLDER,
            const {
                &[
                    grant("resourcemanager.folders.move", "{name}"),
                    grant("resourcemanager.folders.move", "{destination_parent}"),
                ]
            },
            move_folder,
        )
        .unary(
            folders::DELETE_FOLDER,
            const { &[grant("resourcemanager.folders.delete", "{name}")] },
            delete_folder,
        )
        .unary(
            folders::UNDELETE_FOLDER,
            const { &[grant("resourcemanager.folders.undelete", "{name}")] },
            undelete_folder,
        )
        .unary(
            folders::GET_IAM_POLICY,
            const { &[grant("resourcemanager.folders.getIamPolicy", "{resource}")] },
            get_policy,
        )
        .unary(
            folders::SET_IAM_POLICY,
            const { &[grant("resourcemanager.folders.setIamPolicy", "{resource}")] },
            set_policy,
        )
        .unary(folders::TEST_IAM_PERMISSIONS, &[], test_permissions)
        .done()
}

fn organization_methods(projects: Arc<Projects>) -> Vec<Method> {
    Mount::new(projects)
        .unary(organizations::GET_ORGANIZATION, const { &[grant(SEE, "{name}")] }, get_organization)
        .unary(organizations::SEARCH_ORGANIZATIONS, &[], search_organizations)
        .unary(
            organizations::GET_IAM_POLICY,
            const { &[grant("resourcemanager.organizations.getIamPolicy", "{resource}")] },
            get_policy,
        )
        .unary(
            organizations::SET_IAM_POLICY,
            const { &[grant("resourcemanager.organizations.setIamPolicy", "{resource}")] },
            set_policy,
        )
        .unary(organizations::TEST_IAM_PERMISSIONS, &[], test_permissions)
        .done()
}

fn old_methods(projects: Arc<Projects>) -> Vec<Method> {
    Mount::new(projects)
        .unary(old_rpc::GET, const { &[grant(SEE, "{name}")] }, old_get)
        .unary(old_rpc::SEARCH, &[], old_search)
        .unary(
            old_rpc::GET_IAM_POLICY,
            const { &[grant("resourcemanager.organizations.getIamPolicy", "{resource}")] },
            old_get_policy,
        )
        .unary(
            old_rpc::SET_IAM_POLICY,
            const { &[grant("resourcemanager.organizations.setIamPolicy", "{resource}")] },
            old_set_policy,
        )
        .unary(old_rpc::TEST_IAM_PERMISSIONS, &[], old_test_permissions)
        .done()
}

async fn get_folder(projects: Arc<Projects>, _: Caller, request: proto::GetFolderRequest) -> Result<Folder> {
    Ok(show(&*projects.folder(&request.name)?))
}

async fn list_folders(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::ListFoldersRequest,
) -> Result<proto::ListFoldersResponse> {
    let proto::ListFoldersRequest { parent, page_size, page_token, show_deleted } = &request;
    projects.check_parent(parent)?;
    let asked =
        FolderSettings { parent, deleted: *show_deleted, query: "", page_size: *page_size, page_token };
    let (found, next_page_token) = projects.list_folders(&caller, &asked)?;
    Ok(proto::ListFoldersResponse { folders: found.iter().map(|one| show(one)).collect(), next_page_token })
}

async fn search_folders(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::SearchFoldersRequest,
) -> Result<proto::SearchFoldersResponse> {
    let proto::SearchFoldersRequest { page_size, page_token, query } = &request;
    let asked = FolderSettings { parent: "", deleted: true, query, page_size: *page_size, page_token };
    let (found, next_page_token) = projects.list_folders(&caller, &asked)?;
    Ok(proto::SearchFoldersResponse { folders: found.iter().map(|one| show(one)).collect(), next_page_token })
}

async fn create_folder(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::CreateFolderRequest,
) -> Result<Operation> {
    let Folder { parent, display_name, .. } = request.folder.unwrap_or_default();
    let made = projects.create_folder(&parent, &display_name).await?;
    let metadata = proto::CreateFolderMetadata { display_name, parent };
    Ok(done("cf", "CreateFolderMetadata", &metadata, &made))
}

async fn update_folder(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::UpdateFolderRequest,
) -> Result<Operation> {
    let wanted = request.folder.unwrap_or_default();
    let paths = request.update_mask.unwrap_or_default().paths;
    if paths.iter().any(|path| !matches!(&**path, "display_name" | "displayName")) || paths.is_empty() {
        return Err(Error::bad_field("update_mask", "Of a folder, display_name can be updated."));
    }
    let changed = projects.rename_folder(&wanted.name, &wanted.etag, &wanted.display_name).await?;
    Ok(done("uf", "UpdateFolderMetadata", &proto::UpdateFolderMetadata {}, &changed))
}

async fn move_folder(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::MoveFolderRequest,
) -> Result<Operation> {
    let before = projects.folder(&request.name)?;
    let moved = projects.move_folder(&request.name, &request.destination_parent).await?;
    let metadata = proto::MoveFolderMetadata {
        display_name: before.display_name.clone(),
        source_parent: before.parent.clone(),
        destination_parent: request.destination_parent,
    };
    Ok(done("mf", "MoveFolderMetadata", &metadata, &moved))
}

async fn delete_folder(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::DeleteFolderRequest,
) -> Result<Operation> {
    let deleted = projects.delete_folder(&request.name).await?;
    Ok(done("df", "DeleteFolderMetadata", &proto::DeleteFolderMetadata {}, &deleted))
}

async fn undelete_folder(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::UndeleteFolderRequest,
) -> Result<Operation> {
    let restored = projects.undelete_folder(&request.name).await?;
    Ok(done("udf", "UndeleteFolderMetadata", &proto::UndeleteFolderMetadata {}, &restored))
}

async fn get_organization(
    _: Arc<Projects>,
    _: Caller,
    request: proto::GetOrganizationRequest,
) -> Result<Organization> {
    check_organization(&request.name).map(|()| show_organization())
}

async fn search_organizations(
    _: Arc<Projects>,
    caller: Caller,
    request: proto::SearchOrganizationsRequest,
) -> Result<proto::SearchOrganizationsResponse> {
    let organizations =
        if may_find(&caller, &request.query) { vec![show_organization()] } else { Vec::new() };
    Ok(proto::SearchOrganizationsResponse { organizations, next_page_token: String::new() })
}

async fn get_policy(projects: Arc<Projects>, _: Caller, request: GetIamPolicyRequest) -> Result<Policy> {
    let resource = container(&projects, &request.resource)?;
    let version = request.options.map_or(0, |options| options.requested_policy_version);
    projects.policies()?.get(&resource, version)
}

async fn set_policy(projects: Arc<Projects>, _: Caller, request: SetIamPolicyRequest) -> Result<Policy> {
    let resource = container(&projects, &request.resource)?;
    projects.policies()?.set(&resource, request).await
}

async fn test_permissions(
    projects: Arc<Projects>,
    caller: Caller,
    request: TestIamPermissionsRequest,
) -> Result<TestIamPermissionsResponse> {
    let resource = container(&projects, &request.resource)?;
    let permissions = projects.policies()?.test(&caller, &resource, request.permissions)?;
    Ok(TestIamPermissionsResponse { permissions })
}

async fn old_get(
    _: Arc<Projects>,
    _: Caller,
    request: old::OrganizationsGetRequest,
) -> Result<old::Organization> {
    check_organization(&request.name).map(|()| old_organization())
}

async fn old_search(
    _: Arc<Projects>,
    caller: Caller,
    request: old::OrganizationsSearchRequest,
) -> Result<old::SearchOrganizationsResponse> {
    let filter = request.body.and_then(|body| body.filter).unwrap_or_default();
    let organizations = if may_find(&caller, &filter) { vec![old_organization()] } else { Vec::new() };
    Ok(old::SearchOrganizationsResponse { next_page_token: None, organizations })
}

async fn old_get_policy(
    projects: Arc<Projects>,
    _: Caller,
    request: old::OrganizationsGetIamPolicyRequest,
) -> Result<old::Policy> {
    let resource = container(&projects, &request.resource)?;
    let options = request.body.and_then(|body| body.options);
    let version = options.and_then(|options| options.requested_policy_version).unwrap_or_default();
    Ok(show_policy(projects.policies()?.get(&resource, version)?))
}

async fn old_set_policy(
    projects: Arc<Projects>,
    _: Caller,
    request: old::OrganizationsSetIamPolicyRequest,
) -> Result<old::Policy> {
    let resource = container(&projects, &request.resource)?;
    let request = read_request(&resource, request.body)?;
    Ok(show_policy(projects.policies()?.set(&resource, request).await?))
}

async fn old_test_permissions(
    projects: Arc<Projects>,
    caller: Caller,
    request: old::OrganizationsTestIamPermissionsRequest,
) -> Result<old::TestIamPermissionsResponse> {
    let resource = container(&projects, &request.resource)?;
    let asked = request.body.unwrap_or_default().permissions;
    let permissions = projects.policies()?.test(&caller, &resource, asked)?;
    Ok(old::TestIamPermissionsResponse { permissions })
}

/// The folder or organization that a policy is about, which must exist.
pub(super) fn container(projects: &Projects, name: &str) -> Result<Resource> {
    match name.starts_with("folders/") {
        true => projects.folder(name).map(drop)?,
        false => check_organization(name)?,
    }
    Ok(Resource::new(RESOURCE_MANAGER, name))
}

fn check_organization(name: &str) -> Result<()> {
    match name {
        ORGANIZATION => Ok(()),
        _ => Err(Error::denied("The caller does not have permission")),
    }
}

/// Whether a caller may see the organization, and it is what they look for: by domain, by customer, or anything.
fn may_find(caller: &Caller, query: &str) -> bool {
    let (field, value) = query.split_once([':', '=']).unwrap_or((query, ""));
    let is_it = match field.trim().to_ascii_lowercase().as_str() {
        "" => true,
        "domain" => value.trim() == DOMAIN,
        "owner.directorycustomerid" | "directorycustomerid" | "directory_customer_id" => {
            value.trim() == CUSTOMER
        }
        _ => false,
    };
    is_it && caller.may(SEE, &Resource::new(RESOURCE_MANAGER, ORGANIZATION))
}

/// An operation that is done as it is answered: nothing here takes time.
fn done(
    kind: &str,
    metadata_name: &str,
    metadata: &impl Message,
    folder: &Versioned<FolderRecord>,
) -> Operation {
    Operation {
        name: format!("operations/{kind}.{}", folder.number),
        metadata: Some(to_any(&format!("google.cloud.resourcemanager.v3.{metadata_name}"), metadata)),
        done: true,
        result: Some(operation::Result::Response(to_any(FOLDER, &show(folder)))),
    }
}

fn show(folder: &Versioned<FolderRecord>) -> Folder {
    let state = match folder.delete_time {
        None => folder::State::Active,
        Some(_) => folder::State::DeleteRequested,
    };
    Folder {
        name: folder.name(),
        parent: folder.parent.clone(),
        display_name: folder.display_name.clone(),
        state: state.into(),
        create_time: Some(Micros(folder.create_time).into()),
        update_time: Some(Micros(folder.update_time).into()),
        delete_time: folder.delete_time.map(|at| Micros(at).into()),
        etag: folder.etag(),
    }
}

fn show_organization() -> Organization {
    Organization {
        name: ORGANIZATION.to_owned(),
        display_name: DOMAIN.to_owned(),
        state: organization::State::Active.into(),
        create_time: Some(Micros(organization_made()).into()),
        update_time: Some(Micros(organization_made()).into()),
        delete_time: None,
        etag: kernel::etag::quoted(1),
        owner: Some(organization::Owner::DirectoryCustomerId(CUSTOMER.to_owned())),
    }
}

fn old_organization() -> old::Organization {
    old::Organization {
        creation_time: Some(Timestamp::from(Micros(organization_made())).to_string()),
        display_name: Some(DOMAIN.to_owned()),
        lifecycle_state: Some("ACTIVE".to_owned()),
        name: Some(ORGANIZATION.to_owned()),
        owner: Some(old::OrganizationOwner { directory_customer_id: Some(CUSTOMER.to_owned()) }),
    }
}
