//! Apps that are built, started and asked; and those that fail.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use build::{Builds, Settings};

use crate::{
    maker::Maker,
    world::{World, folder},
};

const SERVE: &str = r#"
import os, sys
from wsgiref.simple_server import make_server
import greeter, helper

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    facts = [greeter.greet(), helper.NAME, str(os.getuid()), os.getcwd(), greeter.__cached__, helper.__cached__]
    facts.append(str(os.access("/usr/bin", os.W_OK)))
    facts.append(",".join(os.listdir("/usr/local")))
    facts.append(open("/etc/haar-base").read().splitlines()[1])
    return ["|".join(facts).encode()]

make_server("", int(os.environ["PORT"]), app).serve_forever()
"#;

fn app() -> tempfile::TempDir {
    folder(&[
        ("requirements.txt", "greeter==1.0\n"),
        ("Procfile", "web: python serve.py\n"),
        ("serve.py", SERVE),
        ("helper.py", "NAME = 'a helper'\n"),
        ("broken.py", "def:\n"),
    ])
}

pub(crate) async fn an_app_is_built_started_and_asked(world: Arc<World>) {
    let folder = app();
    let outcome = world.build(folder.path(), &world.settings()).await;
    println!("    first build: {} ms", outcome.took.as_millis());
    let text = outcome.text();
    let built = outcome.image();
    assert!(text.contains("pip install") && text.contains("greeter"), "{text}");
    assert!(text.contains("broken.py"), "what cannot be compiled is shown: {text}");
    let repository = "us-central1-docker.pkg.dev/p1/cloud-run-source-deploy/app";
    assert_eq!(built.image, format!("{repository}@{}", built.digest));
    assert_eq!(built.tag, format!("{repository}:latest"));
    assert_eq!(built.start, ["python", "serve.py"]);
    assert!(!built.cached && built.language.starts_with("Python 3."));
    let answer = world.ask(&built.image).await;
    let facts: Vec<&str> = answer.rsplit("\r\n").next().unwrap().split('|').collect();
    assert_eq!(facts[..4], ["hello from a wheel", "a helper", "1000", "/workspace"], "{answer}");
    assert!(facts[4].starts_with("/layers/python/venv/lib/"), "{answer}");
    assert!(facts[5].starts_with("/workspace/__pycache__/"), "{answer}");
    assert_eq!(facts[6..8], ["False", ""], "the machine's own is for reading, and nothing is local");
    assert!(facts[8].starts_with("python=3."));
}

pub(crate) async fn what_is_known_is_not_built_again(world: Arc<World>) {
    let folder = app();
    let first = world.build(folder.path(), &world.settings()).await.image();
    let again = world.build(folder.path(), &world.settings()).await;
    println!("    the same again: {} ms", again.took.as_millis());
    let again = again.image();
    assert_eq!((&again.digest, again.cached), (&first.digest, true));
    // Only what is the app's own changes.
    fs::write(folder.path().join("helper.py"), "NAME = 'another helper'\n").unwrap();
    let changed = world.build(folder.path(), &world.settings()).await;
    println!("    with a changed file: {} ms", changed.took.as_millis());
    let changed = changed.image();
    assert!(changed.cached && changed.digest != first.digest);
    let (old, new) =
        (world.images.resolve(&first.image).unwrap(), world.images.resolve(&changed.tag).unwrap());
    assert_eq!(old.layers[..2], new.layers[..2]);
    assert!(world.ask(&changed.image).await.contains("another helper"));
    // A requirement that is written in another way is another one: it has to be looked at.
    fs::write(folder.path().join("requirements.txt"), "greeter\n").unwrap();
    assert!(!world.build(folder.path(), &world.settings()).await.image().cached);
    modes_are_for_everybody(&new.layers[2]);
}

fn modes_are_for_everybody(layer: &Path) {
    let file = fs::metadata(layer.join("workspace/helper.py")).unwrap();
    assert_eq!(file.mode() & 0o777, 0o644);
    assert_eq!(file.mtime(), 315_532_801);
}

pub(crate) async fn pip_says_why_it_failed_and_tells_no_secret(world: Arc<World>) {
    let folder = folder(&[("requirements.txt", "greeter==9.9\n"), ("main.py", "")]);
    let failure = world.build(folder.path(), &world.settings()).await.built.unwrap_err();
    assert_eq!(failure.error, "pip found no 'greeter==9.9' that can be installed here");
    assert!(failure.log.iter().any(|line| line.contains("from versions: 1.0")), "{failure:?}");
    // Nobody listens at that mirror.
    let mirror = [
        ("PIP_INDEX_URL", "http://me:hunter22@127.0.0.1:9/simple"),
        ("PIP_RETRIES", "0"),
        ("PIP_EXTRA_INDEX_URL", "http://you:swordfish@127.0.0.1:9/hunter22"),
    ];
    let settings = Settings::of(mirror.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let outcome = world.build(folder.path(), &settings).await;
    let told = format!("{}{:?}", outcome.text(), outcome.built);
    assert!(outcome.built.is_err());
    assert!(
        told.contains("127.0.0.1") && !told.contains("hunter22") && !told.contains("swordfish"),
        "{told}"
    );
}

const MANAGE: &str = r#"
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site1.settings")
assert sys.argv[1:] == ["collectstatic", "--noinput"]
import site1.settings
os.makedirs("staticfiles")
open("staticfiles/style.css", "w").write("body {}")
print("1 static file copied")
"#;

pub(crate) async fn django_s_files_are_collected_or_the_build_fails(world: Arc<World>) {
    let folder = folder(&[
        ("manage.py", MANAGE),
        ("site1/__init__.py", ""),
        ("site1/settings.py", "STATIC_ROOT = BASE / 'staticfiles' if False else 'staticfiles'\nBASE = 1\n"),
        ("Procfile", "web: python manage.py runserver"),
    ]);
    let outcome = world.build(folder.path(), &world.settings()).await;
    assert!(outcome.text().contains("1 static file copied"), "{}", outcome.text());
    let built = outcome.image();
    assert_eq!(built.framework.as_deref(), Some("Django"));
    assert_eq!(built.migrate.unwrap(), ["python3", "manage.py", "migrate", "--noinput"]);
    let layers = world.images.resolve(&built.image).unwrap().layers;
    assert_eq!(fs::read_to_string(layers[2].join("workspace/staticfiles/style.css")).unwrap(), "body {}");
    fs::write(folder.path().join("site1/settings.py"), "STATIC_ROOT = 'x'\nraise KeyError('DB_PASSWORD')\n")
        .unwrap();
    let failure = world.build(folder.path(), &world.settings()).await.built.unwrap_err();
    assert_eq!(failure.error, "the step 'collectstatic' failed with exit code 1");
    assert_eq!(failure.log.last().unwrap(), "KeyError: 'DB_PASSWORD'");
}

const GREEDY: &str = r#"
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "s")
print("it begins")
for number in range(1 << 20):
    open("file%d" % number, "wb").write(bytes(1 << 20))
"#;

pub(crate) async fn a_step_that_fills_the_disk_is_ended(world: Arc<World>) {
    let folder = folder(&[("manage.py", GREEDY), ("s.py", "STATIC_ROOT = 'x'"), ("Procfile", "web: x")]);
    let home = world.home.path().join("small");
    let small = Builds::open(&home, Arc::new(Maker(world.images.clone()))).unwrap().with_disk(64 << 20);
    let outcome = world.build_by(&small, "p1", folder.path(), &world.settings()).await;
    let failure = outcome.built.unwrap_err();
    let said =
        "the step 'collectstatic' had more than the 64 MiB on the disk that a build may, and was ended";
    assert_eq!(failure.error, said, "{failure:?}");
    assert!(failure.log.iter().any(|line| line == "it begins") || failure.log.is_empty(), "{failure:?}");
    // And nothing of it stays.
    let layers = world.images.stage().unwrap().path().parent().unwrap().to_owned();
    let unfinished = || {
        let names = fs::read_dir(&layers).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with(".unfinished-")).count()
    };
    let until = Instant::now() + Duration::from_secs(20);
    while unfinished() > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(unfinished(), 0);
}

pub(crate) async fn projects_share_nothing_that_pip_fetched(world: Arc<World>) {
    let home = world.home.path().join("shared");
    let builds = Builds::open(&home, Arc::new(Maker(world.images.clone()))).unwrap();
    // Three at once, two of them of one project: none waits for what another has.
    let folders = ["one", "two", "three"].map(|name| {
        let text = format!("greeter==1.0\n# {name}\n");
        folder(&[("requirements.txt", &text), ("Procfile", "web: x"), ("a.py", "")])
    });
    let [one, two, three] = &folders;
    let settings = world.settings();
    let build = |project, folder: &Path| {
        let folder = folder.to_owned();
        let (world, builds, settings) = (&world, &builds, &settings);
        async move { world.build_by(builds, project, &folder, settings).await.image() }
    };
    tokio::join!(build("p1", one.path()), build("p1", two.path()), build("p2", three.path()));
    for project in ["p1", "p2"] {
        let cache = home.join("pip").join(project);
        assert!(cache.is_dir());
        // What a step was given is haar's again, so that it can be measured and thrown away.
        fs::remove_dir_all(&cache).unwrap();
    }
}

const CURIOUS: &str = r#"
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "s")
print("uid", os.getuid(), "groups", os.getgroups())
for path in ["/etc/shadow", "/root", "/usr/bin", "/workspace", "/layers", "/layers/python/venv"]:
    print(path, os.access(path, os.R_OK), os.access(path, os.W_OK))
print("processes", sorted(name for name in os.listdir("/proc") if name.isdigit())[:1])
"#;

pub(crate) async fn a_step_is_nobody_and_sees_nobody(world: Arc<World>) {
    let folder = folder(&[("manage.py", CURIOUS), ("s.py", "STATIC_ROOT = 'x'"), ("Procfile", "web: x")]);
    let text = world.build(folder.path(), &world.settings()).await.text();
    for fact in [
        "uid 1000 groups []",
        "/etc/shadow False False",
        "/usr/bin True False",
        "/workspace True True",
        "/layers/python/venv True False",
        "processes ['1']",
    ] {
        assert!(text.contains(fact), "{fact}: {text}");
    }
}
