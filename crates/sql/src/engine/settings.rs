//! An instance's settings: what Google fills in, what is checked, and the flags that reach PostgreSQL.

use apis::google::cloud::sql::v1beta4::{
    BackupConfiguration, IpConfiguration, LocationPreference, Settings, SqlAvailabilityType, SqlDataDiskType,
    SqlPricingPlan,
    settings::{ConnectorEnforcement, Edition, SqlActivationPolicy},
};
use kernel::Result;
use prost::Message;

use crate::refuse;

/// The first major version whose instances are of the Enterprise Plus edition when none is asked for
/// (<https://cloud.google.com/sql/docs/postgres/editions-intro>).
const FIRST_PLUS: u32 = 16;

/// The flags that reach PostgreSQL: they change how it works, and neither where it listens nor what it may touch.
const FLAGS: [&str; 42] = [
    "autovacuum",
    "autovacuum_analyze_scale_factor",
    "autovacuum_analyze_threshold",
    "autovacuum_max_workers",
    "autovacuum_naptime",
    "autovacuum_vacuum_scale_factor",
    "autovacuum_vacuum_threshold",
    "checkpoint_completion_target",
    "checkpoint_timeout",
    "commit_delay",
    "deadlock_timeout",
    "default_statistics_target",
    "default_transaction_isolation",
    "effective_cache_size",
    "effective_io_concurrency",
    "hot_standby_feedback",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "log_connections",
    "log_disconnections",
    "log_duration",
    "log_lock_waits",
    "log_min_duration_statement",
    "log_min_messages",
    "log_statement",
    "log_temp_files",
    "maintenance_work_mem",
    "max_connections",
    "max_locks_per_transaction",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "random_page_cost",
    "shared_buffers",
    "statement_timeout",
    "temp_file_limit",
    "track_activity_query_size",
    "track_io_timing",
    "work_mem",
];
/// No value of a flag is longer, in bytes.
const LONGEST_VALUE: usize = 256;

/// Reads stored settings. What cannot be read reads as empty: it was written by us.
pub(super) fn decode(stored: &[u8]) -> Settings {
    Settings::decode(stored).unwrap_or_default()
}

/// Fills in what Google fills in for a new instance.
pub(super) fn fill(settings: &mut Settings, major: u32, zone: &str) {
    settings.kind = "sql#settings".into();
    set(&mut settings.availability_type, SqlAvailabilityType::Zonal as i32);
    set(&mut settings.pricing_plan, SqlPricingPlan::PerUse as i32);
    set(&mut settings.activation_policy, SqlActivationPolicy::Always as i32);
    set(&mut settings.data_disk_type, SqlDataDiskType::PdSsd as i32);
    set(&mut settings.connector_enforcement, ConnectorEnforcement::NotRequired as i32);
    let edition = if major >= FIRST_PLUS { Edition::EnterprisePlus } else { Edition::Enterprise };
    set(&mut settings.edition, edition as i32);
    settings.storage_auto_resize.get_or_insert(true);
    settings.storage_auto_resize_limit.get_or_insert(0);
    settings.data_disk_size_gb.get_or_insert(10);
    settings.deletion_protection_enabled.get_or_insert(false);
    let location = settings.location_preference.get_or_insert_with(LocationPreference::default);
    location.kind = "sql#locationPreference".into();
    if location.zone.is_empty() {
        location.zone = zone.to_owned();
    }
    let backups = settings.backup_configuration.get_or_insert_with(BackupConfiguration::default);
    backups.kind = "sql#backupConfiguration".into();
    backups.enabled.get_or_insert(false);
    let addresses = settings.ip_configuration.get_or_insert_with(IpConfiguration::default);
    addresses.ipv4_enabled.get_or_insert(true);
}

/// Whether filled-in settings ask for a public address.
pub(super) fn is_public(settings: &Settings) -> bool {
    settings.ip_configuration.as_ref().is_some_and(|addresses| addresses.ipv4_enabled == Some(true))
}

/// Sets an enum that was left out.
fn set(field: &mut i32, value: i32) {
    if *field == 0 {
        *field = value;
    }
}

/// Checks filled-in settings.
pub(super) fn check(settings: &Settings) -> Result<()> {
    check_tier(settings)?;
    if settings.activation_policy() != SqlActivationPolicy::Always {
        return Err(refuse::unsupported("An activation policy other than ALWAYS"));
    }
    settings.database_flags.iter().try_for_each(|flag| check_flag(&flag.name, &flag.value))
}

fn check_tier(settings: &Settings) -> Result<()> {
    let tier = &*settings.tier;
    if tier.is_empty() {
        return Err(refuse::invalid("Missing parameter: settings.tier."));
    }
    let (edition, other) = match (settings.edition(), tier.starts_with("db-perf-optimized-")) {
        (Edition::EnterprisePlus, false) if !tier.starts_with("db-c4a-") => {
            ("ENTERPRISE_PLUS", "Use a predefined Tier like db-perf-optimized-N-* instead.")
        }
        (Edition::Enterprise, true) => ("ENTERPRISE", "Use a custom Tier like db-custom-* instead."),
        _ => return Ok(()),
    };
    Err(refuse::invalid(format_args!(
        "Invalid Tier ({tier}) for ({edition}) Edition. {other} To learn more see \
         https://cloud.google.com/sql/docs/postgres/create-instance#machine-types"
    )))
}

fn check_flag(name: &str, value: &str) -> Result<()> {
    if !FLAGS.contains(&name) {
        return Err(refuse::unsupported(format_args!("The database flag {name}")));
    }
    if value.len() > LONGEST_VALUE || value.chars().any(char::is_control) {
        return Err(refuse::invalid(format_args!("Invalid flag value ({value}) for {name}.")));
    }
    Ok(())
}

/// The flags for PostgreSQL, in their order.
pub(super) fn flags(settings: &Settings) -> Vec<(String, String)> {
    settings.database_flags.iter().map(|flag| (flag.name.clone(), flag.value.clone())).collect()
}

/// What PATCH does: what is given replaces what is there. Lists and labels are replaced as a whole, when they have
/// anything in them.
pub(super) fn merge(current: &mut Settings, given: &Settings) -> Result<()> {
    if !given.database_flags.is_empty() {
        current.database_flags.clear();
    }
    if !given.user_labels.is_empty() {
        current.user_labels.clear();
    }
    if let (Some(current), Some(given)) = (&mut current.ip_configuration, &given.ip_configuration)
        && !given.authorized_networks.is_empty()
    {
        current.authorized_networks.clear();
    }
    current.merge(&*given.encode_to_vec()).map_err(kernel::Error::internal)
}

#[cfg(test)]
mod tests {
    use apis::google::cloud::sql::v1beta4::DatabaseFlags;
    use kernel::Code;

    use super::*;

    fn filled(major: u32, tier: &str) -> Settings {
        let mut settings = Settings { tier: tier.into(), ..Default::default() };
        fill(&mut settings, major, "us-central1-c");
        settings
    }

    #[test]
    fn an_edition_has_its_tiers() {
        check(&filled(15, "db-f1-micro")).unwrap();
        check(&filled(16, "db-perf-optimized-N-2")).unwrap();
        let refusal = check(&filled(16, "db-f1-micro")).unwrap_err();
        assert!(
            refusal
                .message()
                .starts_with("Invalid request: Invalid Tier (db-f1-micro) for (ENTERPRISE_PLUS) Edition."),
            "{refusal}"
        );
        assert!(check(&filled(15, "db-perf-optimized-N-2")).is_err());
    }

    #[test]
    fn flags_that_could_reach_out_are_not_passed_on() {
        for name in
            ["listen_addresses", "archive_command", "unix_socket_directories", "cloudsql.iam_authentication"]
        {
            let mut settings = filled(15, "db-f1-micro");
            settings.database_flags = vec![DatabaseFlags { name: name.into(), value: "x".into() }];
            assert_eq!(check(&settings).unwrap_err().code(), Code::InvalidArgument, "{name}");
        }
    }

    #[test]
    fn a_patch_keeps_what_it_does_not_name() {
        let mut current = filled(15, "db-f1-micro");
        current.user_labels = [("a".to_owned(), "1".to_owned())].into();
        let labels = [("b".to_owned(), "2".to_owned())].into();
        merge(&mut current, &Settings { user_labels: labels, ..Default::default() }).unwrap();
        assert_eq!((&*current.tier, current.data_disk_size_gb), ("db-f1-micro", Some(10)));
        assert_eq!(current.user_labels.into_iter().collect::<Vec<_>>(), [("b".into(), "2".into())]);
    }
}
