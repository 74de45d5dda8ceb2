//! The methods of instances.

use std::sync::Arc;

use apis::google::cloud::sql::v1beta4::{self as proto, SqlBackendType, SqlInstanceType};
use kernel::{Caller, Result};

use super::convert;
use crate::{
    engine::{Change, NewInstance, Sql},
    names, refuse,
};

pub(super) async fn insert(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlInstancesInsertRequest,
) -> Result<proto::Operation> {
    let body = request.body.unwrap_or_default();
    check_kind(&body)?;
    let major = names::major(body.database_version())?;
    let new = NewInstance {
        major,
        id: body.name,
        region: body.region,
        settings: body.settings.unwrap_or_default(),
        root_password: body.root_password,
    };
    let job = sql.insert(&caller, &request.project, new).await?;
    Ok(convert::operation(&caller, job))
}

/// Refuses what would not be an instance of its own.
fn check_kind(body: &proto::DatabaseInstance) -> Result<()> {
    let is_primary =
        matches!(body.instance_type(), SqlInstanceType::Unspecified | SqlInstanceType::CloudSqlInstance);
    if !is_primary || !body.master_instance_name.is_empty() || body.replica_configuration.is_some() {
        return Err(refuse::unsupported("A replica"));
    }
    if body.disk_encryption_configuration.is_some() {
        return Err(refuse::unsupported("A customer-managed encryption key"));
    }
    Ok(())
}

pub(super) async fn list(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlInstancesListRequest,
) -> Result<proto::InstancesListResponse> {
    let proto::SqlInstancesListRequest { project, max_results, page_token, filter } = &request;
    if !filter.is_empty() {
        return Err(refuse::unsupported("A filter of instances"));
    }
    let (found, next_page_token) = sql.instances(project, *max_results, page_token).await?;
    Ok(proto::InstancesListResponse {
        kind: "sql#instancesList".into(),
        items: found.iter().map(|found| convert::instance(&caller, found)).collect(),
        next_page_token,
        ..Default::default()
    })
}

pub(super) async fn get(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlInstancesGetRequest,
) -> Result<proto::DatabaseInstance> {
    let found = sql.instance(&request.project, &request.instance).await?;
    Ok(convert::instance(&caller, &found))
}

pub(super) async fn patch(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlInstancesPatchRequest,
) -> Result<proto::Operation> {
    let (project, instance) = (&request.project, &request.instance);
    change(sql, caller, project, instance, request.body.unwrap_or_default(), Change::Merge).await
}

pub(super) async fn update(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlInstancesUpdateRequest,
) -> Result<proto::Operation> {
    let (project, instance) = (&request.project, &request.instance);
    change(sql, caller, project, instance, request.body.unwrap_or_default(), Change::Replace).await
}

async fn change(
    sql: Arc<Sql>,
    caller: Caller,
    project: &str,
    instance: &str,
    body: proto::DatabaseInstance,
    how: Change,
) -> Result<proto::Operation> {
    let found = sql.instance(project, instance).await?;
    let version = body.database_version();
    if version != proto::SqlDatabaseVersion::Unspecified && names::major(version)? != found.record.major {
        return Err(refuse::unsupported("Upgrading to another major version"));
    }
    let job = sql.change(&caller, &found, &body.settings.unwrap_or_default(), how).await?;
    Ok(convert::operation(&caller, job))
}

pub(super) async fn delete(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlInstancesDeleteRequest,
) -> Result<proto::Operation> {
    if request.enable_final_backup == Some(true) {
        return Err(refuse::unsupported("A final backup"));
    }
    let found = sql.instance(&request.project, &request.instance).await?;
    let job = sql.remove(&caller, &found).await?;
    Ok(convert::operation(&caller, job))
}

pub(super) async fn restart(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlInstancesRestartRequest,
) -> Result<proto::Operation> {
    let found = sql.instance(&request.project, &request.instance).await?;
    let job = sql.restart_instance(&caller, &found).await?;
    Ok(convert::operation(&caller, job))
}

pub(super) async fn connect_settings(
    sql: Arc<Sql>,
    _: Caller,
    request: proto::GetConnectSettingsRequest,
) -> Result<proto::ConnectSettings> {
    let found = sql.instance(&request.project, &request.instance).await?;
    Ok(proto::ConnectSettings {
        kind: "sql#connectSettings".into(),
        region: found.record.region.clone(),
        database_version: names::version(found.record.major) as i32,
        backend_type: SqlBackendType::SecondGen as i32,
        connection_name: names::connection(&found.name, &found.record.region),
        ..Default::default()
    })
}
