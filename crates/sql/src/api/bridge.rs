//! Brings `v1` to the handlers of `v1beta4`.
//!
//! The messages are the same on the wire, but two: some settings of backups have other numbers, and replication
//! clusters differ, which are not served. So everything is encoded and decoded as it is, and those are put over by
//! name.

use std::sync::Arc;

use apis::{
    Rpc,
    google::cloud::sql::{v1, v1beta4 as beta},
};
use kernel::{Caller, Error, Mount, Result, method::Grant};
use prost::Message;

use super::instance;
use crate::engine::Sql;

/// Mounts a handler for both versions.
pub(super) trait Both: Sized {
    /// Mounts a handler of `v1beta4` messages for a method of either version. No message of it has an instance inside.
    fn both<Q, S, Q1, S1, F, R>(
        self,
        beta: Rpc<Q, S>,
        newer: Rpc<Q1, S1>,
        grants: &'static [Grant],
        answer: F,
    ) -> Self
    where
        Q: Message + Default + Send + 'static,
        S: Message + Send + 'static,
        Q1: Message + Default + Send + 'static,
        S1: Message + Default + 'static,
        F: Fn(Arc<Sql>, Caller, Q) -> R + Copy + Send + Sync + 'static,
        R: Future<Output = Result<S>> + Send + 'static;
}

impl Both for Mount<Sql> {
    fn both<Q, S, Q1, S1, F, R>(
        self,
        beta: Rpc<Q, S>,
        newer: Rpc<Q1, S1>,
        grants: &'static [Grant],
        answer: F,
    ) -> Self
    where
        Q: Message + Default + Send + 'static,
        S: Message + Send + 'static,
        Q1: Message + Default + Send + 'static,
        S1: Message + Default + 'static,
        F: Fn(Arc<Sql>, Caller, Q) -> R + Copy + Send + Sync + 'static,
        R: Future<Output = Result<S>> + Send + 'static,
    {
        self.unary(beta, grants, answer).unary(newer, grants, move |sql, caller, request: Q1| async move {
            recoded(&answer(sql, caller, recoded(&request)?).await?)
        })
    }
}

pub(super) async fn insert(
    sql: Arc<Sql>,
    caller: Caller,
    request: v1::SqlInstancesInsertRequest,
) -> Result<v1::Operation> {
    let body = request.body.map(to_beta).transpose()?;
    let request = beta::SqlInstancesInsertRequest { project: request.project, body };
    recoded(&instance::insert(sql, caller, request).await?)
}

pub(super) async fn patch(
    sql: Arc<Sql>,
    caller: Caller,
    request: v1::SqlInstancesPatchRequest,
) -> Result<v1::Operation> {
    let body = request.body.map(to_beta).transpose()?;
    let v1::SqlInstancesPatchRequest { project, instance, .. } = request;
    let request = beta::SqlInstancesPatchRequest { project, instance, body, ..Default::default() };
    recoded(&instance::patch(sql, caller, request).await?)
}

pub(super) async fn update(
    sql: Arc<Sql>,
    caller: Caller,
    request: v1::SqlInstancesUpdateRequest,
) -> Result<v1::Operation> {
    let body = request.body.map(to_beta).transpose()?;
    let v1::SqlInstancesUpdateRequest { project, instance, .. } = request;
    let request = beta::SqlInstancesUpdateRequest { project, instance, body };
    recoded(&instance::update(sql, caller, request).await?)
}

pub(super) async fn get(
    sql: Arc<Sql>,
    caller: Caller,
    request: v1::SqlInstancesGetRequest,
) -> Result<v1::DatabaseInstance> {
    from_beta(instance::get(sql, caller, recoded(&request)?).await?)
}

pub(super) async fn list(
    sql: Arc<Sql>,
    caller: Caller,
    request: v1::SqlInstancesListRequest,
) -> Result<v1::InstancesListResponse> {
    let mut listed = instance::list(sql, caller, recoded(&request)?).await?;
    let items = std::mem::take(&mut listed.items).into_iter().map(from_beta).collect::<Result<_>>()?;
    Ok(v1::InstancesListResponse { items, ..recoded(&listed)? })
}

/// The same bytes, as another message.
fn recoded<A: Message, B: Message + Default>(message: &A) -> Result<B> {
    B::decode(&*message.encode_to_vec()).map_err(Error::internal)
}

fn to_beta(mut instance: v1::DatabaseInstance) -> Result<beta::DatabaseInstance> {
    instance.replication_cluster = None;
    let taken = instance.settings.as_mut().and_then(|settings| settings.backup_configuration.take());
    let mut recoded: beta::DatabaseInstance = recoded(&instance)?;
    if let (Some(settings), Some(backups)) = (&mut recoded.settings, taken) {
        settings.backup_configuration = Some(backups_to_beta(backups)?);
    }
    Ok(recoded)
}

fn from_beta(mut instance: beta::DatabaseInstance) -> Result<v1::DatabaseInstance> {
    instance.replication_cluster = None;
    let taken = instance.settings.as_mut().and_then(|settings| settings.backup_configuration.take());
    let mut recoded: v1::DatabaseInstance = recoded(&instance)?;
    if let (Some(settings), Some(backups)) = (&mut recoded.settings, taken) {
        settings.backup_configuration = Some(backups_from_beta(backups)?);
    }
    Ok(recoded)
}

fn backups_to_beta(mut backups: v1::BackupConfiguration) -> Result<beta::BackupConfiguration> {
    let retention = backups.backup_retention_settings.take();
    let (storage, tier) = (backups.transactional_log_storage_state.take(), backups.backup_tier.take());
    Ok(beta::BackupConfiguration {
        backup_retention_settings: retention.as_ref().map(recoded).transpose()?,
        transactional_log_storage_state: storage,
        backup_tier: tier,
        ..recoded(&backups)?
    })
}

fn backups_from_beta(mut backups: beta::BackupConfiguration) -> Result<v1::BackupConfiguration> {
    let retention = backups.backup_retention_settings.take();
    let (storage, tier) = (backups.transactional_log_storage_state.take(), backups.backup_tier.take());
    Ok(v1::BackupConfiguration {
        backup_retention_settings: retention.as_ref().map(recoded).transpose()?,
        transactional_log_storage_state: storage,
        backup_tier: tier,
        ..recoded(&backups)?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_keep_their_meaning_in_the_other_version() {
        let backups = v1::BackupConfiguration {
            enabled: Some(true),
            start_time: "03:00".into(),
            backup_retention_settings: Some(v1::BackupRetentionSettings {
                retained_backups: Some(7),
                ..Default::default()
            }),
            transactional_log_storage_state: Some(1),
            ..Default::default()
        };
        let settings = v1::Settings {
            tier: "db-f1-micro".into(),
            backup_configuration: Some(backups),
            ..Default::default()
        };
        let instance =
            v1::DatabaseInstance { name: "db".into(), settings: Some(settings), ..Default::default() };
        let over = to_beta(instance.clone()).unwrap();
        let kept = over.settings.as_ref().unwrap().backup_configuration.as_ref().unwrap();
        assert_eq!(kept.backup_retention_settings.as_ref().unwrap().retained_backups, Some(7));
        assert_eq!((kept.transactional_log_storage_state, kept.enabled), (Some(1), Some(true)));
        assert_eq!(from_beta(over).unwrap(), instance);
    }
}
