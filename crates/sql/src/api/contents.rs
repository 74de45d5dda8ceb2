//! The methods of databases and users.

use std::sync::Arc;

use apis::google::cloud::sql::v1beta4::{self as proto, user::SqlUserType};
use kernel::{Caller, Result};

use super::convert;
use crate::{engine::Sql, postgres::admin::DatabaseRow, refuse};

pub(super) async fn insert_database(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlDatabasesInsertRequest,
) -> Result<proto::Operation> {
    let found = sql.instance(&request.project, &request.instance).await?;
    let proto::Database { name, charset, collation, .. } = request.body.unwrap_or_default();
    let job = sql.create_database(&caller, &found, &DatabaseRow { name, charset, collation }).await?;
    Ok(convert::operation(&caller, job))
}

pub(super) async fn list_databases(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlDatabasesListRequest,
) -> Result<proto::DatabasesListResponse> {
    let found = sql.instance(&request.project, &request.instance).await?;
    let rows = sql.databases(&found).await?;
    Ok(proto::DatabasesListResponse {
        kind: "sql#databasesList".into(),
        items: rows.into_iter().map(|row| convert::database(&caller, &found, row)).collect(),
    })
}

pub(super) async fn get_database(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlDatabasesGetRequest,
) -> Result<proto::Database> {
    let found = sql.instance(&request.project, &request.instance).await?;
    let row = sql.database(&found, &request.database).await?;
    Ok(convert::database(&caller, &found, row))
}

pub(super) async fn delete_database(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlDatabasesDeleteRequest,
) -> Result<proto::Operation> {
    let found = sql.instance(&request.project, &request.instance).await?;
    let job = sql.delete_database(&caller, &found, &request.database).await?;
    Ok(convert::operation(&caller, job))
}

pub(super) async fn insert_user(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlUsersInsertRequest,
) -> Result<proto::Operation> {
    let found = sql.instance(&request.project, &request.instance).await?;
    let user = request.body.unwrap_or_default();
    check_user(&user)?;
    let job = sql.create_user(&caller, &found, &user.name, &user.password).await?;
    Ok(convert::operation(&caller, job))
}

/// Refuses what users of PostgreSQL do not have here.
fn check_user(user: &proto::User) -> Result<()> {
    if user.r#type() != SqlUserType::BuiltIn {
        return Err(refuse::unsupported("A database user that logs in through IAM"));
    }
    if !user.host.is_empty() {
        return Err(refuse::invalid("Invalid host: users of PostgreSQL have none."));
    }
    if user.password_policy.is_some() || !user.database_roles.is_empty() {
        return Err(refuse::unsupported("A user's password policy, or roles of its own,"));
    }
    Ok(())
}

pub(super) async fn list_users(
    sql: Arc<Sql>,
    _: Caller,
    request: proto::SqlUsersListRequest,
) -> Result<proto::UsersListResponse> {
    let found = sql.instance(&request.project, &request.instance).await?;
    let names = sql.users(&found).await?;
    Ok(proto::UsersListResponse {
        kind: "sql#usersList".into(),
        items: names.into_iter().map(|name| convert::user(&found, name)).collect(),
        ..Default::default()
    })
}

pub(super) async fn get_user(
    sql: Arc<Sql>,
    _: Caller,
    request: proto::SqlUsersGetRequest,
) -> Result<proto::User> {
    let found = sql.instance(&request.project, &request.instance).await?;
    let name = sql.user(&found, &request.name).await?;
    Ok(convert::user(&found, name))
}

pub(super) async fn update_user(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlUsersUpdateRequest,
) -> Result<proto::Operation> {
    let found = sql.instance(&request.project, &request.instance).await?;
    if !request.database_roles.is_empty() {
        return Err(refuse::unsupported("Giving a user roles of its own"));
    }
    let user = request.body.unwrap_or_default();
    check_user(&user)?;
    let name = if request.name.is_empty() { &user.name } else { &request.name };
    let job = sql.update_user(&caller, &found, name, &user.password).await?;
    Ok(convert::operation(&caller, job))
}

pub(super) async fn delete_user(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlUsersDeleteRequest,
) -> Result<proto::Operation> {
    let found = sql.instance(&request.project, &request.instance).await?;
    let job = sql.delete_user(&caller, &found, &request.name).await?;
    Ok(convert::operation(&caller, job))
}
