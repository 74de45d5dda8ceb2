//! What nothing refers to goes, and nothing else.

use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};

use images::{Bounds, Collected, Config, Error, Images, Mode, Reference};
use tempfile::TempDir;

use crate::{
    Item, layer, layout,
    made::{machine, publish_with},
};

const DAY: Duration = Duration::from_hours(24);
const OWN: &str = "us-central1-docker.pkg.dev/p1/cloud-run-source-deploy/app";

fn store() -> (TempDir, TempDir, Images) {
    let (machine, home) = (machine(), tempfile::tempdir().unwrap());
    let images = Images::open_on(home.path(), machine.path()).unwrap();
    (machine, home, images)
}

/// Makes everything in the store seem older.
fn age(home: &Path, by: Duration) {
    for part in ["blobs", "made"] {
        for file in fs::read_dir(home.join(part)).unwrap().flatten().filter(|file| file.path().is_file()) {
            let time = file.metadata().unwrap().modified().unwrap();
            File::open(file.path()).unwrap().set_modified(time - by).unwrap();
        }
    }
}

fn names(home: &Path, part: &str) -> Vec<String> {
    let entries = fs::read_dir(home.join(part)).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn collect(images: &Images, in_use: &[&str]) -> Collected {
    images.collect(in_use.iter().copied(), Bounds::default(), Mode::Remove).unwrap().unwrap()
}

#[test]
fn an_image_stays_for_as_long_as_somebody_uses_it() {
    let (_machine, home, images) = store();
    let first = publish_with(&images, "first");
    let second = publish_with(&images, "second");
    let by_digest = format!("{OWN}@{first}");
    assert_eq!(collect(&images, &[]), Collected::default(), "it was just found");
    age(home.path(), DAY);
    assert_eq!(collect(&images, &[&first]), Collected::default(), "a revision is made of it");
    assert!(images.resolve(&by_digest).is_ok());
    assert_eq!(collect(&images, &[]), Collected::default(), "it was just found again");

    age(home.path(), DAY);
    let would = images.collect([], Bounds::default(), Mode::Look).unwrap().unwrap();
    assert!(images.resolve(&by_digest).is_ok(), "nothing is removed by looking");
    age(home.path(), DAY);
    let collected = collect(&images, &[]);
    // Its manifest and its configuration, and the layer that is in no other image.
    assert_eq!((collected.layers, collected.blobs), (1, 2));
    assert!(collected.bytes > 0 && would == collected, "{would:?} {collected:?}");
    assert!(matches!(images.resolve(&by_digest), Err(Error::NotFound(_))));
    let image = images.resolve(&format!("{OWN}:latest")).unwrap();
    assert_eq!(image.digest, second);
    assert_eq!(fs::read_to_string(image.layers[1].join("app")).unwrap(), "second");
    assert!(names(home.path(), "layers").iter().all(|name| !name.starts_with('.')), "nothing is left aside");
}

#[test]
fn what_builds_keep_for_the_next_has_an_age_and_a_size() {
    let (_machine, home, images) = store();
    let keep = |key: &str, size: usize| {
        let staged = images.stage().unwrap();
        fs::write(staged.path().join(key), vec![7; size]).unwrap();
        images.keep_layer(staged.path(), key, 0).unwrap()
    };
    keep("old", 1000);
    age(home.path(), 40 * DAY);
    assert!(images.made("old").is_some(), "and it is used");
    keep("large", 4 << 20);
    age(home.path(), 10 * DAY);
    keep("small", 1000);
    assert_eq!(collect(&images, &[]), Collected::default());
    age(home.path(), DAY);
    let bounds = Bounds { bytes: 2 << 20, ..Bounds::default() };
    let collected = images.collect([], bounds, Mode::Remove).unwrap().unwrap();
    assert_eq!(collected.layers, 1);
    assert!(images.made("large").is_none() && images.made("small").is_some());
    age(home.path(), 40 * DAY);
    assert!(images.made("small").is_some());
    assert_eq!(collect(&images, &[]).layers, 1, "one was not used for long");
    assert!(images.made("old").is_none() && images.made("small").is_some());
}

#[test]
fn nothing_is_collected_while_something_is_made() {
    let (_machine, home, images) = store();
    publish_with(&images, "first");
    publish_with(&images, "second");
    age(home.path(), 40 * DAY);
    let staging = Images::open(home.path()).unwrap().stage().unwrap();
    assert_eq!(images.collect([], Bounds::default(), Mode::Remove).unwrap(), None);
    assert!(staging.path().exists());
    drop(staging);
    assert!(collect(&images, &[]).layers > 0);
}

#[test]
fn an_image_that_people_brought_in_stays() {
    let (_machine, home, images) = store();
    let layers = [layer(&[Item::Dir("etc/"), Item::File("etc/a", "a")]), layer(&[Item::File("b", "b")])];
    let layout = layout(&layers, crate::ARCH, "example.com/p/r/app:v1");
    let reference = Reference::parse("example.com/p/r/app:v1").unwrap();
    images.import(layout.path(), Some(&reference)).unwrap();
    age(home.path(), 400 * DAY);
    // What the archive said of itself beside the image may go.
    assert_eq!(collect(&images, &[]).layers, 0);
    assert_eq!(images.resolve("example.com/p/r/app:v1").unwrap().layers.len(), 2);
    age(home.path(), 400 * DAY);
    assert_eq!(collect(&images, &[]), Collected::default());
}

#[test]
fn builds_and_collections_do_not_hurt_each_other() {
    let (_machine, home, images) = store();
    let other = Images::open(home.path()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = other.collect([], Bounds::default(), Mode::Remove).unwrap();
            }
        });
        for number in 0..40 {
            let digest = publish_with(&images, &number.to_string());
            let image = images.resolve(&format!("{OWN}@{digest}")).unwrap();
            assert_eq!(fs::read_to_string(image.layers[1].join("app")).unwrap(), number.to_string());
            assert_eq!(image.config, Config { entrypoint: vec!["/app".into()], ..Config::default() });
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
