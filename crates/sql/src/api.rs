//! The methods of `google.cloud.sql.v1beta4` and of `v1`: validate, call, answer.
//!
//! Both versions have the same messages on the wire but for the settings of backups, so that there is one set of
//! handlers, in terms of `v1beta4`; `bridge` brings `v1` to them and back.

use std::sync::Arc;

use apis::google::cloud::sql::{
    v1,
    v1beta4::{
        self as proto, sql_connect_service as connect, sql_databases_service as databases,
        sql_instances_service as instances, sql_operations_service as operations, sql_users_service as users,
    },
};
use kernel::{Caller, Method, Mount, Result, grant, method::Grant};

use crate::{engine::Sql, refuse};

mod bridge;
mod contents;
mod convert;
mod instance;

use bridge::Both;

/// The methods that Cloud SQL serves.
pub fn methods(sql: Arc<Sql>) -> Vec<Method> {
    let mount = of_instances(Mount::new(sql));
    let mount = of_databases(mount);
    let mount = of_users(mount);
    of_the_rest(mount).done()
}

/// A permission on the project of a request.
const fn on_project(permission: &'static str) -> Grant {
    grant(permission, "projects/{project}")
}

/// A permission on the instance of a request.
const fn on_instance(permission: &'static str) -> Grant {
    grant(permission, "projects/{project}/instances/{instance}")
}

fn of_instances(mount: Mount<Sql>) -> Mount<Sql> {
    use v1::sql_instances_service as newer;
    const CREATE: &[Grant] = &[on_project("cloudsql.instances.create")];
    const LIST: &[Grant] = &[on_project("cloudsql.instances.list")];
    const GET: &[Grant] = &[on_instance("cloudsql.instances.get")];
    const UPDATE: &[Grant] = &[on_instance("cloudsql.instances.update")];
    const DELETE: &[Grant] = &[on_instance("cloudsql.instances.delete")];
    const RESTART: &[Grant] = &[on_instance("cloudsql.instances.restart")];
    mount
        .unary(instances::INSERT, CREATE, instance::insert)
        .unary(newer::INSERT, CREATE, bridge::insert)
        .unary(instances::LIST, LIST, instance::list)
        .unary(newer::LIST, LIST, bridge::list)
        .unary(instances::GET, GET, instance::get)
        .unary(newer::GET, GET, bridge::get)
        .unary(instances::PATCH, UPDATE, instance::patch)
        .unary(newer::PATCH, UPDATE, bridge::patch)
        .unary(instances::UPDATE, UPDATE, instance::update)
        .unary(newer::UPDATE, UPDATE, bridge::update)
        .both(instances::DELETE, newer::DELETE, DELETE, instance::delete)
        .both(instances::RESTART, newer::RESTART, RESTART, instance::restart)
}

fn of_databases(mount: Mount<Sql>) -> Mount<Sql> {
    use v1::sql_databases_service as newer;
    const CREATE: &[Grant] = &[on_instance("cloudsql.databases.create")];
    const LIST: &[Grant] = &[on_instance("cloudsql.databases.list")];
    const GET: &[Grant] = &[on_instance("cloudsql.databases.get")];
    const DELETE: &[Grant] = &[on_instance("cloudsql.databases.delete")];
    mount
        .both(databases::INSERT, newer::INSERT, CREATE, contents::insert_database)
        .both(databases::LIST, newer::LIST, LIST, contents::list_databases)
        .both(databases::GET, newer::GET, GET, contents::get_database)
        .both(databases::DELETE, newer::DELETE, DELETE, contents::delete_database)
}

fn of_users(mount: Mount<Sql>) -> Mount<Sql> {
    use v1::sql_users_service as newer;
    const CREATE: &[Grant] = &[on_instance("cloudsql.users.create")];
    const LIST: &[Grant] = &[on_instance("cloudsql.users.list")];
    const GET: &[Grant] = &[on_instance("cloudsql.users.get")];
    const UPDATE: &[Grant] = &[on_instance("cloudsql.users.update")];
    const DELETE: &[Grant] = &[on_instance("cloudsql.users.delete")];
    mount
        .both(users::INSERT, newer::INSERT, CREATE, contents::insert_user)
        .both(users::LIST, newer::LIST, LIST, contents::list_users)
        .both(users::GET, newer::GET, GET, contents::get_user)
        .both(users::UPDATE, newer::UPDATE, UPDATE, contents::update_user)
        .both(users::DELETE, newer::DELETE, DELETE, contents::delete_user)
}

fn of_the_rest(mount: Mount<Sql>) -> Mount<Sql> {
    use v1::{sql_connect_service as newer_connect, sql_operations_service as newer};
    const GET: &[Grant] = &[on_project("cloudsql.instances.get")];
    const SETTINGS: &[Grant] = &[on_instance("cloudsql.instances.get")];
    const CONNECT: &[Grant] = &[on_instance("cloudsql.instances.connect")];
    mount
        .both(operations::GET, newer::GET, GET, get_operation)
        .both(operations::LIST, newer::LIST, GET, list_operations)
        .both(
            connect::GET_CONNECT_SETTINGS,
            newer_connect::GET_CONNECT_SETTINGS,
            SETTINGS,
            instance::connect_settings,
        )
        .both(
            connect::GENERATE_EPHEMERAL_CERT,
            newer_connect::GENERATE_EPHEMERAL_CERT,
            CONNECT,
            no_certificates,
        )
}

async fn get_operation(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlOperationsGetRequest,
) -> Result<proto::Operation> {
    let job = sql.operation(&request.project, &request.operation).await?;
    Ok(convert::operation(&caller, job))
}

async fn list_operations(
    sql: Arc<Sql>,
    caller: Caller,
    request: proto::SqlOperationsListRequest,
) -> Result<proto::OperationsListResponse> {
    let proto::SqlOperationsListRequest { project, instance, max_results, page_token, .. } = &request;
    let (jobs, next_page_token) = sql.operations(project, instance, *max_results, page_token).await?;
    Ok(proto::OperationsListResponse {
        kind: "sql#operationsList".into(),
        items: jobs.into_iter().map(|job| convert::operation(&caller, job)).collect(),
        next_page_token,
    })
}

async fn no_certificates(
    _: Arc<Sql>,
    _: Caller,
    _: proto::GenerateEphemeralCertRequest,
) -> Result<proto::GenerateEphemeralCertResponse> {
    Err(refuse::unimplemented(
        "Connecting over TLS (the Cloud SQL Auth Proxy and the connectors do; a workload has the socket \
         /cloudsql/PROJECT:REGION:INSTANCE, and this machine the one that haar shows)",
    ))
}
