//! Between Google's messages and what the engine knows.

use apis::google::cloud::secretmanager::v1::{
    self as proto, CustomerManagedEncryption, CustomerManagedEncryptionStatus, Replication,
    ReplicationStatus, Rotation, Secret, SecretVersion, Topic,
    replication::{self, user_managed::Replica},
    replication_status::{self, user_managed_status::ReplicaStatus},
    secret::Expiration,
};
use kernel::{
    Error, Result,
    time::{Micros, from_duration, from_timestamp},
};
use prost_types::{Duration, FieldMask, Timestamp};

use crate::{
    engine::{FoundSecret, FoundVersion},
    record::{self, SecretRecord, Settings, State},
    rules::Field,
};

/// What a caller chose, as the engine keeps it. Whether it is allowed is checked later.
///
/// # Errors
/// `INVALID_ARGUMENT` for times and numbers out of range, `UNIMPLEMENTED` for what would be ignored.
pub(super) fn settings(secret: &Secret, location: Option<&str>, now: Micros) -> Result<Settings> {
    decline_what_is_not_served(secret)?;
    Ok(Settings {
        labels: secret.labels.clone(),
        annotations: secret.annotations.clone(),
        aliases: secret.version_aliases.iter().map(alias).collect::<Result<_>>()?,
        topics: secret.topics.iter().map(|topic| topic.name.clone()).collect(),
        replicas: locations(user_managed(secret).unwrap_or_default()),
        keys: keys(secret, location),
        expires: secret.expiration.as_ref().map(|expiration| expires(expiration, now)).transpose()?,
        rotation: secret.rotation.as_ref().map(rotation).transpose()?,
        destroy_delay: secret
            .version_destroy_ttl
            .as_ref()
            .map(|ttl| length(ttl, "secret.version_destroy_ttl"))
            .transpose()?,
        kind: secret.secret_type,
    })
}

/// Where a new secret's data is to be kept; empty for wherever Google likes, and for one that is in a region.
pub(super) fn replicas(secret: &Secret, location: Option<&str>) -> Result<Vec<String>> {
    let chosen = secret.replication.as_ref().and_then(|replication| replication.replication.as_ref());
    match (chosen, location) {
        (None, Some(_)) => Ok(Vec::new()),
        (Some(_), Some(_)) => Err(Error::bad_field(
            "secret.replication",
            "Secret.replication cannot be set for regional secrets.",
        )),
        (None, None) => Err(Error::bad_field("secret.replication", "Secret.replication must be provided.")),
        (Some(_), None) => match user_managed(secret) {
            Some([]) => Err(Error::bad_field(
                "secret.replication.user_managed.replicas",
                "Secret.replication.user_managed.replicas must be provided.",
            )),
            replicas => Ok(locations(replicas.unwrap_or_default())),
        },
    }
}

fn user_managed(secret: &Secret) -> Option<&[Replica]> {
    match secret.replication.as_ref()?.replication.as_ref()? {
        replication::Replication::UserManaged(managed) => Some(&managed.replicas),
        replication::Replication::Automatic(_) => None,
    }
}

fn locations(replicas: &[Replica]) -> Vec<String> {
    replicas.iter().map(|replica| replica.location.clone()).collect()
}

/// The names of the customer's keys: one for each replica, or one for all; none where none is named. A regional secret
/// has its own field for them.
fn keys(secret: &Secret, location: Option<&str>) -> Vec<String> {
    let name = |key: Option<&CustomerManagedEncryption>| key.map(|key| key.kms_key_name.clone());
    let chosen = secret.replication.as_ref().and_then(|replication| replication.replication.as_ref());
    let keys: Vec<Option<String>> = match (location, chosen) {
        (Some(_), _) => vec![name(secret.customer_managed_encryption.as_ref())],
        (None, Some(replication::Replication::Automatic(automatic))) => {
            vec![name(automatic.customer_managed_encryption.as_ref())]
        }
        (None, Some(replication::Replication::UserManaged(managed))) => {
            managed.replicas.iter().map(|one| name(one.customer_managed_encryption.as_ref())).collect()
        }
        (None, None) => Vec::new(),
    };
    match keys.iter().any(Option::is_some) {
        true => keys.into_iter().map(Option::unwrap_or_default).collect(),
        false => Vec::new(),
    }
}

/// The fields that an update names.
///
/// # Errors
/// `INVALID_ARGUMENT` for a missing mask, and for fields that do not exist where the secret is or cannot change.
pub(super) fn fields(mask: Option<&FieldMask>, location: Option<&str>) -> Result<Vec<Field>> {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    match paths {
        [] => Err(Error::bad_field("update_mask", "Field [update_mask] is required.")),
        [all] if all == "*" => Ok(Field::ALL.to_vec()),
        paths => paths.iter().map(|path| field(path, location)).collect(),
    }
}

fn field(path: &str, location: Option<&str>) -> Result<Field> {
    Ok(match path {
        "labels" => Field::Labels,
        "annotations" => Field::Annotations,
        "version_aliases" => Field::Aliases,
        "topics" => Field::Topics,
        "expire_time" | "ttl" => Field::Expiration,
        "rotation" => Field::Rotation,
        "rotation.next_rotation_time" => Field::NextRotation,
        "rotation.rotation_period" => Field::RotationPeriod,
        "version_destroy_ttl" => Field::DestroyDelay,
        "customer_managed_encryption" | "customer_managed_encryption.kms_key_name" if location.is_some() => {
            Field::Key
        }
        replication if first_of(replication) == "replication" && location.is_none() => Field::Replication,
        fixed if FIXED.contains(&first_of(fixed)) => {
            return Err(Error::bad_field("update_mask", format!("Field [{fixed}] cannot be updated.")));
        }
        unknown => {
            let text =
                format!("Field [{unknown}] of the update mask does not name a field that can be updated.");
            return Err(Error::bad_field("update_mask", text));
        }
    })
}

/// What never changes; the last two where the other one holds the keys: replication of a regional secret, and a key of
/// its own of one that is not.
const FIXED: [&str; 7] =
    ["name", "create_time", "etag", "tags", "secret_type", "replication", "customer_managed_encryption"];

fn first_of(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

fn decline_what_is_not_served(secret: &Secret) -> Result<()> {
    let decline = |what| Err(Error::unimplemented(format!("{what} not served for secrets.")));
    if secret.customer_managed_encryption.is_some() && secret.replication.is_some() {
        let text = "Field [secret.customer_managed_encryption] is for regional secrets; name keys in the replication.";
        return Err(Error::bad_field("secret.customer_managed_encryption", text));
    }
    if !secret.tags.is_empty() {
        return decline("Tags are");
    }
    Ok(())
}

fn alias((alias, number): (&String, &i64)) -> Result<(String, u64)> {
    match u64::try_from(*number) {
        Ok(number) if number > 0 => Ok((alias.clone(), number)),
        _ => Err(Error::bad_field(
            "secret.version_aliases",
            format!("Version alias [{alias}] does not name a version: {number}."),
        )),
    }
}

fn expires(expiration: &Expiration, now: Micros) -> Result<u64> {
    match expiration {
        Expiration::ExpireTime(at) => moment(at, "secret.expire_time"),
        Expiration::Ttl(ttl) => length(ttl, "secret.ttl").map(|ttl| now.later(Micros(ttl)).0),
    }
}

fn rotation(rotation: &Rotation) -> Result<record::Rotation> {
    let next = rotation.next_rotation_time.as_ref();
    let period = rotation.rotation_period.as_ref();
    Ok(record::Rotation {
        next: next.map(|at| moment(at, "secret.rotation.next_rotation_time")).transpose()?,
        period: period.map(|period| length(period, "secret.rotation.rotation_period")).transpose()?,
    })
}

fn moment(time: &Timestamp, field: &str) -> Result<u64> {
    let bad = || Error::bad_field(field, format!("Field [{field}] is not a valid time in the future."));
    from_timestamp(time).map(|time| time.0).ok_or_else(bad)
}

fn length(duration: &Duration, field: &str) -> Result<u64> {
    let bad = || Error::bad_field(field, format!("Field [{field}] is not a valid duration."));
    from_duration(duration).map(|length| length.0).ok_or_else(bad)
}

/// A secret as Google shows it.
pub(super) fn secret(found: &FoundSecret) -> Secret {
    let settings = &found.record.settings;
    Secret {
        name: found.name.clone(),
        replication: found
            .record
            .location
            .is_none()
            .then(|| Replication { replication: Some(replication_of(settings)) }),
        customer_managed_encryption: found.record.location.as_ref().and(key(settings, 0)),
        create_time: Some(Micros(found.record.create_time).into()),
        labels: settings.labels.clone(),
        topics: settings.topics.iter().map(|name| Topic { name: name.clone() }).collect(),
        etag: found.record.secret_etag(),
        rotation: settings.rotation.as_ref().map(show_rotation),
        version_aliases: settings
            .aliases
            .iter()
            .map(|(alias, number)| (alias.clone(), *number as i64))
            .collect(),
        annotations: settings.annotations.clone(),
        version_destroy_ttl: settings.destroy_delay.map(|delay| Micros(delay).into()),
        secret_type: settings.kind,
        expiration: settings.expires.map(|at| Expiration::ExpireTime(Micros(at).into())),
        ..Secret::default()
    }
}

/// A version as Google shows it.
pub(super) fn version(found: &FoundVersion, now: Micros) -> SecretVersion {
    let record = &found.record;
    let state = record.state_at(now);
    let is_global = found.secret.record.location.is_none();
    let destroyed = record.destroyed.or(record.destroy_at).filter(|_| state == State::Destroyed);
    let scheduled = record.destroy_at.filter(|_| state != State::Destroyed);
    SecretVersion {
        name: found.name(),
        create_time: Some(Micros(record.create_time).into()),
        destroy_time: destroyed.map(|at| Micros(at).into()),
        state: show_state(state).into(),
        replication_status: is_global.then(|| ReplicationStatus {
            replication_status: Some(status_of(&found.secret.record, &record.keys)),
        }),
        etag: record.etag(),
        client_specified_payload_checksum: record.checksum_given,
        scheduled_destroy_time: scheduled.map(|at| Micros(at).into()),
        customer_managed_encryption: if is_global { None } else { key_version(&record.keys, 0) },
    }
}

/// The customer's key of a replica.
fn key(settings: &Settings, place: usize) -> Option<CustomerManagedEncryption> {
    let kms_key_name = settings.keys.get(place)?.clone();
    Some(CustomerManagedEncryption { kms_key_name })
}

/// The version of a customer's key. There is no Cloud KMS here, so it is always the first.
fn key_version(keys: &[String], place: usize) -> Option<CustomerManagedEncryptionStatus> {
    let kms_key_version_name = format!("{}/cryptoKeyVersions/1", keys.get(place)?);
    Some(CustomerManagedEncryptionStatus { kms_key_version_name })
}

fn replication_of(settings: &Settings) -> replication::Replication {
    if settings.replicas.is_empty() {
        return replication::Replication::Automatic(replication::Automatic {
            customer_managed_encryption: key(settings, 0),
        });
    }
    let replica = |(place, location): (usize, &String)| Replica {
        location: location.clone(),
        customer_managed_encryption: key(settings, place),
    };
    let replicas = settings.replicas.iter().enumerate().map(replica).collect();
    replication::Replication::UserManaged(replication::UserManaged { replicas })
}

fn status_of(secret: &SecretRecord, keys: &[String]) -> replication_status::ReplicationStatus {
    let replicas = &secret.settings.replicas;
    if replicas.is_empty() {
        return replication_status::ReplicationStatus::Automatic(replication_status::AutomaticStatus {
            customer_managed_encryption: key_version(keys, 0),
        });
    }
    let status = |(place, location): (usize, &String)| ReplicaStatus {
        location: location.clone(),
        customer_managed_encryption: key_version(keys, place),
    };
    replication_status::ReplicationStatus::UserManaged(replication_status::UserManagedStatus {
        replicas: replicas.iter().enumerate().map(status).collect(),
    })
}

fn show_rotation(rotation: &record::Rotation) -> Rotation {
    Rotation {
        next_rotation_time: rotation.next.map(|at| Micros(at).into()),
        rotation_period: rotation.period.map(|period| Micros(period).into()),
        managed_rotation_status: None,
    }
}

fn show_state(state: State) -> proto::secret_version::State {
    match state {
        State::Unknown => proto::secret_version::State::Unspecified,
        State::Enabled => proto::secret_version::State::Enabled,
        State::Disabled => proto::secret_version::State::Disabled,
        State::Destroyed => proto::secret_version::State::Destroyed,
    }
}
