//! What is known, as Google's messages show it.

use apis::google::cloud::sql::v1beta4::{
    self as proto, DatabaseInstance, SqlBackendType, SqlInstanceType, database_instance::SqlInstanceState,
    operation::SqlOperationStatus,
};
use kernel::Caller;
use prost::Message;

use crate::{
    engine::{Found, Job},
    names,
    postgres::admin::DatabaseRow,
    record::State,
};

/// What links of this API start with, as the caller reached it.
fn base(caller: &Caller) -> String {
    let host = match &*caller.request().host {
        "" => crate::SERVICE,
        host => host,
    };
    format!("https://{host}/sql/v1beta4/projects")
}

fn link(caller: &Caller, name: &str) -> String {
    let (project, instance) = names::parts(name);
    format!("{}/{project}/instances/{instance}", base(caller))
}

/// An instance.
pub(super) fn instance(caller: &Caller, found: &Found) -> DatabaseInstance {
    let record = &found.record;
    let (project, id) = names::parts(&found.name);
    let mut settings = proto::Settings::decode(&*record.settings).unwrap_or_default();
    settings.settings_version = Some(record.settings_version);
    DatabaseInstance {
        kind: "sql#instance".into(),
        state: state(record.state()) as i32,
        database_version: names::version(record.major) as i32,
        database_installed_version: installed(&record.installed),
        settings: Some(settings),
        etag: kernel::etag::quoted(record.revision).trim_matches('"').to_owned(),
        instance_type: SqlInstanceType::CloudSqlInstance as i32,
        project: project.into(),
        service_account_email_address: record.service_account.clone(),
        backend_type: SqlBackendType::SecondGen as i32,
        self_link: link(caller, &found.name),
        connection_name: names::connection(&found.name, &record.region),
        name: id.into(),
        region: record.region.clone(),
        gce_zone: record.zone.clone(),
        create_time: record.value.created,
        ..Default::default()
    }
}

fn state(state: State) -> SqlInstanceState {
    match state {
        State::Creating => SqlInstanceState::PendingCreate,
        State::Runnable => SqlInstanceState::Runnable,
        State::Deleting => SqlInstanceState::PendingDelete,
        State::Failed => SqlInstanceState::Failed,
    }
}

/// `POSTGRES_15_18` of `15.18`.
fn installed(version: &str) -> String {
    if version.is_empty() { String::new() } else { format!("POSTGRES_{}", version.replace('.', "_")) }
}

/// An operation.
pub(super) fn operation(caller: &Caller, job: Job) -> proto::Operation {
    let Job { id, record, is_done, failure } = job;
    let status = if is_done { SqlOperationStatus::Done } else { SqlOperationStatus::Running };
    let error = |failure: apis::google::rpc::Status| proto::OperationErrors {
        kind: "sql#operationErrors".into(),
        errors: vec![proto::OperationError {
            kind: "sql#operationError".into(),
            code: if failure.code == kernel::Code::Internal as i32 { "INTERNAL_ERROR" } else { "ERROR" }
                .into(),
            message: failure.message,
        }],
    };
    proto::Operation {
        kind: "sql#operation".into(),
        target_link: link(caller, &names::instance(&record.project, &record.instance)),
        status: status as i32,
        user: record.user,
        insert_time: record.inserted,
        start_time: record.inserted,
        end_time: record.ended.filter(|_| is_done),
        error: failure.map(error),
        operation_type: record.kind,
        self_link: format!("{}/{}/operations/{id}", base(caller), record.project),
        target_id: record.instance,
        target_project: record.project,
        name: id,
        ..Default::default()
    }
}

/// A database.
pub(super) fn database(caller: &Caller, found: &Found, row: DatabaseRow) -> proto::Database {
    let (project, instance) = names::parts(&found.name);
    proto::Database {
        kind: "sql#database".into(),
        charset: row.charset,
        collation: row.collation,
        self_link: format!("{}/databases/{}", link(caller, &found.name), row.name),
        name: row.name,
        instance: instance.into(),
        project: project.into(),
        ..Default::default()
    }
}

/// A user; its password is never shown.
pub(super) fn user(found: &Found, name: String) -> proto::User {
    let (project, instance) = names::parts(&found.name);
    proto::User {
        kind: "sql#user".into(),
        name,
        instance: instance.into(),
        project: project.into(),
        ..Default::default()
    }
}
