//! The steps of a Python build, and the layers that they leave.
//!
//! Dependencies live in a virtual environment at [`VENV`], the same place while it is filled and when the app runs, over
//! the machine's `/usr/bin/python3`; never over a Python that somebody's `PATH` knows. Pip runs from the wheel that
//! belongs to the machine's Python and stays outside. Everything is compiled with hashes that are never checked: starting
//! compiles nothing and looks at no times, which layers do not have.

use std::path::{Path, PathBuf};

use kernel::ports::{ImageMaker, MadeLayer, Staged};
use sandbox::spec::{Access, Network};
use sha2::{Digest, Sha256};

use super::VENV;
use crate::{
    Failure, Install, Plan,
    engine::{Job, blocking},
    source,
    step::{Step, USER},
};

/// Raised when layers are made in another way, so that old ones are not taken for new ones.
const VERSION: u32 = 2;
/// Where the environment's layer begins.
const LAYER: &str = "/layers/python";
/// The folder, inside.
const WORKSPACE: &str = "/workspace";
/// What pip has fetched, inside.
const CACHE: &str = "/var/cache/pip";
/// Where Linux distributions keep the wheels of pip and setuptools that belong to a Python.
const WHEELS: [&str; 3] = ["/usr/share/python-wheels", "/usr/lib/python", "/usr/lib64/python"];
/// Makes an environment, and puts setuptools into it, of which older packages expect that it is there.
const MAKE: &str = "import sys, venv, zipfile
root, *wheels = sys.argv[1:]
venv.EnvBuilder(symlinks=True).create(root)
site = '%s/lib/python%d.%d/site-packages' % (root, *sys.version_info[:2])
for wheel in wheels:
    zipfile.ZipFile(wheel).extractall(site)
";
/// The first minor version of Python 3 whose environments come without setuptools.
const WITHOUT_SETUPTOOLS: u32 = 12;

/// What a build left.
pub(crate) struct Layers {
    /// Over the base, the lowest first.
    pub(crate) layers: Vec<MadeLayer>,
    /// Whether no dependency had to be installed.
    pub(crate) cached: bool,
}

/// Builds an app whose folder was unpacked.
pub(crate) async fn build(
    job: &Job<'_>,
    plan: &Plan,
    folder: Staged,
    digest: &str,
) -> Result<Layers, Failure> {
    let python = Python::of(job)?;
    if let Some(wanted) = plan.wanted.as_ref().filter(|wanted| **wanted != python.version) {
        job.teller.remark(&format!(
            "The app asks for Python {wanted} (.python-version); it is built with this machine's {}.",
            python.version
        ));
    }
    let key = dependencies_key(job, plan, &python, digest);
    let (dependencies, cached) = match job.maker.made(&key) {
        Some(layer) => {
            job.teller.line("dependencies", "as they were installed before");
            (layer, true)
        }
        None => (python.install(job, plan, &folder, &key).await?, false),
    };
    let app = app(job, plan, folder, digest, &dependencies).await?;
    Ok(Layers { layers: vec![dependencies, app], cached })
}

/// The machine's Python.
struct Python {
    version: String,
    pip: PathBuf,
    setuptools: Option<PathBuf>,
}

impl Python {
    fn of(job: &Job<'_>) -> Result<Python, Failure> {
        let version = job.base.python.clone().ok_or_else(|| {
            Failure::new("this machine has no /usr/bin/python3")
                .next("install it, with: apt install python3 python3-venv")
        })?;
        let pip = wheel(&version, "pip-").ok_or_else(|| {
            Failure::new(format!(
                "/usr/bin/python3 ({version}) cannot make virtual environments: the wheel of pip that belongs to it is \
                 not installed"
            ))
            .next(format!("install it, with: apt install python3-venv (or python{version}-venv)"))
        })?;
        let minor = version.strip_prefix("3.").and_then(|minor| minor.parse().ok()).unwrap_or(u32::MAX);
        let setuptools = (minor < WITHOUT_SETUPTOOLS).then(|| wheel(&version, "setuptools-")).flatten();
        Ok(Python { version, pip, setuptools })
    }

    async fn install(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        folder: &Staged,
        key: &str,
    ) -> Result<MadeLayer, Failure> {
        let maker = job.maker.clone();
        let staged = blocking(move || stage_below(&*maker, LAYER)).await?;
        let layer = staged.path.join(LAYER.trim_start_matches('/'));
        job.lend(&staged, &layer).await?;
        self.make_environment(job, &layer).await?;
        if let Some(wanted) = wanted(plan) {
            self.pip(job, plan, folder, &layer, wanted).await?;
        }
        compile(job, "compile", VENV, vec![], (&layer, LAYER)).await?;
        job.reclaim(&layer).await?;
        let (maker, key) = (job.maker.clone(), key.to_owned());
        blocking(move || Ok(maker.keep(staged, &key, 0)?)).await
    }

    async fn make_environment(&self, job: &Job<'_>, layer: &Path) -> Result<(), Failure> {
        let mut argv = words(&["/usr/bin/python3", "-I", "-c", MAKE, VENV]);
        argv.extend(self.setuptools.iter().map(|wheel| wheel.display().to_string()));
        job.teller.line("python", &format!("Python {} of this machine", self.version));
        let step = Step {
            name: "python",
            argv,
            layers: vec![],
            directories: vec![(layer, LAYER, Access::ReadWrite)],
            network: Network::Isolated,
            env: vec![],
        };
        job.steps().run(step).await
    }

    async fn pip(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        folder: &Staged,
        layer: &Path,
        wanted: Vec<String>,
    ) -> Result<(), Failure> {
        let (cache, workspace) = (job.pip_cache().await, source::workspace(&folder.path));
        // To install the folder itself, pip builds in it.
        let access = if is_local(plan) { Access::ReadWrite } else { Access::ReadOnly };
        job.lend(folder, &workspace).await?;
        let mut argv = words(&["/layers/python/venv/bin/python3"]);
        argv.push(format!("{}/pip", self.pip.display()));
        argv.extend(words(&["install", "--no-compile", "--no-warn-script-location"]));
        argv.extend(wanted);
        let env = [
            ("CACHE_DIR", CACHE),
            ("NO_INPUT", "1"),
            ("PROGRESS_BAR", "off"),
            ("DISABLE_PIP_VERSION_CHECK", "1"),
            ("ROOT_USER_ACTION", "ignore"),
        ];
        let env = env.into_iter().chain(cache.is_none().then_some(("NO_CACHE_DIR", "1")));
        let names: Vec<_> = env.map(|(name, value)| (format!("PIP_{name}"), value.to_owned())).collect();
        let mut directories =
            vec![(layer, LAYER, Access::ReadWrite), (workspace.as_path(), WORKSPACE, access)];
        directories.extend(cache.as_ref().map(|cache| (cache.path(), CACHE, Access::ReadWrite)));
        let step = Step {
            name: "pip install",
            argv,
            layers: vec![],
            directories,
            network: Network::Host,
            env: names.iter().map(|(name, value)| (name.as_str(), value.clone())).collect(),
        };
        let installed = job.steps().run(step).await.map_err(explain);
        if let Some(cache) = cache {
            job.take_back(cache).await;
        }
        installed
    }
}

/// A wheel of this machine that belongs to a version of Python.
fn wheel(version: &str, prefix: &str) -> Option<PathBuf> {
    WHEELS.iter().find_map(|place| {
        let directory = match place.ends_with("python") {
            true => format!("{place}{version}/ensurepip/_bundled"),
            false => (*place).to_owned(),
        };
        let entries = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
        let is_it = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with(prefix) && name.ends_with(".whl")
        };
        entries.filter(is_it).max()
    })
}

/// What pip is told to install, as arguments; `None` for nothing.
fn wanted(plan: &Plan) -> Option<Vec<String>> {
    let mut wanted = match &plan.install {
        Install::Nothing => vec![],
        Install::File { .. } => words(&["-r", "requirements.txt"]),
        Install::Listed(all) => all.clone(),
    };
    wanted.extend(plan.added.iter().cloned());
    (!wanted.is_empty()).then_some(wanted)
}

fn is_local(plan: &Plan) -> bool {
    matches!(plan.install, Install::File { local: true, .. })
}

/// What stands for a layer of dependencies: all that decides what is in it, where it is fetched from included.
fn dependencies_key(job: &Job<'_>, plan: &Plan, python: &Python, folder: &str) -> String {
    let declared = match &plan.install {
        Install::Nothing => String::new(),
        Install::File { declared, .. } => declared.clone(),
        Install::Listed(all) => all.join("\n"),
    };
    let folder = if is_local(plan) { folder } else { "" };
    let sources = job.around.sources.join("\n");
    let parts =
        [&job.base.layer.digest, &python.version, &declared, &plan.added.join("\n"), folder, &sources];
    key("python dependencies", &parts)
}

/// The folder as a layer, compiled.
async fn app(
    job: &Job<'_>,
    plan: &Plan,
    folder: Staged,
    digest: &str,
    dependencies: &MadeLayer,
) -> Result<MadeLayer, Failure> {
    let collects = if plan.collect_static { "collectstatic" } else { "" };
    let key = key("python app", &[&job.base.layer.digest, &dependencies.digest, digest, collects]);
    if let Some(layer) = job.maker.made(&key) {
        job.teller.line("app", "as it was built before");
        return Ok(layer);
    }
    let workspace = source::workspace(&folder.path);
    job.lend(&folder, &workspace).await?;
    if plan.collect_static {
        collect_static(job, dependencies, &workspace).await?;
    }
    let said =
        compile(job, "compile", WORKSPACE, vec![dependencies.directory.clone()], (&workspace, WORKSPACE))
            .await?;
    if let Some(mistake) = mistake(&said) {
        job.teller.remark(&mistake);
    }
    job.reclaim(&workspace).await?;
    let maker = job.maker.clone();
    blocking(move || Ok(maker.keep(folder, &key, USER)?)).await
}

async fn collect_static(job: &Job<'_>, dependencies: &MadeLayer, workspace: &Path) -> Result<(), Failure> {
    let step = Step {
        name: "collectstatic",
        argv: words(&["/layers/python/venv/bin/python3", "manage.py", "collectstatic", "--noinput"]),
        layers: vec![dependencies.directory.clone()],
        directories: vec![(workspace, WORKSPACE, Access::ReadWrite)],
        network: Network::Isolated,
        env: vec![],
    };
    job.steps().run(step).await.map_err(|failure| {
        failure.next(
            "the settings have to load without the app's secrets and database, which a build does not have; or set \
             DISABLE_COLLECTSTATIC=1 and collect the files elsewhere",
        )
    })
}

/// The last mistake that Python told of while it compiled, as a sentence.
fn mistake(said: &[String]) -> Option<String> {
    let at = said.iter().rposition(|line| line.trim_start().starts_with("File \""))?;
    let place = said[at].trim_start().trim_start_matches("File ").replace(&format!("{WORKSPACE}/"), "");
    let what = said[at..].iter().find(|line| line.contains("Error: "))?.trim();
    Some(format!("{place}: {what}. The app fails once it imports this."))
}

/// Compiles what can be compiled; gives what was said of the rest, which may be nothing that is ever imported.
async fn compile(
    job: &Job<'_>,
    name: &str,
    what: &str,
    layers: Vec<PathBuf>,
    (source, target): (&Path, &str),
) -> Result<Vec<String>, Failure> {
    let argv = ["/layers/python/venv/bin/python3", "-I", "-m", "compileall", "-q", "-f", "-j", "0"];
    let mut argv = words(&argv);
    argv.extend(words(&["--invalidation-mode", "unchecked-hash", what]));
    let directories = vec![(source, target, Access::ReadWrite)];
    let step = Step { name, argv, layers, directories, network: Network::Isolated, env: vec![] };
    job.steps().try_run(step).await
}

/// Says what pip could not do, where it said so.
fn explain(failure: Failure) -> Failure {
    let said =
        |prefix: &str| failure.log.iter().rev().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
    if let Some(what) = said("ERROR: No matching distribution found for ") {
        let what = what.split(" (").next().unwrap_or_default().to_owned();
        let error = format!("pip found no '{what}' that can be installed here");
        let next = "see whether its name and version are right, and whether pip reaches an index or directory that has it";
        return Failure { error, ..failure }.next(next);
    }
    match said("ERROR: ") {
        Some(why) => Failure { error: format!("pip could not install the dependencies: {why}"), ..failure },
        None => failure,
    }
}

fn stage_below(maker: &dyn ImageMaker, path: &str) -> Result<Staged, Failure> {
    let staged = maker.stage()?;
    let directory = staged.path.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(directory)
        .map_err(|error| Failure::new(format!("a layer cannot be made: {error}")))?;
    Ok(staged)
}

/// A name for all of these together.
fn key(what: &str, parts: &[&str]) -> String {
    let mut sha = Sha256::new();
    for part in parts.iter().copied().chain([std::env::consts::ARCH]) {
        sha.update(part.len().to_le_bytes());
        sha.update(part);
    }
    format!("{what} v{VERSION} {}", crate::engine::hex(sha))
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}
