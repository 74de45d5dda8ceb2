//! What nothing refers to goes, and nothing else.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use images::{Bounds, Collected, Config, Error, Images, Mode, Reference};
use rustix::fs::{CWD, mkfifoat};
use tempfile::TempDir;

use crate::{
    Item, layer, layout,
    made::{machine, publish_with},
};

/// As much as may be removed is.
const NOTHING: Bounds = Bounds { age: Duration::ZERO, bytes: 0 };
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

/// Keeps a layer with a file of that size.
fn keep(images: &Images, key: &str, size: usize) {
    let staged = images.stage().unwrap();
    fs::write(staged.path().join(key), vec![7; size]).unwrap();
    images.keep_layer(staged.path(), key, 0).unwrap();
}

fn names(home: &Path, part: &str) -> Vec<String> {
    let entries = fs::read_dir(home.join(part)).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn collect(images: &Images, in_use: &[&str]) -> Collected {
    let in_use = || in_use.iter().map(|digest| (*digest).to_owned()).collect();
    images.collect(in_use, Bounds::default(), Mode::Remove).unwrap().unwrap()
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
    let would = images.collect(Vec::new, Bounds::default(), Mode::Look).unwrap().unwrap();
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
    keep(&images, "old", 1000);
    age(home.path(), 40 * DAY);
    assert!(images.made("old").is_some(), "and it is used");
    keep(&images, "large", 4 << 20);
    age(home.path(), 10 * DAY);
    keep(&images, "small", 1000);
    assert_eq!(collect(&images, &[]), Collected::default());
    age(home.path(), DAY);
    let bounds = Bounds { bytes: 2 << 20, ..Bounds::default() };
    let collected = images.collect(Vec::new, bounds, Mode::Remove).unwrap().unwrap();
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
    let other = Images::open(home.path()).unwrap();
    let staging = other.stage().unwrap();
    assert_eq!(images.collect(Vec::new, Bounds::default(), Mode::Remove).unwrap(), None);
    assert!(staging.path().exists());
    // Between two layers of an image nothing may be staged.
    let held = other.hold().unwrap();
    drop(staging);
    assert_eq!(images.collect(Vec::new, NOTHING, Mode::Remove).unwrap(), None);
    drop(held);
    assert!(collect(&images, &[]).layers > 0);
}

#[test]
fn a_layer_that_is_made_while_room_is_looked_for_stays() {
    let (_machine, home, images) = store();
    let other = Images::open(home.path()).unwrap();
    // Whoever reads the entries waits here until somebody writes.
    let stop = home.path().join("made/key-stop");
    mkfifoat(CWD, &stop, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let made = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collecting = scope.spawn(|| other.collect(Vec::new, Bounds::default(), Mode::Remove));
        let mut stop = fs::OpenOptions::new().write(true).open(&stop).unwrap();
        scope.spawn(|| {
            keep(&images, "new", 1000);
            made.store(true, Ordering::Release);
        });
        // It is made at once, or waits for the lock.
        let until = Instant::now() + Duration::from_millis(500);
        while !made.load(Ordering::Acquire) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.write_all(b"no entry").unwrap();
        drop(stop);
        collecting.join().unwrap().unwrap();
    });
    assert!(images.made("new").is_some());
}

#[test]
fn what_an_image_has_is_found_by_the_next_build_however_little_is_kept() {
    let (_machine, home, images) = store();
    let first = publish_with(&images, "first");
    keep(&images, "other", 1000);
    age(home.path(), DAY);
    let collected = images.collect(Vec::new, NOTHING, Mode::Remove).unwrap().unwrap();
    assert_eq!(collected.layers, 1);
    assert!(images.made("app").is_some() && images.made("other").is_none());
    assert!(images.resolve(&format!("{OWN}@{first}")).is_ok());
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
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = other.collect(Vec::new, Bounds::default(), Mode::Remove).unwrap();
            }
        });
        for number in 0..40 {
            let digest = publish_with(&images, &number.to_string());
            let image = images.resolve(&format!("{OWN}@{digest}")).unwrap();
            assert_eq!(fs::read_to_string(image.layers[1].join("app")).unwrap(), number.to_string());
            assert_eq!(image.config, Config { entrypoint: vec!["/app".into()], ..Config::default() });
        }
        done.store(true, Ordering::Relaxed);
    });
}
