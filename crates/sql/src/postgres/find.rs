//! Finds PostgreSQL: where a person says it is, on the PATH, where distributions put it, where haar installed it.
//!
//! Several major versions may be there side by side; the first found of each is taken. A directory counts when it
//! has `postgres`, `initdb` and `pg_ctl`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kernel::{Error, Result};
use tokio::process::Command;

use super::Config;

/// The programs that are needed.
const PROGRAMS: [&str; 3] = ["postgres", "initdb", "pg_ctl"];

/// One installed PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The directory of its programs.
    pub bin: PathBuf,
    /// Its major version.
    pub major: u32,
    /// Its version, such as `15.18`.
    pub version: String,
}

/// Every PostgreSQL that is found, the preferred first; of each major version the first is used.
pub async fn installations(config: &Config) -> Vec<Installation> {
    let mut found = Vec::new();
    for bin in candidates(config) {
        found.extend(version_of(&bin).await);
    }
    found
}

impl Installation {
    /// The path of one of its programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// The installation of a major version.
///
/// # Errors
/// `FAILED_PRECONDITION`, naming what is here and how to get what is not.
pub(crate) async fn find(config: &Config, major: u32) -> Result<Installation> {
    let mut here = Vec::new();
    for bin in candidates(config) {
        match version_of(&bin).await {
            Some(found) if found.major == major => return Ok(found),
            Some(found) => here.push(found.major),
            None => {}
        }
    }
    Err(missing(major, here))
}

fn missing(major: u32, mut here: Vec<u32>) -> Error {
    here.sort_unstable();
    here.dedup();
    let here: Vec<String> = here.iter().map(|major| format!("POSTGRES_{major}")).collect();
    let here = match here.is_empty() {
        true => "it has no PostgreSQL".to_owned(),
        false => format!("it has {}", here.join(", ")),
    };
    Error::precondition(format!(
        "PostgreSQL {major} is not on this machine ({here}). Install it with `haar sql install {major}` or as the \
         package postgresql-{major}, or ask for a version that is here."
    ))
}

/// Every directory that has the programs, in the order of preference, each once.
fn candidates(config: &Config) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for directory in places(config) {
        if let Some(bin) = complete(&directory).filter(|bin| !found.contains(bin)) {
            found.push(bin);
        }
    }
    found
}

fn places(config: &Config) -> Vec<PathBuf> {
    if let Some(given) = &config.postgres_directory {
        let mut places = vec![given.clone(), given.join("bin")];
        places.extend(versions(given, ""));
        return places;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).filter(|path| path.is_absolute()).collect();
    places.extend(["/usr/local/bin", "/usr/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
    places.extend(versions(Path::new("/usr/lib/postgresql"), ""));
    places.extend(versions(Path::new("/usr"), "pgsql-"));
    places.extend(config.installed_directory.iter().flat_map(|directory| versions(directory, "")));
    places
}

/// `DIR/PREFIX*/bin`, the newest first.
fn versions(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name[prefix.len()..].parse::<u32>().unwrap_or(0)));
    names.into_iter().map(|name| directory.join(name).join("bin")).collect()
}

/// The directory where all programs are, once links such as `/usr/local/bin/postgres` are followed.
fn complete(directory: &Path) -> Option<PathBuf> {
    let postgres = fs::canonicalize(directory.join("postgres")).ok()?;
    let real = postgres.parent()?.to_owned();
    [real, directory.to_owned()].into_iter().find(|bin| PROGRAMS.iter().all(|name| bin.join(name).is_file()))
}

/// The PostgreSQL whose programs are in a directory, if it runs here.
pub(super) async fn version_of(bin: &Path) -> Option<Installation> {
    let mut command = Command::new(bin.join("postgres"));
    let output = command.arg("--version").kill_on_drop(true).output().await.ok()?;
    let (major, version) = parse_version(std::str::from_utf8(&output.stdout).ok()?)?;
    Some(Installation { bin: bin.to_owned(), major, version })
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(output: &str) -> Option<(u32, String)> {
    let version = output.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some((version[..digits].parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        let read = |text| parse_version(text).map(|(major, version)| (major, version.to_owned()));
        assert_eq!(
            read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some((15, "15.18".into()))
        );
        assert_eq!(read("postgres (PostgreSQL) 18beta1\n"), Some((18, "18beta1".into())));
        assert_eq!(read("initdb (PostgreSQL) 15\n"), None);
    }

    #[test]
    fn what_is_missing_and_what_is_here_are_both_named() {
        let said = missing(17, vec![15, 13, 15]).message().to_owned();
        assert!(said.contains("PostgreSQL 17") && said.contains("POSTGRES_13, POSTGRES_15"), "{said}");
        assert!(said.contains("haar sql install 17"), "{said}");
        assert!(missing(17, vec![]).message().contains("no PostgreSQL"));
    }

    proptest! {
        #[test]
        fn no_output_makes_it_panic(text in ".{0,80}") {
            let _ = parse_version(&format!("postgres (PostgreSQL) {text}"));
        }
    }
}
