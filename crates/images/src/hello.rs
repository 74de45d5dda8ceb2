//! The images that every first deploy uses: `us-docker.pkg.dev/cloudrun/container/hello`, `…/job` for jobs, and
//! `…/worker-pool` for worker pools.
//!
//! They are made here, from this very program: one layer that holds the running executable and the shared libraries
//! it is running with, and a start command that makes it serve a page, do a job's work or go on working. So the first
//! `gcloud run deploy` works on a machine that has never seen a registry, and what it starts is a real container.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;

use crate::{
    Doing, Reference, Result, archive::put_manifest, blobs::Blobs, document::MAX_DOCUMENT, reference::Pick,
};

/// The reference of the one that serves.
pub const HELLO: &str = "us-docker.pkg.dev/cloudrun/container/hello:latest";
/// The reference of the one that runs to its end.
pub const JOB: &str = "us-docker.pkg.dev/cloudrun/container/job:latest";

/// One of these images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    /// Serves a page.
    Hello,
    /// Runs to its end.
    Job,
    /// Goes on working.
    Worker,
}

/// The digests of their manifests.
pub(crate) struct Manifests {
    hello: String,
    job: String,
    worker: String,
}

impl Manifests {
    /// The digest of one of them.
    pub(crate) fn of(&self, image: BuiltIn) -> &str {
        match image {
            BuiltIn::Hello => &self.hello,
            BuiltIn::Job => &self.job,
            BuiltIn::Worker => &self.worker,
        }
    }
}

impl BuiltIn {
    /// All of them.
    pub(crate) const ALL: [BuiltIn; 3] = [BuiltIn::Hello, BuiltIn::Job, BuiltIn::Worker];

    /// The argument that makes this program be it.
    fn argument(self) -> &'static str {
        match self {
            BuiltIn::Hello => "serve-hello",
            BuiltIn::Job => "run-job",
            BuiltIn::Worker => "run-worker",
        }
    }
}

/// Which of these images a reference names, if one.
pub(crate) fn which(reference: &Reference) -> Option<BuiltIn> {
    if reference.pick != Pick::Tag("latest".into()) {
        return None;
    }
    match format!("{}/{}", reference.host, reference.path).as_str() {
        "us-docker.pkg.dev/cloudrun/container/hello" | "gcr.io/cloudrun/hello" => Some(BuiltIn::Hello),
        "us-docker.pkg.dev/cloudrun/container/job" => Some(BuiltIn::Job),
        "us-docker.pkg.dev/cloudrun/container/worker-pool" => Some(BuiltIn::Worker),
        _ => None,
    }
}

/// Whether a reference names one of these images.
pub(crate) fn is(reference: &Reference) -> bool {
    which(reference).is_some()
}

/// Serves the page or does the job's work, if that is what this process was started for; otherwise returns at once.
///
/// # Errors
/// When `$PORT` cannot be listened on.
pub fn serve_if_asked() -> io::Result<()> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match BuiltIn::ALL.into_iter().find(|image| image.argument() == argument) {
        Some(BuiltIn::Hello) => serve(),
        Some(BuiltIn::Job) => work(),
        Some(BuiltIn::Worker) => work_on(),
        None => Ok(()),
    }
}

fn serve() -> io::Result<()> {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    eprintln!("listening on port {port}");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || answer(stream));
    }
    std::process::exit(0)
}

/// Does a job's work, which is to say that it does: for `SLEEP_MS` milliseconds, and failing as often as `FAIL_RATE`
/// says (0 to 1), as the samples for Cloud Run jobs do.
fn work() -> ! {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (task, attempt) = (variable("CLOUD_RUN_TASK_INDEX"), variable("CLOUD_RUN_TASK_ATTEMPT"));
    println!("Starting Task #{task}, Attempt #{attempt}...");
    std::thread::sleep(Duration::from_millis(variable("SLEEP_MS").parse().unwrap_or(0)));
    let luck = RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64;
    if luck < variable("FAIL_RATE").parse().unwrap_or(0.0) {
        eprintln!("Task #{task}, Attempt #{attempt} failed.");
        std::process::exit(1)
    }
    println!("Completed Task #{task}, Attempt #{attempt}.");
    std::process::exit(0)
}

/// Works for a worker pool, which is to say that it does, now and again, until somebody stops it.
fn work_on() -> ! {
    let pool = std::env::var("CLOUD_RUN_WORKER_POOL").unwrap_or_default();
    println!("Worker pool {pool} has begun to work.");
    for turn in 1_u64.. {
        std::thread::sleep(Duration::from_secs(10));
        println!("Worker pool {pool} has done its work {turn} times.");
    }
    std::process::exit(0)
}

/// Makes the images, or finds that they are there: the same program gives the same digests.
pub(crate) fn make(blobs: &Blobs) -> Result<Manifests> {
    let (layer, diff_id, size) = make_layer(blobs)?;
    let image = |image: BuiltIn| {
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Entrypoint": ["/haar", image.argument()], "User": "65532:65532", "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        });
        let config = blobs.put(config.to_string().as_bytes(), None, MAX_DOCUMENT)?;
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        let layer = json!({ "mediaType": media_type, "digest": layer, "size": size });
        put_manifest(&config, vec![layer], blobs)
    };
    Ok(Manifests {
        hello: image(BuiltIn::Hello)?,
        job: image(BuiltIn::Job)?,
        worker: image(BuiltIn::Worker)?,
    })
}

fn make_layer(blobs: &Blobs) -> Result<(String, String, u64)> {
    let mut staged = tempfile::tempfile().doing("make the built-in images")?;
    write_layer(&mut staged).doing("make the built-in images")?;
    let size = io::Seek::stream_position(&mut staged).doing("make the built-in images")?;
    io::Seek::rewind(&mut staged).doing("make the built-in images")?;
    let digest = blobs.put(&staged, None, u64::MAX - 1)?;
    Ok((digest.clone(), digest, size))
}

fn write_layer(into: &mut File) -> io::Result<()> {
    let mut layer = tar::Builder::new(into);
    let mut directories = BTreeSet::new();
    add(&mut layer, &mut directories, Path::new("haar"), Path::new("/proc/self/exe"))?;
    for library in loaded_libraries()? {
        add(&mut layer, &mut directories, library.strip_prefix("/").unwrap_or(&library), &library)?;
    }
    layer.finish()
}

/// Adds a file, as root's and of no particular time, with the directories above it.
fn add(
    layer: &mut tar::Builder<&mut File>,
    directories: &mut BTreeSet<PathBuf>,
    name: &Path,
    from: &Path,
) -> io::Result<()> {
    let parents: Vec<&Path> =
        name.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
    for parent in parents.into_iter().rev().filter(|parent| directories.insert(parent.to_path_buf())) {
        layer.append_data(&mut header(tar::EntryType::Directory, 0), parent, io::empty())?;
    }
    let content = fs::read(from)?;
    layer.append_data(&mut header(tar::EntryType::Regular, content.len() as u64), name, content.as_slice())
}

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// The shared objects that this process has mapped, under every name the loader will look for them.
fn loaded_libraries() -> io::Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    for line in BufReader::new(File::open("/proc/self/maps")?).lines() {
        let line = line?;
        let Some(path) =
            line.split_whitespace().nth(5).filter(|path| path.starts_with('/') && path.contains(".so"))
        else {
            continue;
        };
        libraries.insert(PathBuf::from(path));
    }
    // The program names its loader by a fixed path, which may be a link on this machine.
    for loader in ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1"] {
        if Path::new(loader).exists() && !libraries.is_empty() {
            libraries.insert(PathBuf::from(loader));
        }
    }
    Ok(libraries)
}

/// Answers requests on one connection until it closes. Bodies are not read: whoever sends one is cut off after the
/// answer.
fn answer(stream: TcpStream) {
    let mut reader = BufReader::new(match stream.try_clone() {
        Ok(stream) => stream.take(1 << 20),
        Err(_) => return,
    });
    let mut writer = stream;
    while let Some(has_body) = read_head(&mut reader) {
        let page = page();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            page.len()
        );
        if writer.write_all([head.as_bytes(), page.as_bytes()].concat().as_slice()).is_err() || has_body {
            return;
        }
    }
}

/// Reads one request's head; tells whether a body follows. `None` at the end.
fn read_head(reader: &mut impl BufRead) -> Option<bool> {
    let mut has_body = false;
    let mut lines = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            return (lines > 0).then_some(has_body);
        }
        has_body |= line.starts_with("transfer-encoding:")
            || (line.starts_with("content-length:") && !line.ends_with(" 0"));
        lines += 1;
    }
}

fn page() -> String {
    let variable = |name: &str| std::env::var(name).unwrap_or_default().replace(['<', '>', '&'], "");
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Hello from {service}</title>\
         <style>body{{font:18px system-ui;margin:12vh auto;max-width:34rem;color:#234}}code{{background:#eef2f5;padding:.1em .3em}}</style>\
         <h1>It is running.</h1><p>Service <code>{service}</code>, revision <code>{revision}</code>.</p></html>\n",
        service = variable("K_SERVICE"),
        revision = variable("K_REVISION"),
    )
}
