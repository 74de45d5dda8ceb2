//! Folders in Resource Manager v2, which `gcloud resource-manager folders` speaks. Like v1 it comes from a discovery
//! document; its policies and operations are v1's, field for field.

use std::sync::Arc;

use apis::google::discovery::cloudresourcemanager::{
    v1,
    v2::{self as proto, Folder, Operation, folders as rpc},
};
use kernel::{Caller, Error, Method, Mount, Result, grant};
use prost::Message;

use super::{
    above::container,
    v1::{read_request, show_policy, structure, text, text_value, time},
};
use crate::{
    engine::{FolderSettings, Projects},
    record::FolderRecord,
};

/// What operations on folders begin with: the way of making or moving, then the folder's number, so that they need not
/// be stored.
const CREATION: &str = "operations/cf.";
const MOVE: &str = "operations/mf.";

pub(super) fn methods(projects: Arc<Projects>) -> Vec<Method> {
    Mount::new(projects)
        .unary(rpc::GET, const { &[grant("resourcemanager.folders.get", "{name}")] }, get)
        .unary(rpc::LIST, const { &[grant("resourcemanager.folders.list", "{parent}")] }, list)
        // Callers are shown what they may see.
        .unary(rpc::SEARCH, &[], search)
        .unary(rpc::CREATE, const { &[grant("resourcemanager.folders.create", "{parent}")] }, create)
        .unary(rpc::PATCH, const { &[grant("resourcemanager.folders.update", "{name}")] }, patch)
        .unary(
            rpc::MOVE,
            const {
                &[
                    grant("resourcemanager.folders.move", "{name}"),
                    grant("resourcemanager.folders.move", "{body.destination_parent}"),
                ]
            },
            move_to,
        )
        .unary(rpc::DELETE, const { &[grant("resourcemanager.folders.delete", "{name}")] }, delete)
        .unary(rpc::UNDELETE, const { &[grant("resourcemanager.folders.undelete", "{name}")] }, undelete)
        .unary(
            rpc::GET_IAM_POLICY,
            const { &[grant("resourcemanager.folders.getIamPolicy", "{resource}")] },
            get_policy,
        )
        .unary(
            rpc::SET_IAM_POLICY,
            const { &[grant("resourcemanager.folders.setIamPolicy", "{resource}")] },
            set_policy,
        )
        .unary(rpc::TEST_IAM_PERMISSIONS, &[], test_permissions)
        .done()
}

async fn get(projects: Arc<Projects>, _: Caller, request: proto::FoldersGetRequest) -> Result<Folder> {
    Ok(show(&*projects.folder(&request.name)?))
}

async fn list(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::FoldersListRequest,
) -> Result<proto::ListFoldersResponse> {
    let parent = text(&request.parent);
    projects.check_parent(parent)?;
    let asked = FolderSettings {
        parent,
        deleted: request.show_deleted.unwrap_or_default(),
        query: "",
        page_size: request.page_size.unwrap_or_default(),
        page_token: text(&request.page_token),
    };
    let (found, next) = projects.list_folders(&caller, &asked)?;
    Ok(proto::ListFoldersResponse {
        folders: found.iter().map(|folder| show(folder)).collect(),
        next_page_token: (!next.is_empty()).then_some(next),
    })
}

async fn search(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::FoldersSearchRequest,
) -> Result<proto::SearchFoldersResponse> {
    let body = request.body.unwrap_or_default();
    let (page_size, page_token) = (body.page_size.unwrap_or_default(), text(&body.page_token));
    let asked = FolderSettings { parent: "", deleted: true, query: text(&body.query), page_size, page_token };
    let (found, next) = projects.list_folders(&caller, &asked)?;
    Ok(proto::SearchFoldersResponse {
        folders: found.iter().map(|folder| show(folder)).collect(),
        next_page_token: (!next.is_empty()).then_some(next),
    })
}

async fn create(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::FoldersCreateRequest,
) -> Result<Operation> {
    let body = request.body.unwrap_or_default();
    let made = projects.create_folder(text(&request.parent), text(&body.display_name)).await?;
    same(&done(CREATION, &made))
}

async fn patch(projects: Arc<Projects>, _: Caller, request: proto::FoldersPatchRequest) -> Result<Folder> {
    if !matches!(text(&request.update_mask), "display_name" | "displayName") {
        return Err(Error::bad_field("update_mask", "Of a folder, display_name can be updated."));
    }
    let body = request.body.unwrap_or_default();
    Ok(show(&*projects.rename_folder(&request.name, "", text(&body.display_name)).await?))
}

async fn move_to(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::FoldersMoveRequest,
) -> Result<Operation> {
    let body = request.body.unwrap_or_default();
    let moved = projects.move_folder(&request.name, text(&body.destination_parent)).await?;
    same(&done(MOVE, &moved))
}

async fn delete(projects: Arc<Projects>, _: Caller, request: proto::FoldersDeleteRequest) -> Result<Folder> {
    Ok(show(&*projects.delete_folder(&request.name).await?))
}

async fn undelete(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::FoldersUndeleteRequest,
) -> Result<Folder> {
    Ok(show(&*projects.undelete_folder(&request.name).await?))
}

async fn get_policy(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::FoldersGetIamPolicyRequest,
) -> Result<proto::Policy> {
    let resource = container(&projects, &request.resource)?;
    let options = request.body.and_then(|body| body.options);
    let version = options.and_then(|options| options.requested_policy_version).unwrap_or_default();
    same(&show_policy(projects.policies()?.get(&resource, version)?))
}

async fn set_policy(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::FoldersSetIamPolicyRequest,
) -> Result<proto::Policy> {
    let resource = container(&projects, &request.resource)?;
    let body = request.body.map(|body| same(&body)).transpose()?;
    let request = read_request(&resource, body)?;
    same(&show_policy(projects.policies()?.set(&resource, request).await?))
}

async fn test_permissions(
    projects: Arc<Projects>,
    caller: Caller,
    request: proto::FoldersTestIamPermissionsRequest,
) -> Result<proto::TestIamPermissionsResponse> {
    let resource = container(&projects, &request.resource)?;
    let asked = request.body.unwrap_or_default().permissions;
    Ok(proto::TestIamPermissionsResponse {
        permissions: projects.policies()?.test(&caller, &resource, asked)?,
    })
}

/// What a call to make or to move a folder answered, once more; nothing where there was no such call.
pub(super) fn operation(projects: &Projects, caller: &Caller, name: &str) -> Result<Option<v1::Operation>> {
    let numbered = [CREATION, MOVE].iter().find_map(|kind| Some((*kind, name.strip_prefix(kind)?)));
    let Some((kind, number)) = numbered else { return Ok(None) };
    let Ok(folder) = projects.folder(&format!("folders/{number}")) else { return Ok(None) };
    caller.require("resourcemanager.folders.get", &container(projects, &folder.name())?)?;
    Ok(Some(done(kind, &folder)))
}

/// An operation that is done as it is answered: nothing here takes time.
fn done(kind: &str, folder: &FolderRecord) -> v1::Operation {
    let response = [
        ("@type", text_value("type.googleapis.com/google.cloud.resourcemanager.v2.Folder")),
        ("name", text_value(folder.name())),
        ("parent", text_value(&*folder.parent)),
        ("displayName", text_value(&*folder.display_name)),
        ("lifecycleState", text_value(folder.state())),
        ("createTime", text_value(time(folder.create_time))),
    ];
    v1::Operation {
        done: Some(true),
        error: None,
        metadata: None,
        name: Some(format!("{kind}{}", folder.number)),
        response: Some(structure(response)),
    }
}

fn show(folder: &FolderRecord) -> Folder {
    Folder {
        name: Some(folder.name()),
        parent: Some(folder.parent.clone()),
        display_name: Some(folder.display_name.clone()),
        lifecycle_state: Some(folder.state().to_owned()),
        create_time: Some(time(folder.create_time)),
        ..Folder::default()
    }
}

/// A message of one version as the other's, where both have the same fields.
fn same<T: Message + Default>(message: &impl Message) -> Result<T> {
    T::decode(&*message.encode_to_vec()).map_err(Error::internal)
}
