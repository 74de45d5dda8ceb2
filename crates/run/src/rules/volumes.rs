//! What Cloud Run accepts as volumes, and where they may be mounted.
//!
//! Sources: <https://cloud.google.com/run/docs/configuring/services/secrets>, `…/in-memory-volume-mounts`,
//! <https://cloud.google.com/sql/docs/postgres/connect-run>.

use std::path::{Component, Path};

use super::{CLOUD_SQL_VOLUME, Faults, resources::parse_memory};
use crate::{
    record::{CloudSql, Container, Memory, Mount, SecretFiles, Template, Volume, VolumeKind},
    volumes::CLOUD_SQL,
};

/// Where nothing may be mounted, nor below.
const RESERVED: [&str; 4] = ["/dev", "/proc", "/sys", "/pod"];
/// The longest connection name.
const MAX_CONNECTION: usize = 97;

/// Brings volumes and mounts into one order, whichever form they were asked for in. Sockets of databases are mounted
/// whether or not that is asked for: the Knative form has no words for it.
pub(crate) fn complete(template: &mut Template) {
    let is_databases = |volume: &Volume| volume.name == CLOUD_SQL_VOLUME;
    template.volumes.sort_by_key(is_databases);
    let has_databases = template.volumes.iter().any(is_databases);
    for container in &mut template.containers {
        let asked = container.mounts.iter().any(|mount| mount.volume == CLOUD_SQL_VOLUME);
        if has_databases && !asked {
            container.mounts.push(Mount { volume: CLOUD_SQL_VOLUME.into(), path: String::new() });
        }
        container.mounts.sort_by_key(|mount| mount.volume == CLOUD_SQL_VOLUME);
        container.mounts.iter_mut().for_each(complete_mount);
    }
}

fn complete_mount(mount: &mut Mount) {
    if mount.volume == CLOUD_SQL_VOLUME && mount.path.is_empty() {
        mount.path = CLOUD_SQL.into();
    }
    let plain = mount.path.trim_end_matches('/').len();
    mount.path.truncate(plain.max(1));
}

pub(super) fn check(template: &Template, faults: &mut Faults) {
    let mut names: Vec<&str> = Vec::new();
    for (index, volume) in template.volumes.iter().enumerate() {
        let path = format!("spec.template.spec.volumes[{index}]");
        faults.check(!volume.name.is_empty(), &format!("{path}.name"), || "must not be empty".into());
        faults.check(!names.contains(&&*volume.name), &format!("{path}.name"), || {
            format!("Volume names must be unique; '{}' is there more than once.", volume.name)
        });
        names.push(&volume.name);
        check_kind(&path, volume, faults);
    }
    for (index, container) in template.containers.iter().enumerate() {
        check_mounts(&format!("spec.template.spec.containers[{index}]"), container, &names, faults);
    }
}

fn check_kind(path: &str, volume: &Volume, faults: &mut Faults) {
    let databases = matches!(volume.kind, Some(VolumeKind::CloudSql(_)));
    faults.check(databases == (volume.name == CLOUD_SQL_VOLUME), &format!("{path}.name"), || {
        "Cloud SQL volume must be named 'cloudsql', and 'cloudsql' is reserved for Cloud SQL volumes.".into()
    });
    match &volume.kind {
        Some(VolumeKind::CloudSql(sql)) => check_databases(sql, faults),
        Some(VolumeKind::Secret(secret)) => check_secret(path, secret, faults),
        Some(VolumeKind::Memory(memory)) => check_memory(path, memory, faults),
        None => faults.add(path, format!("Volume '{}' must have exactly one source.", volume.name)),
    }
}

fn check_databases(sql: &CloudSql, faults: &mut Faults) {
    let wrong: Vec<String> = sql
        .instances
        .iter()
        .filter(|name| !is_connection(name))
        .map(|name| format!("'{}'", name.escape_debug()))
        .collect();
    faults.check(wrong.is_empty(), "spec.template.metadata.annotations", || {
        format!(
            "Invalid cloud sql instance names: [{}]. Instance names must be {MAX_CONNECTION} characters or less, matching \
             [a-zA-Z0-9-]{{1,}}:[a-zA-Z0-9-]{{1,}}:[a-z][a-z0-9-]{{0,}}, and cannot end in an hyphen",
            wrong.join(", ")
        )
    });
}

/// `PROJECT:REGION:INSTANCE`. The project of an organization's domain is `DOMAIN:PROJECT`.
fn is_connection(name: &str) -> bool {
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_domain = |part: &str| part.contains('.') && part.split('.').all(is_word);
    let is_instance = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_lowercase())
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let parts: Vec<&str> = name.split(':').collect();
    let plain = match parts.as_slice() {
        [project, region, instance] => is_word(project) && is_word(region) && is_instance(instance),
        [domain, project, region, instance] => {
            is_domain(domain) && is_word(project) && is_word(region) && is_instance(instance)
        }
        _ => false,
    };
    plain && name.len() <= MAX_CONNECTION
}

fn check_secret(path: &str, secret: &SecretFiles, faults: &mut Faults) {
    let at = |field: &str| format!("{path}.secret.{field}");
    faults.check(is_secret(&secret.secret), &at("secret"), || {
        format!("'{}' is not the name of a secret: SECRET or projects/PROJECT/secrets/SECRET.", secret.secret)
    });
    faults.check(secret.default_mode <= 0o777, &at("default_mode"), || {
        "must be a number between 0 and 511 (0777 in octal)".into()
    });
    for (index, item) in secret.items.iter().enumerate() {
        let at = |field: &str| at(&format!("items[{index}].{field}"));
        faults.check(is_below(&item.path), &at("path"), || {
            format!("'{}' must be a relative path without '..'", item.path)
        });
        faults.check(!item.version.is_empty() && !item.version.contains('/'), &at("version"), || {
            "must be a version's number, an alias or latest".into()
        });
        faults.check(item.mode <= 0o777, &at("mode"), || {
            "must be a number between 0 and 511 (0777 in octal)".into()
        });
        let twice = secret.items[..index].iter().any(|other| other.path == item.path);
        faults.check(!twice, &at("path"), || format!("'{}' is there more than once", item.path));
    }
}

fn is_secret(name: &str) -> bool {
    let is_id = |id: &str| {
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => is_id(id),
        ["projects", project, "secrets", id] => !project.is_empty() && is_id(id),
        _ => false,
    }
}

/// Whether a path leads to something below where it begins.
fn is_below(path: &str) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    !path.is_empty()
        && !path.ends_with('/')
        && !path.contains('\0')
        && path.len() <= 255
        && Path::new(path).components().all(plain)
}

fn check_memory(path: &str, memory: &Memory, faults: &mut Faults) {
    let readable =
        memory.size_limit.is_empty() || parse_memory(&memory.size_limit).is_some_and(|size| size > 0);
    faults.check(readable, &format!("{path}.empty_dir.size_limit"), || {
        format!("'{}' is not a quantity of memory such as 512Mi or 2Gi", memory.size_limit)
    });
}

fn check_mounts(path: &str, container: &Container, volumes: &[&str], faults: &mut Faults) {
    for (index, mount) in container.mounts.iter().enumerate() {
        let at = |field: &str| format!("{path}.volume_mounts[{index}].{field}");
        faults.check(volumes.contains(&&*mount.volume), &at("name"), || {
            format!("Volume '{}' is mounted, but is not among the volumes of the template.", mount.volume)
        });
        check_path(&at("mount_path"), mount, faults);
        let twice = container.mounts[..index].iter().any(|other| other.path == mount.path);
        faults.check(!twice, &at("mount_path"), || {
            format!("Mount paths must be unique; '{}' is there more than once.", mount.path)
        });
    }
}

fn check_path(field: &str, mount: &Mount, faults: &mut Faults) {
    let path = &mount.path;
    let absolute = path.starts_with('/') && path.len() > 1 && is_below(path.trim_start_matches('/'));
    faults.check(absolute && !path.contains(':'), field, || {
        format!("'{path}' must be an absolute path below / without '..' and ':'")
    });
    let reserved = RESERVED.iter().find(|reserved| Path::new(path).starts_with(reserved));
    if let Some(reserved) = reserved {
        faults
            .add(field, format!("'{path}' cannot be mounted: {reserved} and what is below it are reserved."));
    }
    let databases = mount.volume == CLOUD_SQL_VOLUME;
    faults.check(!databases || path == CLOUD_SQL, field, || {
        format!("'{path}' must be {CLOUD_SQL} for a Cloud SQL volume, or empty")
    });
    faults.check(databases || !Path::new(path).starts_with(CLOUD_SQL), field, || {
        format!("'{path}' cannot be mounted: {CLOUD_SQL} is reserved for Cloud SQL volumes.")
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn connection_names_are_read_as_cloud_run_reads_them() {
        for good in ["p:us-central1:i", "my-project:europe-west1:db-1", "example.com:p:r:i"] {
            assert!(is_connection(good), "{good}");
        }
        let long = format!("p:r:{}", "i".repeat(94));
        for bad in
            ["", ":us-central1:i", "p:r", "p:r:I", "p:r:i-", "p:r:1i", "p:r:i=tcp:1", "../x:r:i", &long]
        {
            assert!(!is_connection(bad), "{bad}");
        }
    }

    #[test]
    fn paths_stay_below() {
        for good in ["key", "a/b.txt", "..key"] {
            assert!(is_below(good), "{good}");
        }
        for bad in ["", "/key", "../key", "a/../b", "a/", ".", "a\0"] {
            assert!(!is_below(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_its_directory(name in "[a-z.:/-]{0,12}") {
            prop_assert!(!is_connection(&name) || (!name.contains('/') && !name.starts_with('.')));
            prop_assert!(!is_below(&name) || !Path::new("/home").join(&name).to_string_lossy().contains("/../"));
        }
    }
}
