//! Builds with all they need, and folders for them.

use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use build::{Builds, Built, Event, Failure, Order, Settings, source};
use images::Images;
use sandbox::{
    Config, Instance, Isolation, Level, Sandbox, Spec,
    spec::{Access, Mount, MountKind},
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::maker::Maker;

pub(crate) struct World {
    pub(crate) images: Images,
    pub(crate) sandbox: Sandbox,
    pub(crate) builds: Builds,
    pub(crate) home: TempDir,
    next: AtomicU32,
}

/// What a build said, and what came of it.
pub(crate) struct Outcome {
    pub(crate) built: Result<Built, Failure>,
    pub(crate) said: Vec<Event>,
    pub(crate) took: Duration,
}

impl Outcome {
    /// Everything that was told, as it was sent.
    pub(crate) fn text(&self) -> String {
        self.said.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect()
    }

    pub(crate) fn image(self) -> Built {
        let text = self.text();
        self.built.unwrap_or_else(|failure| panic!("{failure:?}\n{text}"))
    }
}

impl World {
    pub(crate) fn new() -> World {
        let home = tempfile::tempdir().unwrap();
        let images = Images::open(&home.path().join("images")).unwrap();
        let instances = home.path().join("instances");
        fs::create_dir(&instances).unwrap();
        let data_id = format!("build-test-{}", std::process::id());
        let config = Config {
            data_id,
            layers: instances,
            isolation: Isolation::Best,
            warm: 1,
            wiring: Default::default(),
        };
        let sandbox = Sandbox::open(config).unwrap();
        let builds = Builds::open(&home.path().join("builds"), Arc::new(Maker(images.clone()))).unwrap();
        World { images, sandbox, builds, home, next: AtomicU32::new(0) }
    }

    pub(crate) fn impossible(&self) -> Option<String> {
        let has_python = self.images.machine_base().unwrap().python.is_some();
        if self.sandbox.host().level == Level::Process {
            return Some(self.sandbox.host().sentence.clone());
        }
        (!has_python || !Path::new("/usr/lib/python3").exists()).then(|| "no /usr/bin/python3".into())
    }

    /// A directory of wheels with `greeter` 1.0 in it.
    pub(crate) fn wheels(&self) -> PathBuf {
        let directory = self.home.path().join("wheels");
        fs::create_dir_all(&directory).unwrap();
        write_wheel(&directory);
        directory
    }

    /// Settings of somebody without internet.
    pub(crate) fn settings(&self) -> Settings {
        let wheels = self.wheels().display().to_string();
        let pairs = [("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", &wheels)];
        Settings::of(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    pub(crate) async fn build(&self, folder: &Path, settings: &Settings) -> Outcome {
        let mut packed = Vec::new();
        source::pack(folder, settings, &mut packed).unwrap();
        self.build_packed(packed).await
    }

    /// By other builds than the usual ones.
    pub(crate) async fn build_by(
        &self,
        builds: &Builds,
        project: &str,
        folder: &Path,
        settings: &Settings,
    ) -> Outcome {
        let mut packed = Vec::new();
        source::pack(folder, settings, &mut packed).unwrap();
        self.packed_by(builds, project, packed).await
    }

    pub(crate) async fn build_packed(&self, packed: Vec<u8>) -> Outcome {
        self.packed_by(&self.builds, "p1", packed).await
    }

    async fn packed_by(&self, builds: &Builds, project: &str, packed: Vec<u8>) -> Outcome {
        let order = Order { project: project.into(), region: "us-central1".into(), name: "app".into() };
        let said = Arc::new(Mutex::new(Vec::new()));
        let listener = said.clone();
        let started = Instant::now();
        let told = move |event| listener.lock().unwrap().push(event);
        let built = builds.build(&self.sandbox, &order, Cursor::new(packed), told).await;
        let said = std::mem::take(&mut *said.lock().unwrap());
        Outcome { built, said, took: started.elapsed() }
    }

    /// Starts an image as a service would.
    pub(crate) async fn start(&self, reference: &str) -> Instance {
        let image = self.images.resolve(reference).unwrap();
        assert_eq!(image.remarks, Vec::<String>::new());
        let config = image.config;
        let argv = config.entrypoint.into_iter().chain(config.command).collect();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let scratch = self.home.path().join(format!("scratch-{number}"));
        let mut spec = Spec::new("app", image.layers, scratch, argv);
        spec.env = config
            .env
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        spec.env.push(("PORT".into(), "8080".into()));
        spec.cwd = config.working_dir;
        spec.user = config.user;
        let bind = |mount: images::Mount| Mount {
            target: mount.target,
            what: MountKind::Bind { source: mount.source, access: Access::ReadOnly },
        };
        spec.mounts = image.mounts.into_iter().map(bind).collect();
        self.sandbox.start(spec).await.unwrap()
    }

    /// What an image's server answers.
    pub(crate) async fn ask(&self, reference: &str) -> String {
        let mut instance = self.start(reference).await;
        let mut answer = String::new();
        for _ in 0..500 {
            let Ok(mut stream) = instance.connect(8080).await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
            return answer;
        }
        instance.stop(Duration::ZERO).await;
        let mut said = String::new();
        instance.take_stderr().unwrap().read_to_string(&mut said).await.unwrap();
        panic!("it never listened: {said}");
    }
}

/// A folder with these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn write_wheel(directory: &Path) {
    let file = fs::File::create(directory.join("greeter-1.0-py3-none-any.whl")).unwrap();
    let mut wheel = zip::ZipWriter::new(file);
    for (name, text) in [
        ("greeter/__init__.py", "def greet():\n    return 'hello from a wheel'\n"),
        ("greeter-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeter\nVersion: 1.0\n"),
        ("greeter-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ("greeter-1.0.dist-info/RECORD", ""),
    ] {
        wheel.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        wheel.write_all(text.as_bytes()).unwrap();
    }
    wheel.finish().unwrap();
}
