//! Images come in, whole and verified, or not at all.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod collect;
mod made;
mod pull;
mod registry;

use std::{
    fs,
    io::Write,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use images::{Error, HELLO, Images, JOB, Reference};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One entry of a layer.
enum Item<'a> {
    Dir(&'a str),
    File(&'a str, &'a str),
    Link(&'a str, &'a str),
    Hard(&'a str, &'a str),
}

fn layer(items: &[Item]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_700_000_000);
        header.set_mode(0o755);
        let (name, target, content) = match item {
            Item::Dir(name) => (name, None, ""),
            Item::File(name, content) => (name, None, *content),
            Item::Link(name, target) | Item::Hard(name, target) => (name, Some(target), ""),
        };
        header.set_entry_type(match item {
            Item::Dir(_) => tar::EntryType::Directory,
            Item::File(..) => tar::EntryType::Regular,
            Item::Link(..) => tar::EntryType::Symlink,
            Item::Hard(..) => tar::EntryType::Link,
        });
        header.set_size(content.len() as u64);
        // Names are put in raw: the builder would refuse the ones that attackers use.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(target) = target {
            header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Writes an OCI layout of one image.
fn layout(layers: &[Vec<u8>], architecture: &str, name: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let blobs = directory.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], kind: &str| -> Value {
        fs::write(blobs.join(hex(bytes)), bytes).unwrap();
        json!({ "mediaType": kind, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len() })
    };
    let compressed: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(layer).unwrap();
            put(&gzip.finish().unwrap(), "application/vnd.oci.image.layer.v1.tar+gzip")
        })
        .collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": { "Entrypoint": ["/app"], "Cmd": ["--serve"], "Env": ["A=1"], "User": "1000", "WorkingDir": "/srv" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": compressed });
    let mut pointer = put(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    pointer["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(
        directory.path().join("index.json"),
        json!({ "schemaVersion": 2, "manifests": [pointer] }).to_string(),
    )
    .unwrap();
    directory
}

const NAME: &str = "us-docker.pkg.dev/fog/bank/app:v1";
const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

fn store() -> (TempDir, Images) {
    let directory = tempfile::tempdir().unwrap();
    let images = Images::open(directory.path()).unwrap();
    (directory, images)
}

fn import(layers: &[Vec<u8>]) -> (TempDir, images::Result<Vec<PathBuf>>) {
    let (directory, images) = store();
    let layout = layout(layers, ARCH, NAME);
    let imported = images.import(layout.path(), None).and_then(|_| Ok(images.resolve(NAME)?.layers));
    (directory, imported)
}

#[test]
fn an_oci_layout_comes_in_and_is_found_by_name_and_by_digest() {
    let (directory, images) = store();
    let layers = [
        layer(&[Item::Dir("bin"), Item::File("bin/app", "v1")]),
        layer(&[Item::File("srv/readme", "hello")]),
    ];
    let layout = layout(&layers, ARCH, NAME);
    assert_eq!(images.import(layout.path(), None).unwrap(), [Reference::parse(NAME).unwrap()]);

    let image = images.resolve(NAME).unwrap();
    assert_eq!(
        (image.config.entrypoint, image.config.command),
        (vec!["/app".to_owned()], vec!["--serve".to_owned()])
    );
    assert_eq!((image.config.user.as_str(), image.config.working_dir.as_str()), ("1000", "/srv"));
    assert_eq!(fs::read_to_string(image.layers[0].join("bin/app")).unwrap(), "v1");
    assert_eq!(fs::read_to_string(image.layers[1].join("srv/readme")).unwrap(), "hello");
    assert_eq!(image.layers[0].join("bin/app").metadata().unwrap().mtime(), 1_700_000_000);

    let by_digest = images.resolve(&format!("us-docker.pkg.dev/fog/bank/app@{}", image.digest)).unwrap();
    assert_eq!(by_digest.digest, image.digest);
    drop(images);
    let again = Images::open(directory.path()).unwrap();
    assert_eq!(again.list().unwrap(), [(NAME.to_owned(), image.digest)]);
    assert!(matches!(again.resolve("us-docker.pkg.dev/fog/bank/other"), Err(Error::NotFound(_))));
}

#[test]
fn what_docker_save_wrote_comes_in_too() {
    let (_directory, images) = store();
    let bottom = layer(&[Item::File("app", "v1")]);
    let config = json!({
        "architecture": ARCH, "os": "linux", "config": { "Cmd": ["/app"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&bottom))] },
    })
    .to_string();
    let manifest = json!([{ "Config": "c.json", "RepoTags": ["gcr.io/fog/app:v2", "gcr.io/fog/app:latest"], "Layers": ["l/layer.tar"] }]).to_string();
    let mut archive = tar::Builder::new(tempfile::NamedTempFile::new().unwrap());
    for (name, content) in
        [("c.json", config.as_bytes()), ("manifest.json", manifest.as_bytes()), ("l/layer.tar", &bottom)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    }
    let archive = archive.into_inner().unwrap();
    assert_eq!(images.import(archive.path(), None).unwrap().len(), 2);
    let image = images.resolve("gcr.io/fog/app").unwrap();
    assert_eq!(image.config.command, ["/app"]);
    assert_eq!(image.digest, images.resolve("gcr.io/fog/app:v2").unwrap().digest);
}

#[test]
fn deletions_become_what_overlayfs_understands() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: whiteouts as device nodes need root");
    }
    let (_directory, layers) = import(&[
        layer(&[Item::File("etc/old", "1"), Item::File("var/a", "1")]),
        layer(&[
            Item::File("etc/.wh.old", ""),
            Item::Dir("var"),
            Item::File("var/.wh..wh..opq", ""),
            Item::File("var/b", "2"),
        ]),
    ]);
    let upper = layers.unwrap().remove(1);
    let whiteout = upper.join("etc/old").symlink_metadata().unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    let mut value = [0; 4];
    let read = rustix::fs::getxattr(upper.join("var"), "user.overlay.opaque", &mut value[..]).unwrap();
    assert_eq!(&value[..read], b"y");
    assert!(upper.join("var/b").exists());
}

#[test]
fn a_layer_cannot_reach_out_of_its_directory() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("planted");
    let target = target.to_str().unwrap();
    let out = outside.path().to_str().unwrap();
    let deep = "../../../../../../../../../../../..";
    let up = format!("{deep}{target}");
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("dots", layer(&[Item::File(&up, "evil")])),
        ("an absolute path", layer(&[Item::File(target, "evil")])),
        ("through a link", layer(&[Item::Link("door", out), Item::File("door/planted", "evil")])),
        (
            "through a relative link",
            layer(&[Item::Link("door", &format!("{deep}{out}")), Item::File("door/planted", "evil")]),
        ),
        (
            "through a chain",
            layer(&[Item::Link("a", "b"), Item::Link("b", out), Item::File("a/planted", "evil")]),
        ),
        ("over a link", layer(&[Item::Link("planted", target), Item::File("planted", "evil")])),
        ("a whiteout with dots", layer(&[Item::File(".wh...", "")])),
        ("opaque through a link", layer(&[Item::Link("door", out), Item::File("door/.wh..wh..opq", "")])),
    ];
    for (name, attack) in attacks {
        let (_directory, _outcome) = import(&[attack]);
        assert!(!Path::new(target).exists(), "{name} wrote outside");
        assert!(fs::read_dir(out).unwrap().next().is_none(), "{name} left something outside");
    }
    fs::write(target, "precious").unwrap();
    for (name, attack) in [
        ("a hard link out", layer(&[Item::Hard("copy", target), Item::File("copy", "evil")])),
        ("a hard link through a link", layer(&[Item::Link("door", out), Item::Hard("copy", "door/planted")])),
        ("a hard link with dots", layer(&[Item::Hard("copy", &up)])),
    ] {
        let (_directory, outcome) = import(&[attack]);
        let exposed = outcome.is_ok_and(|layers| {
            fs::read_to_string(layers[0].join("copy")).is_ok_and(|text| text == "precious")
        });
        assert!(!exposed && fs::read_to_string(target).unwrap() == "precious", "{name}");
    }
}

#[test]
fn links_inside_a_layer_work_as_in_a_container() {
    let (_directory, layers) = import(&[layer(&[
        Item::Dir("usr/lib"),
        Item::Link("lib", "/usr/lib"),
        Item::File("lib/libfog.so", "fog"),
        Item::Hard("usr/lib/libfog.so.1", "lib/libfog.so"),
    ])]);
    let root = layers.unwrap().remove(0);
    assert_eq!(fs::read_to_string(root.join("usr/lib/libfog.so")).unwrap(), "fog");
    assert_eq!(fs::read_to_string(root.join("usr/lib/libfog.so.1")).unwrap(), "fog");
}

#[test]
fn an_image_for_another_processor_says_so() {
    let (_directory, images) = store();
    let other = if ARCH == "amd64" { "arm64" } else { "amd64" };
    let layout = layout(&[layer(&[Item::File("app", "v1")])], other, NAME);
    let refusal = images.import(layout.path(), None).unwrap_err().to_string();
    assert!(refusal.contains(other) && refusal.contains(&format!("--platform linux/{ARCH}")), "{refusal}");
}

#[test]
fn what_was_tampered_with_is_refused_and_leaves_nothing_behind() {
    let (directory, images) = store();
    let layout = layout(&[layer(&[Item::File("app", "v1")])], ARCH, NAME);
    let blobs = layout.path().join("blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap().flatten() {
        let bytes = fs::read(blob.path()).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&layer(&[Item::File("app", "evil")])).unwrap();
            fs::write(blob.path(), gzip.finish().unwrap()).unwrap();
        }
    }
    assert!(images.import(layout.path(), None).is_err());
    assert!(images.list().unwrap().is_empty());
    assert!(fs::read_dir(directory.path().join("layers")).unwrap().next().is_none());
    for nonsense in ["not an image", ""] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), nonsense).unwrap();
        assert!(matches!(images.import(file.path(), None), Err(Error::Malformed(_))));
    }
}

#[test]
fn a_store_that_is_opened_leaves_the_imports_of_others_alone() {
    use rustix::fs::{FlockOperation, flock};

    let (directory, _images) = store();
    let unfinished = directory.path().join("layers/.unfinished-x");
    fs::create_dir(&unfinished).unwrap();
    let import_under_way = fs::File::open(directory.path().join("lock")).unwrap();
    flock(&import_under_way, FlockOperation::LockShared).unwrap();
    Images::open(directory.path()).unwrap();
    assert!(unfinished.exists());
    drop(import_under_way);
    Images::open(directory.path()).unwrap();
    assert!(!unfinished.exists());
}

#[test]
fn what_cannot_be_removed_is_no_reason_not_to_open_a_store() {
    let (directory, _images) = store();
    let [stuck, unfinished] =
        ["layers/.unfinished-a", "layers/.unfinished-b"].map(|name| directory.path().join(name));
    // For root too this is no directory that could be removed.
    fs::write(&stuck, "").unwrap();
    fs::create_dir(&unfinished).unwrap();
    Images::open(directory.path()).unwrap();
    assert!(stuck.exists() && !unfinished.exists());
}

#[test]
fn a_directory_that_is_no_image_is_not_copied() {
    let (directory, images) = store();
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("diary"), "private").unwrap();
    assert!(matches!(images.import(home.path(), None), Err(Error::Malformed(_))));
    assert_eq!(fs::read_dir(directory.path().join("blobs")).unwrap().count(), 0);
}

#[test]
fn hello_is_always_there_and_always_the_same() {
    let (_directory, images) = store();
    let image = images.resolve(HELLO).unwrap();
    assert_eq!(images.resolve("gcr.io/cloudrun/hello").unwrap().digest, image.digest);
    let program = image.layers[0].join("haar");
    assert_eq!(program.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(program.metadata().unwrap().len(), fs::metadata("/proc/self/exe").unwrap().len());
    assert!(image.layers[0].join("lib64/ld-linux-x86-64.so.2").exists() || ARCH != "amd64");
    // The one for jobs is another image of the same layer.
    let job = images.resolve(JOB).unwrap();
    assert_ne!(job.digest, image.digest);
    assert_eq!((job.layers, job.config.entrypoint[1].as_str()), (image.layers, "run-job"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096), gzip in any::<bool>()) {
        let bytes = if gzip { [b"\x1f\x8b\x08\x00".as_slice(), &bytes].concat() } else { bytes };
        let _ = import(std::slice::from_ref(&bytes));
        let (_directory, images) = store();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        prop_assert!(images.import(file.path(), None).is_err());
    }
}
