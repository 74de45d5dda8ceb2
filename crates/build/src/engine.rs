//! A build from beginning to end: what came in is unpacked, looked at, worked on and published.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kernel::ports::{ImageConfig, ImageMaker, MachineBase, Staged};
use sandbox::{Level, Sandbox};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Duration, Instant, timeout_at},
};

use crate::{
    Event, Failure, Plan, Settings, detect, disk,
    files::{self, Cache, Files},
    output::{Listener, Teller},
    python::{self, Layers},
    settings::{HOME, Surroundings},
    source,
    step::{Steps, TIME, USER},
};

/// How many builds go on at once; others wait.
const AT_ONCE: usize = 2;

/// Builds images from source.
pub struct Builds {
    maker: Arc<dyn ImageMaker>,
    files: Files,
    disk: u64,
    turns: Semaphore,
}

/// Directories that steps have, and those that they are in. When a build fails or is given up, what is in them may be
/// other users', from whom nobody but the sandbox can take it, and what ran there has just been killed.
struct Lent {
    sandbox: Sandbox,
    directories: Mutex<BTreeMap<PathBuf, PathBuf>>,
}

impl Lent {
    fn all(&self) -> MutexGuard<'_, BTreeMap<PathBuf, PathBuf>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.all());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        for (directory, staged) in left {
            runtime.spawn(discard(self.sandbox.clone(), directory, staged));
        }
    }
}

/// Removes a directory in which there is one that was lent.
async fn discard(sandbox: Sandbox, lent: PathBuf, staged: PathBuf) {
    let attempt = || async {
        if lent.exists() {
            sandbox.reclaim_directory(&lent).await.map_err(std::io::Error::other)?;
        }
        let staged = staged.clone();
        tokio::task::spawn_blocking(move || std::fs::remove_dir_all(staged)).await?
    };
    files::in_time(&staged, attempt).await;
}

/// Whose image is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The project's id.
    pub project: String,
    /// The region.
    pub region: String,
    /// The service's name.
    pub name: String,
}

/// What a build made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// The image by its digest, which is what to deploy.
    pub image: String,
    /// The image by its tag, which the next build moves.
    pub tag: String,
    /// Its digest.
    pub digest: String,
    /// The language, with its version.
    pub language: String,
    /// The framework's name, where one was recognized.
    pub framework: Option<String>,
    /// What it runs, for people: the words of a line for the shell.
    pub start: Vec<String>,
    /// What changes the database to what the app wants.
    pub migrate: Option<Vec<String>>,
    /// Whether no dependency had to be installed.
    pub cached: bool,
    /// How long it took, in thousandths of a second.
    pub millis: u64,
}

/// What the parts of a build share.
pub(crate) struct Job<'a> {
    pub(crate) maker: Arc<dyn ImageMaker>,
    pub(crate) base: MachineBase,
    pub(crate) teller: Teller,
    files: &'a Files,
    project: &'a str,
    disk: u64,
    sandbox: &'a Sandbox,
    pub(crate) around: Surroundings,
    deadline: Instant,
    lent: Lent,
}

impl Builds {
    /// Opens a directory that is the builds' alone, on the disk where layers are.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(directory: &Path, maker: Arc<dyn ImageMaker>) -> std::io::Result<Builds> {
        Ok(Builds { maker, files: Files::open(directory)?, disk: disk::MOST, turns: Semaphore::new(AT_ONCE) })
    }

    /// Lets a step have at most this much on the disk, in bytes, instead of 16 GiB. What it writes within about half a
    /// second comes on top.
    pub fn with_disk(self, bytes: u64) -> Builds {
        Builds { disk: bytes, ..self }
    }

    /// Builds what [`source::pack`] wrote. Dropped, a build ends.
    ///
    /// # Errors
    /// What is wrong with the folder, which step failed and how, or that the machine allows no builds.
    pub async fn build(
        &self,
        sandbox: &Sandbox,
        order: &Order,
        mut packed: impl Read + Send + 'static,
        listener: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Built, Failure> {
        let started = Instant::now();
        allowed(sandbox)?;
        let _turn = self.turn(&listener).await?;
        let deadline = Instant::now() + TIME;
        let maker = self.maker.clone();
        // A client that sends nothing more would keep its turn.
        let receiving = blocking(move || receive(&*maker, &mut packed));
        let received = timeout_at(deadline, receiving)
            .await
            .map_err(|_| Failure::new("the folder did not arrive within ten minutes"))??;
        let Received { settings, around, folder, digest, base } = received;
        let teller = Teller::new(Arc::new(listener) as Listener, around.secrets.clone());
        let lent = Lent { sandbox: sandbox.clone(), directories: Mutex::default() };
        let (maker, files, project) = (self.maker.clone(), &self.files, &order.project);
        let job =
            Job { maker, base, teller, files, project, disk: self.disk, sandbox, around, deadline, lent };
        let plan = look(&job, &folder, settings).await?;
        let made = python::build(&job, &plan, folder, &digest).await?;
        let elapsed = || started.elapsed();
        job.publish(order, &plan, made, elapsed).await
    }

    /// Waits until no more builds go on than may, and says so if that is not at once.
    async fn turn(&self, listener: &impl Fn(Event)) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        listener(Event::Line { step: "build".into(), text: "other builds go first".into() });
        self.turns.acquire().await.map_err(|_| Failure::new("haar is stopping"))
    }
}

/// Tells why there can be no build here.
fn allowed(sandbox: &Sandbox) -> Result<(), Failure> {
    if sandbox.host().level != Level::Process {
        return Ok(());
    }
    Err(Failure::new(format!(
        "builds from source need namespaces, which this machine does not allow. {}",
        sandbox.host().sentence
    ))
    .next("run haar as root or where user namespaces are allowed, or bring an image in with: haar images import"))
}

/// What came in, and what it will stand on.
struct Received {
    settings: Settings,
    around: Surroundings,
    folder: Staged,
    digest: String,
    base: MachineBase,
}

fn receive(maker: &dyn ImageMaker, packed: &mut dyn Read) -> Result<Received, Failure> {
    let mut packed = packed;
    let settings = source::take_settings(&mut packed)?;
    let folder = maker.stage()?;
    let digest = maker
        .unpack(packed, &folder, source::LIMITS)
        .map_err(|error| Failure::new(format!("the folder cannot be taken in: {}", error.message())))?;
    let around = Surroundings::of(&settings);
    Ok(Received { settings, around, folder, digest, base: maker.machine()? })
}

/// Finds out what the folder is, and says so.
async fn look(job: &Job<'_>, folder: &Staged, settings: Settings) -> Result<Plan, Failure> {
    let workspace = source::workspace(&folder.path);
    let plan = blocking(move || detect(&workspace, &settings)).await?;
    let what = plan.framework.map_or("Python", |framework| framework.name());
    job.teller.line("detect", &format!("{what} app, started with: {}", for_people(&plan.start)));
    plan.remarks.iter().for_each(|remark| job.teller.remark(remark));
    Ok(plan)
}

impl Job<'_> {
    pub(crate) fn steps(&self) -> Steps<'_> {
        Steps {
            sandbox: self.sandbox,
            base: &self.base,
            around: &self.around,
            teller: &self.teller,
            files: self.files,
            disk: self.disk,
            deadline: self.deadline,
        }
    }

    /// Makes a directory one that steps can write to, and keep.
    pub(crate) async fn give(&self, directory: &Path) -> Result<(), Failure> {
        let given = self.sandbox.writable_directory(directory, USER).await;
        given.map_err(|error| Failure::new(format!("a directory cannot be given to a step: {error}")))
    }

    /// Makes a directory of a staged one such a directory. If it is not taken back, all that is staged is removed.
    pub(crate) async fn lend(&self, staged: &Staged, directory: &Path) -> Result<(), Failure> {
        self.lent.all().insert(directory.to_owned(), staged.path.clone());
        self.give(directory).await
    }

    /// Makes it ours again.
    pub(crate) async fn reclaim(&self, directory: &Path) -> Result<(), Failure> {
        let reclaimed = self.sandbox.reclaim_directory(directory).await;
        reclaimed.map_err(|error| {
            Failure::new(format!("a directory cannot be taken back from a step: {error}"))
        })?;
        self.lent.all().remove(directory);
        Ok(())
    }

    /// What pip has fetched for this project, given to a step. `None` while another build has it, and where it cannot be
    /// had: pip does without.
    pub(crate) async fn pip_cache(&self) -> Option<Cache<'_>> {
        let cache = self.files.pip_cache(self.project)?;
        let path = cache.path().to_owned();
        let made = async {
            // A build that was killed left it to its step.
            if path.exists() {
                self.reclaim(&path).await?;
            }
            let ours = path.clone();
            let trimmed = blocking(move || Ok(files::trim_cache(&ours)));
            trimmed.await?.map_err(|error| Failure::new(error.to_string()))?;
            self.give(&path).await
        };
        match made.await {
            Ok(()) => Some(cache),
            Err(failure) => {
                tracing::warn!("pip keeps nothing of what it fetches: {}", failure.error);
                None
            }
        }
    }

    /// Takes such a cache back. One that stays with the step is the next build's to take back, and no reason for this one
    /// to fail, nor to say anything else than what pip said.
    pub(crate) async fn take_back(&self, cache: Cache<'_>) {
        if let Err(failure) = self.reclaim(cache.path()).await {
            tracing::warn!("what pip has fetched: {}", failure.error);
        }
    }

    async fn publish(
        &self,
        order: &Order,
        plan: &Plan,
        made: Layers,
        elapsed: impl Fn() -> Duration,
    ) -> Result<Built, Failure> {
        let Order { project, region, name } = order;
        let repository = format!("{region}-docker.pkg.dev/{project}/cloud-run-source-deploy/{name}");
        let tag = format!("{repository}:latest");
        let mut layers = vec![self.base.layer.digest.clone()];
        layers.extend(made.layers.into_iter().map(|layer| layer.digest));
        let (maker, config, to) = (self.maker.clone(), config(plan, &self.base), tag.clone());
        let digest = blocking(move || Ok(maker.publish(&to, &layers, &config)?)).await?;
        Ok(Built {
            image: format!("{repository}@{digest}"),
            tag,
            digest,
            language: format!("Python {}", self.base.python.as_deref().unwrap_or("3")),
            framework: plan.framework.map(|framework| framework.name().to_owned()),
            start: for_people(&plan.start).split_whitespace().map(str::to_owned).collect(),
            migrate: plan.migrate.clone(),
            cached: made.cached,
            millis: u64::try_from(elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// How the image is run. People's own lines go to the shell that Google's launcher gives them to, where there is one.
fn config(plan: &Plan, base: &MachineBase) -> ImageConfig {
    let is_ours = plan.start.starts_with("exec ");
    let usr = base.mounts.iter().find(|mount| mount.target == "/usr");
    let has_bash = usr.is_some_and(|usr| usr.source.join("bin/bash").exists());
    let shell = if has_bash && !is_ours { "/bin/bash" } else { "/bin/sh" };
    let mut env = vec![
        format!("PATH={}/bin:{}", python::VENV, sandbox::spec::DEFAULT_PATH),
        format!("VIRTUAL_ENV={}", python::VENV),
        format!("HOME={HOME}"),
        "LANG=C.UTF-8".to_owned(),
        "PYTHONUNBUFFERED=1".to_owned(),
    ];
    env.extend(plan.env.iter().map(|(name, value)| format!("{name}={value}")));
    ImageConfig {
        entrypoint: [shell, "-c", &plan.start].map(str::to_owned).to_vec(),
        command: vec![],
        env,
        working_dir: "/workspace".into(),
        user: format!("{USER}:{USER}"),
    }
}

fn for_people(start: &str) -> &str {
    start.strip_prefix("exec ").unwrap_or(start)
}

/// Runs what blocks where that is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::new(format!("the build broke off: {error}"))))
}

/// A hash as text.
pub(crate) fn hex(sha: Sha256) -> String {
    use std::fmt::Write as _;
    sha.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
