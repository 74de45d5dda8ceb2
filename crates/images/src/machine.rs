//! The machine base: an image's lowest layer that needs no registry.
//!
//! Its programs and libraries are the machine's `/usr`, seen through a mount that cannot be written and gains nobody
//! rights, without `/usr/local`, which is not the distribution's. What is a layer is the little around it: the links
//! of the root, an `/etc` without anything of this machine's own (users, host names, secrets), and places to write.
//! The time zone is UTC, as on Cloud Run.
//!
//! The machine changes under an image that stands on it. So that this is never silent, a base is one of a certain list
//! of packages, whose digest is in the layer; the list is kept, and an image whose packages have changed since carries
//! a remark. An image whose Python is gone cannot be run at all, and is not found to be so by its first request.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    Doing, Error, Images, Result,
    blobs::replace_file,
    made::Layer,
    packages::{Packages, stamp, stamp_of},
};

/// Raised when bases are made in another way, so that old ones are not taken for new ones.
const VERSION: u32 = 1;
/// What may be a link into `/usr` or a directory of its own.
const ROOTS: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libx32", "libo32", "sbin"];
/// Of `/etc`, what is taken as it is on this machine, if it is there and everybody may read it.
const TAKEN: [&str; 14] = [
    "alternatives",
    "crypto-policies",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "mime.types",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls",
    "protocols",
    "rpc",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
];
/// Of these, files deep in directories that are written in their places: the bundles of certificates, Debian's and Red
/// Hat's.
const WRITTEN: [&str; 4] = [
    "ssl/certs/ca-certificates.crt",
    "pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "pki/ca-trust/extracted/openssl/ca-bundle.trust.crt",
    "pki/tls/certs/ca-bundle.crt",
];
/// The largest file that is taken, in bytes.
const MAX_FILE: u64 = 8 << 20;
/// The unprivileged user that builds and their images run as.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    app:x:1000:1000::/home/app:/bin/sh\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\napp:x:1000:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
    protocols: files\nservices: files\n";
const UTC: &str = "/usr/share/zoneinfo/Etc/UTC";
/// Empty directories, with their modes.
const PLACES: [(&str, u32); 10] = [
    ("home/app", 0o777),
    ("layers", 0o755),
    ("root", 0o755),
    ("run", 0o777),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var/log", 0o777),
    ("var/run", 0o777),
    ("var/tmp", 0o1777),
    ("workspace", 0o777),
];

/// A base that images can be made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its layer.
    pub layer: Layer,
    /// What of the machine is mounted over it, in order.
    pub mounts: Vec<Mount>,
    /// The minor version of `/usr/bin/python3`, such as `3.11`.
    pub python: Option<String>,
}

/// A directory of this machine, and where it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// On the machine.
    pub source: PathBuf,
    /// Inside.
    pub target: String,
}

/// What a base stands on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The digest of the list of packages, which lies beside this.
    packages: String,
    /// What the database of packages was when it was last found to say the same.
    stamp: String,
    python: Option<String>,
    /// Directories of the root that are not links, by name.
    directories: Vec<String>,
}

/// What an image on a base needs to know.
#[derive(Default)]
pub(crate) struct Standing {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) remarks: Vec<String>,
}

/// The machine, and what was last seen of it.
pub(crate) struct Machine {
    root: PathBuf,
    /// The packages, by the stamp of their database.
    seen: Mutex<Option<(String, Packages)>>,
}

impl Machine {
    pub(crate) fn at(root: &Path) -> Machine {
        Machine { root: root.to_owned(), seen: Mutex::default() }
    }

    /// The packages there are, read if their database has changed.
    fn packages(&self, stamp: &str) -> Result<Packages> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, packages)) = seen.as_ref().filter(|(known, _)| known == stamp) {
            return Ok(packages.clone());
        }
        let packages = Packages::of(&self.root)?;
        *seen = Some((stamp.to_owned(), packages.clone()));
        Ok(packages)
    }

    /// Everything that a base is made from, told without reading it.
    fn key(&self, stamp: &str) -> String {
        let etc = |path: &str| stamp_of(&self.root, &format!("etc/{path}"));
        let taken: String = TAKEN.iter().chain(&WRITTEN).map(|path| etc(path)).collect();
        let links = ROOTS.iter().chain(&["usr/bin/python3"]);
        let links: String = links.map(|path| stamp_of(&self.root, path)).collect();
        format!("machine v{VERSION} {} {stamp}{taken}{}{links}", self.root.display(), self.linker())
    }

    /// The files that say where libraries are: their directory does not change when one of them does.
    fn linker(&self) -> String {
        let entries = fs::read_dir(self.root.join("etc/ld.so.conf.d")).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.iter().map(|name| stamp_of(&self.root, &format!("etc/ld.so.conf.d/{name}"))).collect()
    }

    /// The minor version of Python, as the name of the program behind `/usr/bin/python3` has it.
    fn python(&self) -> Option<String> {
        let program = fs::canonicalize(self.root.join("usr/bin/python3")).ok()?;
        let version = program.file_name()?.to_str()?.strip_prefix("python")?.to_owned();
        version.starts_with("3.").then_some(version)
    }

    fn has_python(&self, version: &str) -> bool {
        self.root.join(format!("usr/bin/python{version}")).exists()
    }

    fn directories(&self) -> Vec<String> {
        let is_directory =
            |name: &&&str| fs::symlink_metadata(self.root.join(name)).is_ok_and(|metadata| metadata.is_dir());
        ROOTS.iter().filter(is_directory).map(|name| (*name).to_owned()).collect()
    }

    /// Writes what is not the machine's own.
    fn furnish(&self, into: &Path, packages: &str, python: Option<&str>) -> Result<()> {
        for (place, mode) in PLACES {
            make(&into.join(place), mode)?;
        }
        for name in ROOTS {
            match fs::read_link(self.root.join(name)) {
                Ok(target) => {
                    symlink(target, into.join(name)).doing(format_args!("make the link /{name}"))?;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // It is a directory, and will be mounted.
                Err(_) => make(&into.join(name), 0o755)?,
            }
        }
        let etc = into.join("etc");
        make(&etc, 0o755)?;
        for path in TAKEN {
            self.take(Path::new("etc").join(path).as_path(), into)?;
        }
        self.take_python_settings(into)?;
        let base = format!("packages={packages}\npython={}\n", python.unwrap_or("none"));
        for (name, text) in
            [("passwd", PASSWD), ("group", GROUP), ("nsswitch.conf", NSSWITCH), ("haar-base", &base)]
        {
            fs::write(etc.join(name), text).doing(format_args!("write /etc/{name}"))?;
        }
        if self.root.join(UTC.trim_start_matches('/')).exists() {
            symlink(UTC, etc.join("localtime")).doing("set the time zone")?;
        }
        Ok(())
    }

    /// Debian's Python reads `/etc/python3.11/sitecustomize.py` through a link in `/usr`.
    fn take_python_settings(&self, into: &Path) -> Result<()> {
        let Ok(entries) = fs::read_dir(self.root.join("etc")) else { return Ok(()) };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with("python3") {
                self.take(&Path::new("etc").join(entry.file_name()), into)?;
            }
        }
        Ok(())
    }

    /// Copies a file, directory or link that everybody may read. Links are kept if they lead into `/usr` or stay in
    /// `/etc`; other links, and files that are only root's, are left out.
    fn take(&self, path: &Path, into: &Path) -> Result<()> {
        let from = self.root.join(path);
        let Ok(metadata) = fs::symlink_metadata(&from) else { return Ok(()) };
        let doing = format!("take /{} into an image", path.display());
        if let Some(parent) = into.join(path).parent() {
            make(parent, 0o755)?;
        }
        if metadata.is_symlink() {
            let target = fs::read_link(&from).doing(&doing)?;
            return match is_common(&target) {
                true => symlink(target, into.join(path)).doing(&doing),
                false => Ok(()),
            };
        }
        let needed = if metadata.is_dir() { 0o005 } else { 0o004 };
        if metadata.permissions().mode() & needed != needed {
            return Ok(());
        }
        if metadata.is_dir() {
            make(&into.join(path), 0o755)?;
            for entry in fs::read_dir(&from).doing(&doing)? {
                self.take(&path.join(entry.doing(&doing)?.file_name()), into)?;
            }
        } else if metadata.is_file() && metadata.len() <= MAX_FILE {
            fs::copy(&from, into.join(path)).doing(&doing)?;
        }
        Ok(())
    }
}

/// Whether a link of `/etc` means the same inside. Manuals are not read there.
fn is_common(target: &Path) -> bool {
    let is_manual = target.extension().is_some_and(|extension| extension == "gz");
    !is_manual
        && (target.is_relative() || target.starts_with("/usr") || target.starts_with("/etc"))
        && !target.starts_with("/usr/local")
}

/// Makes a directory with a mode, whatever the umask is, and those above it.
fn make(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .doing(format_args!("make {}", path.display()))
}

impl Images {
    /// The base that stands on this machine as it is now: made, or found as it was made before.
    pub fn machine_base(&self) -> Result<Base> {
        let machine = &self.0.machine;
        let stamp = stamp(&machine.root);
        let key = machine.key(&stamp);
        let known = self.made(&key).and_then(|layer| Some((self.record(&layer.digest)?.machine?, layer)));
        let (record, layer) = match known {
            Some(known) => known,
            None => self.make_base(&key, stamp)?,
        };
        Ok(Base { mounts: self.mounts(&record)?, layer, python: record.python })
    }

    fn make_base(&self, key: &str, stamp: String) -> Result<(Record, Layer)> {
        let machine = &self.0.machine;
        let packages = machine.packages(&stamp)?;
        let record = Record {
            packages: packages.digest(),
            stamp,
            python: machine.python(),
            directories: machine.directories(),
        };
        let staging = self.stage()?;
        machine.furnish(staging.path(), &record.packages, record.python.as_deref())?;
        // The list before the layer that needs it.
        replace_file(&self.0.made, &list_file(&record.packages), packages.text().as_bytes())?;
        let layer = self.keep_with(staging.path(), key, 0, Some(record.clone()))?;
        Ok((record, layer))
    }

    /// What a layer that was made here as a base needs today; nothing for any other layer.
    ///
    /// # Errors
    /// `Unfit` when what was built on it cannot run here any more.
    pub(crate) fn standing(&self, digest: &str) -> Result<Standing> {
        let Some(record) = self.record(digest).and_then(|record| record.machine) else {
            return Ok(Standing::default());
        };
        let machine = &self.0.machine;
        if let Some(version) = record.python.as_ref().filter(|version| !machine.has_python(version)) {
            return Err(Error::Unfit(format!(
                "the image was built on this machine's Python {version}, and /usr/bin/python{version} is gone; \
                 deploy again to build on the Python that is there now"
            )));
        }
        let mounts = self.mounts(&record)?;
        let remarks = self.remark(&record)?.into_iter().collect();
        Ok(Standing { mounts, remarks })
    }

    fn remark(&self, record: &Record) -> Result<Option<String>> {
        let stamp = stamp(&self.0.machine.root);
        if stamp == record.stamp {
            return Ok(None);
        }
        let now = self.0.machine.packages(&stamp)?;
        let list = fs::read_to_string(self.0.made.join(list_file(&record.packages)))
            .doing("read what an image stands on")?;
        Ok(Packages::parse(&list).missing(&now))
    }

    fn mounts(&self, record: &Record) -> Result<Vec<Mount>> {
        let root = &self.0.machine.root;
        let mount = |name: &str| Mount { source: root.join(name), target: format!("/{name}") };
        let mut mounts = vec![mount("usr")];
        mounts.extend(record.directories.iter().map(|name| mount(name)));
        if root.join("usr/local").is_dir() {
            let empty = self.0.made.join("empty");
            make(&empty, 0o755)?;
            mounts.push(Mount { source: empty, target: "/usr/local".into() });
        }
        Ok(mounts)
    }
}

fn list_file(packages: &str) -> String {
    format!("packages-{}", packages.trim_start_matches("sha256:"))
}
