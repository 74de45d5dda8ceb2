//! Images that are made here, on a base that is the machine.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use images::{Config, Error, Images, Limits, Reference};
use tempfile::TempDir;

use crate::hex;

const STATUS: &str = "Package: libc6\nStatus: install ok installed\nVersion: 2.36\n\n\
    Package: python3.11\nStatus: install ok installed\nVersion: 3.11.2\n";

/// A machine with a Python, secrets and users of its own.
pub(crate) fn machine() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("usr/bin/python3.11", "");
    put("usr/bin/editor.real", "");
    put("usr/local/bin/mine", "");
    put("usr/share/zoneinfo/Etc/UTC", "");
    put("lib64/ld.so", "");
    put("var/lib/dpkg/status", STATUS);
    put("etc/passwd", "ada:x:1001:1001::/home/ada:/bin/sh\n");
    put("etc/shadow", "secret");
    put("etc/ld.so.cache", "cache");
    put("etc/ssl/certs/ca-certificates.crt", "certificates");
    put("etc/ssl/certs/private.pem", "secret");
    fs::create_dir_all(root.path().join("etc/alternatives")).unwrap();
    let private = root.path().join("etc/ssl/certs/private.pem");
    fs::set_permissions(private, fs::Permissions::from_mode(0o600)).unwrap();
    for (target, link) in [
        ("python3.11", "usr/bin/python3"),
        ("usr/bin", "bin"),
        ("/usr/bin/editor.real", "etc/alternatives/editor"),
        ("/home/ada/secret", "etc/alternatives/private"),
    ] {
        symlink(target, root.path().join(link)).unwrap();
    }
    root
}

fn install(machine: &Path, status: &str) {
    fs::write(machine.join("var/lib/dpkg/status"), status).unwrap();
}

fn reference() -> Reference {
    Reference::parse("us-central1-docker.pkg.dev/p1/cloud-run-source-deploy/app:latest").unwrap()
}

/// Publishes an app on the machine as it is.
fn publish(images: &Images) -> String {
    publish_with(images, "content")
}

/// Publishes an app with a file of this content.
pub(crate) fn publish_with(images: &Images, content: &str) -> String {
    let base = images.machine_base().unwrap();
    let staged = images.stage().unwrap();
    fs::write(staged.path().join("app"), content).unwrap();
    let layer = images.keep_layer(staged.path(), "app", 1000).unwrap();
    let config = Config { entrypoint: vec!["/app".into()], ..Config::default() };
    images.publish(&reference(), &[base.layer.digest, layer.digest], &config).unwrap()
}

#[test]
fn a_base_is_the_machine_without_what_is_its_own() {
    let (machine, home) = (machine(), tempfile::tempdir().unwrap());
    let images = Images::open_on(home.path(), machine.path()).unwrap();
    let base = images.machine_base().unwrap();
    let read = |path: &str| fs::read_to_string(base.layer.directory.join(path)).unwrap_or_default();
    assert_eq!(base.python.as_deref(), Some("3.11"));
    assert_eq!(fs::read_link(base.layer.directory.join("bin")).unwrap(), Path::new("usr/bin"));
    assert!(read("etc/passwd").contains("app:x:1000") && !read("etc/passwd").contains("ada"));
    assert_eq!(read("etc/ld.so.cache"), "cache");
    assert_eq!(read("etc/ssl/certs/ca-certificates.crt"), "certificates");
    for absent in ["etc/shadow", "etc/ssl/certs/private.pem", "etc/alternatives/private", "usr/bin"] {
        assert!(base.layer.directory.join(absent).symlink_metadata().is_err(), "{absent}");
    }
    let links = ["etc/alternatives/editor", "etc/localtime"];
    let leads = links.map(|link| fs::read_link(base.layer.directory.join(link)).unwrap());
    assert_eq!(leads.map(|path| path.starts_with("/usr")), [true, true]);
    assert_eq!(fs::metadata(base.layer.directory.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
    let targets: Vec<_> = base.mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/usr", "/lib64", "/usr/local"]);
    assert_eq!(fs::read_dir(&base.mounts[2].source).unwrap().count(), 0);
    // It is the same as long as the machine is, also to the next haar.
    assert_eq!(Images::open_on(home.path(), machine.path()).unwrap().machine_base().unwrap(), base);
}

#[test]
fn an_upgrade_of_the_machine_is_told() {
    let (machine, home) = (machine(), tempfile::tempdir().unwrap());
    let images = Images::open_on(home.path(), machine.path()).unwrap();
    let digest = publish(&images);
    let remarks = || images.resolve(&reference().to_string()).unwrap().remarks;
    assert_eq!(remarks(), Vec::<String>::new());
    // What was only added, or only written again, is no matter.
    install(machine.path(), &format!("{STATUS}\nPackage: new\nStatus: install ok installed\nVersion: 1\n"));
    assert_eq!(remarks(), Vec::<String>::new());
    install(machine.path(), &STATUS.replace("2.36", "2.41"));
    assert!(remarks()[0].contains("(libc6 2.36 is now 2.41)"), "{:?}", remarks());
    // What is built now stands on what is there now.
    assert_ne!(publish(&images), digest);
    assert_eq!(remarks(), Vec::<String>::new());
    fs::remove_file(machine.path().join("usr/bin/python3.11")).unwrap();
    match images.resolve(&reference().to_string()) {
        Err(Error::Unfit(why)) => assert!(why.contains("/usr/bin/python3.11 is gone"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_parts_are_the_same_image_and_layers_can_be_exported() {
    let (machine, home) = (machine(), tempfile::tempdir().unwrap());
    let images = Images::open_on(home.path(), machine.path()).unwrap();
    assert_eq!(publish(&images), publish(&images));
    let layer = images.made("app").unwrap();
    let mut archive = Vec::new();
    images.export_layer(&layer.digest, &mut archive).unwrap();
    assert_eq!(layer.digest, format!("sha256:{}", hex(&archive)));
    // Nothing half made is left, and nothing unknown is published.
    let names = fs::read_dir(home.path().join("layers")).unwrap().flatten();
    assert!(names.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with('.')));
    let unknown = images.publish(&reference(), &[format!("sha256:{}", "0".repeat(64))], &Config::default());
    assert!(matches!(unknown, Err(Error::NotFound(_))));
    assert!(images.made("another key").is_none());
}

#[test]
fn an_image_from_outside_stands_on_nothing_of_the_machine() {
    let (machine, home) = (machine(), tempfile::tempdir().unwrap());
    let images = Images::open_on(home.path(), machine.path()).unwrap();
    let base = images.machine_base().unwrap();
    // The same files, brought in: the record that makes a base of a layer is not among what an image can bring.
    let other = tempfile::tempdir().unwrap();
    let elsewhere = Images::open_on(other.path(), machine.path()).unwrap();
    let mut archive = Vec::new();
    images.export_layer(&base.layer.digest, &mut archive).unwrap();
    let layout = crate::layout(&[archive], crate::ARCH, "p/app:v1");
    let name = Reference::parse("gcr.io/p/app:v1").unwrap();
    elsewhere.import(layout.path(), Some(&name)).unwrap();
    let image = elsewhere.resolve(&name.to_string()).unwrap();
    assert_eq!((image.mounts.len(), image.remarks.len()), (0, 0));
}

#[test]
fn what_is_larger_than_allowed_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let images = Images::open(home.path()).unwrap();
    let archive = crate::layer(&[crate::Item::File("a", "x"), crate::Item::File("b", "y")]);
    for (limits, allowed) in [
        (Limits { bytes: 1 << 20, entries: 2 }, true),
        (Limits { bytes: 1 << 20, entries: 1 }, false),
        (Limits { bytes: 1024, entries: 9 }, false),
    ] {
        let staged = images.stage().unwrap();
        assert_eq!(images.unpack_into(&*archive, staged.path(), limits).is_ok(), allowed, "{limits:?}");
    }
}

/// The archive of a file that is said to have so many bytes, none of which are in the archive.
fn hole(bytes: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("hole").unwrap();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_size(0);
    let octal = format!("{bytes:011o}\0");
    let gnu = header.as_gnu_mut().unwrap();
    gnu.realsize.copy_from_slice(octal.as_bytes());
    gnu.sparse[0].offset.copy_from_slice(octal.as_bytes());
    gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
    header.set_cksum();
    [header.as_bytes().as_slice(), &[0; 1024]].concat()
}

#[test]
fn a_file_of_nothing_is_no_larger_than_allowed() {
    let home = tempfile::tempdir().unwrap();
    let images = Images::open(home.path()).unwrap();
    let unpack = |bytes| {
        let staged = images.stage().unwrap();
        let limits = Limits { bytes: 1 << 20, entries: 9 };
        images.unpack_into(&*hole(bytes), staged.path(), limits)
    };
    unpack(1 << 19).unwrap();
    assert!(matches!(unpack(8 << 20), Err(images::Error::TooLarge(_))));
}
