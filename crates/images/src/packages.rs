//! What is installed on this machine, as far as an image that stands on it wants to know.
//!
//! Debian's database is read, or Red Hat's asked; elsewhere the times of the directories of programs and libraries
//! stand for them. Reading takes milliseconds, so [`stamp`] tells first whether anything can have changed.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
};

use sha2::{Digest, Sha256};

use crate::{
    Result,
    blobs::{digest_of, read_capped},
};

const DEBIAN: &str = "var/lib/dpkg/status";
const RED_HAT: [&str; 3] =
    ["var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/Packages"];
/// What stands for the packages of other distributions.
const OTHERS: [&str; 2] = ["usr/bin", "usr/lib"];
/// The largest database that is read, in bytes. With everything installed Debian's has 90 MB.
const MAX_DATABASE: u64 = 256 << 20;
/// How many packages a remark names.
const NAMED: usize = 3;

/// Packages and their versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packages(BTreeMap<String, String>);

/// Tells whether what is installed is what it was, without reading it.
pub(crate) fn stamp(root: &Path) -> String {
    let databases = RED_HAT.iter().chain([&DEBIAN]).filter(|path| root.join(path).is_file());
    let mut stamp: String = databases.map(|path| stamp_of(root, path)).collect();
    if stamp.is_empty() {
        stamp = OTHERS.iter().map(|path| stamp_of(root, path)).collect();
    }
    stamp
}

/// The time and size of a file; of a link, not of what it leads to.
pub(crate) fn stamp_of(root: &Path, path: &str) -> String {
    match fs::symlink_metadata(root.join(path)) {
        Ok(meta) => {
            format!("{path}={}.{:09}/{}/{};", meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino())
        }
        Err(_) => format!("{path}=none;"),
    }
}

impl Packages {
    /// What is installed now.
    pub(crate) fn of(root: &Path) -> Result<Packages> {
        if let Ok(database) = File::open(root.join(DEBIAN)) {
            let bytes = read_capped(database, MAX_DATABASE, "the database of packages")?;
            return Ok(Self::of_debian(&String::from_utf8_lossy(&bytes)));
        }
        let is_red_hat = RED_HAT.iter().any(|path| root.join(path).is_file());
        let asked = is_red_hat.then(|| ask_rpm(root)).flatten();
        Ok(asked.unwrap_or_else(|| Self::of_times(root)))
    }

    /// From the text that [`Packages::text`] wrote.
    pub(crate) fn parse(text: &str) -> Packages {
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Packages(pairs.map(|(name, version)| (name.to_owned(), version.to_owned())).collect())
    }

    /// One package a line, in order.
    pub(crate) fn text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (name, version)| {
            let _ = writeln!(text, "{name} {version}");
            text
        })
    }

    /// The digest of the list.
    pub(crate) fn digest(&self) -> String {
        digest_of(Sha256::new_with_prefix(self.text()))
    }

    /// Stanzas of `Package:`, `Status:`, `Architecture:` and `Version:` lines, with an empty line between them. A package
    /// can be there for two architectures at once.
    fn of_debian(text: &str) -> Packages {
        let stanzas = text.split("\n\n").filter_map(|stanza| {
            let field = |name: &str| {
                stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
            };
            if !field("Status")?.ends_with(" installed") {
                return None;
            }
            let name = field("Package")?;
            let name = match field("Architecture") {
                Some(architecture) => format!("{name}:{architecture}"),
                None => name.to_owned(),
            };
            Some((name, field("Version")?.to_owned()))
        });
        Packages(stanzas.collect())
    }

    fn of_times(root: &Path) -> Packages {
        Packages(OTHERS.iter().map(|path| (format!("/{path}"), stamp_of(root, path))).collect())
    }

    /// Says in a sentence what an image misses that was built when `self` was installed; nothing if it is all there.
    pub(crate) fn missing(&self, now: &Packages) -> Option<String> {
        let differ: Vec<String> =
            self.0.iter().filter_map(|(name, was)| difference(name, was, now)).collect();
        let more = match differ.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = differ.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        (!differ.is_empty()).then(|| {
            format!(
                "This machine's packages, which the image stands on, have changed since it was built ({named}{more}); \
                 deploy again to build on what is there now."
            )
        })
    }
}

fn difference(name: &str, was: &str, now: &Packages) -> Option<String> {
    let short = name.split(':').next().unwrap_or(name);
    match now.0.get(name) {
        Some(is) if is == was => None,
        _ if short.starts_with('/') => Some(short.to_owned()),
        Some(is) => Some(format!("{short} {was} is now {is}")),
        None => Some(format!("{short} is gone")),
    }
}

fn ask_rpm(root: &Path) -> Option<Packages> {
    let format = r"%{NAME}:%{ARCH} %{VERSION}-%{RELEASE}\n";
    let output = Command::new("/usr/bin/rpm").arg("--root").arg(root).args(["-qa", "--qf", format]).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(Packages::parse(&String::from_utf8_lossy(&output.stdout)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATUS: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n\n\
        Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
        Package: perl\nStatus: hold ok installed\nDescription: text\n more text\nVersion: 5.36\n";

    fn with(libc: &str) -> Packages {
        Packages::of_debian(&STATUS.replace("2.36-9", libc))
    }

    #[test]
    fn a_remark_names_what_changed_and_how_many_more() {
        assert_eq!(with("2.36-9").text(), "libc6:amd64 2.36-9\nperl 5.36\n");
        assert_eq!(with("1").missing(&with("1")), None);
        let remark = with("1").missing(&with("2")).unwrap();
        assert!(remark.contains("(libc6 1 is now 2);"), "{remark}");
        let many: String = (0..9).map(|n| format!("p{n} 1\n")).collect();
        let remark = Packages::parse(&many).missing(&Packages::default()).unwrap();
        assert!(remark.contains("(p0 is gone, p1 is gone, p2 is gone and 6 more)"), "{remark}");
        // What was added cannot be missed.
        assert_eq!(Packages::default().missing(&with("1")), None);
    }

    #[test]
    fn without_a_database_times_stand_for_packages() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        let (stamp_before, before) = (stamp(root.path()), Packages::of(root.path()).unwrap());
        fs::create_dir(root.path().join("usr/lib")).unwrap();
        assert_ne!(stamp(root.path()), stamp_before);
        let remark = before.missing(&Packages::of(root.path()).unwrap()).unwrap();
        assert!(remark.contains("(/usr/lib)"), "{remark}");
    }

    proptest! {
        #[test]
        fn any_database_is_read(text in "((Package|Status|Version): [a-z ]{0,9}\n|\n|\\PC{0,9}){0,20}") {
            let packages = Packages::of_debian(&text);
            prop_assert_eq!(packages.missing(&packages), None);
        }
    }
}
