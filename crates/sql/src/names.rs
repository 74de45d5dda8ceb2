//! The names of Cloud SQL, and the rules for what clients may choose.

use apis::google::cloud::sql::v1beta4::SqlDatabaseVersion;
use kernel::{Error, Result};

use crate::refuse;

/// PostgreSQL cuts longer identifiers off (`NAMEDATALEN` - 1, in bytes).
const LONGEST_IDENTIFIER: usize = 63;
/// Project and instance, together with the colon, have at most this many characters.
const LONGEST_INSTANCE: usize = 98;

/// An instance's stored name, `projects/P/instances/I`.
pub(crate) fn instance(project: &str, instance: &str) -> String {
    format!("projects/{project}/instances/{instance}")
}

/// The project and the instance of a stored name.
pub(crate) fn parts(name: &str) -> (&str, &str) {
    match kernel::names::parse(name, ["projects", "instances"]) {
        Some([project, instance]) => (project, instance),
        None => ("", ""),
    }
}

/// The name that connectors use, `P:R:I`.
pub(crate) fn connection(name: &str, region: &str) -> String {
    let (project, instance) = parts(name);
    format!("{project}:{region}:{instance}")
}

/// Takes `P:R:I` apart into the instance's stored name and the region. P may itself have a colon.
pub(crate) fn of_connection(connection: &str) -> Option<(String, &str)> {
    let mut parts = connection.rsplitn(3, ':');
    let (id, region, project) = (parts.next()?, parts.next()?, parts.next()?);
    let ok = [id, region, project].iter().all(|part| !part.is_empty() && !part.contains('/'));
    ok.then(|| (instance(project, id), region))
}

/// Checks the id of a new instance: lowercase letters, digits and hyphens, a letter first, no hyphen last
/// (<https://cloud.google.com/sql/docs/postgres/instance-settings>).
pub(crate) fn check_instance(project: &str, id: &str) -> Result<()> {
    let ok = id.starts_with(|c: char| c.is_ascii_lowercase())
        && !id.ends_with('-')
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !ok {
        return Err(refuse::invalid(format_args!("Invalid instance name ({id}).")));
    }
    if project.len() + 1 + id.len() > LONGEST_INSTANCE {
        let why = format!(
            "Instance name ({id}) is too long: with the project, {LONGEST_INSTANCE} characters are allowed."
        );
        return Err(refuse::invalid(why));
    }
    Ok(())
}

/// Checks that a region looks like one, such as `us-central1`.
pub(crate) fn check_region(region: &str) -> Result<()> {
    let stem = region.trim_end_matches(|c: char| c.is_ascii_digit());
    let ok = stem.len() < region.len()
        && (2..=3).contains(&stem.split('-').count())
        && stem.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase()));
    if ok { Ok(()) } else { Err(refuse::invalid(format_args!("Invalid region name ({region})."))) }
}

/// Checks the name of a database or a user: `what` says which.
pub(crate) fn check_identifier(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(refuse::invalid(format_args!("Missing parameter: {what} name.")));
    }
    if name.len() > LONGEST_IDENTIFIER || name.chars().any(char::is_control) {
        return Err(refuse::invalid(format_args!("Invalid {what} name ({name}).")));
    }
    Ok(())
}

/// The major version of PostgreSQL that is asked for.
///
/// # Errors
/// `INVALID_ARGUMENT` for other engines, and for PostgreSQL 9.6, whose numbers are of another kind.
pub(crate) fn major(version: SqlDatabaseVersion) -> Result<u32> {
    let name = version.as_str_name();
    if version == SqlDatabaseVersion::Unspecified {
        return Err(refuse::invalid("Missing parameter: databaseVersion. Give one such as POSTGRES_15."));
    }
    let major = name.strip_prefix("POSTGRES_").and_then(|major| major.parse().ok());
    major.ok_or_else(|| other_engine(name))
}

fn other_engine(name: &str) -> Error {
    refuse::invalid(format_args!(
        "The database version {name} is not implemented here: only PostgreSQL is. Give one such as POSTGRES_15."
    ))
}

/// The version's name, from its number.
pub(crate) fn version(major: u32) -> SqlDatabaseVersion {
    SqlDatabaseVersion::from_str_name(&format!("POSTGRES_{major}")).unwrap_or(SqlDatabaseVersion::Unspecified)
}

#[cfg(test)]
mod tests {
    use kernel::Code;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn instances_are_named_by_googles_rule() {
        for good in ["db", "db-1", "a"] {
            check_instance("my-project", good).unwrap();
        }
        for bad in ["", "Db", "1db", "-db", "db-", "d_b", "d/b", &"a".repeat(98)] {
            assert_eq!(check_instance("my-project", bad).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn regions_look_like_regions() {
        for good in ["us-central1", "europe-west12", "northamerica-northeast1", "us-west8"] {
            check_region(good).unwrap();
        }
        for bad in ["", "us", "us-central", "us-central1-a", "US-central1", "../x1"] {
            assert!(check_region(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn connection_names_come_apart_from_the_right() {
        let found = of_connection("example.com:p:us-central1:db");
        assert_eq!(found, Some(("projects/example.com:p/instances/db".into(), "us-central1")));
        assert_eq!(of_connection("p:db"), None);
        assert_eq!(of_connection("p:r:../db"), None);
    }

    #[test]
    fn only_postgres_is_served() {
        assert_eq!(major(SqlDatabaseVersion::Postgres15).unwrap(), 15);
        assert_eq!(version(15), SqlDatabaseVersion::Postgres15);
        for other in [SqlDatabaseVersion::Mysql80, SqlDatabaseVersion::Postgres96] {
            assert_eq!(major(other).unwrap_err().code(), Code::InvalidArgument);
        }
        assert_eq!(major(SqlDatabaseVersion::Unspecified).unwrap_err().code(), Code::InvalidArgument);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,80}") {
            let _ = (of_connection(&text), check_region(&text), check_instance("p", &text), parts(&text));
        }
    }
}
