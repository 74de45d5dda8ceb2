//! Python apps: what starts them, and what they need.
//!
//! Where Google's Python buildpack has a rule it is followed: a `Procfile` decides; else `main.py`, or `app.py`, holds an
//! `app` that is served by gunicorn if that is among the requirements, by uvicorn if that is (or `fastapi[standard]`), as
//! Gradio's or Streamlit's if that is, and by gunicorn, which is added, if nothing is; a `start` script of
//! `pyproject.toml` comes before those; `requirements.txt` comes before `pyproject.toml`. Source: the buildpacks'
//! `cmd/python/missing_entrypoint` and `webserver` for Python 3.13 and later. Beyond it: Django's `manage.py` needs no
//! `Procfile`, and a `main.py` without an `app` is run as it is; a remark says so, for on Cloud Run it needs one.

mod django;
mod requirements;
mod steps;

use regex::Regex;

use self::requirements::Requirements;
pub(crate) use self::steps::{Layers, build};
use crate::{Failure, Framework, Install, Plan, Settings, tree::Tree};

/// Where the virtual environment is, while it is filled and when the app runs.
pub(crate) const VENV: &str = "/layers/python/venv";
/// Google's default server.
const GUNICORN: &str = "gunicorn";

/// Whether a folder is a Python app.
pub(crate) fn is(tree: &Tree) -> bool {
    let names = tree.names("");
    let declares = ["requirements.txt", "pyproject.toml", "Pipfile", "setup.py"];
    names.iter().any(|name| declares.contains(&name.as_str()) || name.ends_with(".py"))
}

/// What is to be done with a Python app.
pub(crate) fn plan(tree: &Tree, settings: &Settings) -> Result<Plan, Failure> {
    let project = project(tree)?;
    let (install, requirements) = installs(tree, project.as_ref())?;
    let framework = framework(tree, &requirements);
    let mut plan = Plan { install, framework, wanted: wanted_version(tree), ..Plan::default() };
    if plan.framework == Some(Framework::Django) && tree.is_file("manage.py") {
        django::prepare(tree, settings, &mut plan);
    }
    match settings.start.clone().or_else(|| procfile(tree)) {
        Some(start) => plan.start = start,
        None => find_start(tree, &requirements, project.as_ref(), &mut plan)?,
    }
    Ok(plan)
}

/// The minor version in `.python-version`, which Cloud Run's buildpacks follow.
fn wanted_version(tree: &Tree) -> Option<String> {
    let text = tree.read(".python-version")?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let mut parts = line.split('.');
    let minor = format!("{}.{}", parts.next()?, parts.next()?);
    minor.bytes().all(|b| b.is_ascii_digit() || b == b'.').then_some(minor)
}

fn project(tree: &Tree) -> Result<Option<toml::Table>, Failure> {
    let Some(text) = tree.read("pyproject.toml") else { return Ok(None) };
    text.parse().map(Some).map_err(|error: toml::de::Error| {
        Failure::new(format!("pyproject.toml is not valid TOML: {}", error.message())).next("mend it")
    })
}

/// What is installed, and what that asks for by name.
fn installs(tree: &Tree, project: Option<&toml::Table>) -> Result<(Install, Requirements), Failure> {
    if tree.is_file("requirements.txt") {
        let requirements = Requirements::read(tree, "requirements.txt")?;
        let install = Install::File { declared: requirements.declared.clone(), local: requirements.is_local };
        return Ok((install, requirements));
    }
    if let Some(project) = project {
        let listed = listed(project)?;
        let requirements = Requirements::listed(&listed);
        let install = if listed.is_empty() { Install::Nothing } else { Install::Listed(listed) };
        return Ok((install, requirements));
    }
    if tree.is_file("Pipfile") {
        return Err(Failure::new(
            "the dependencies are in a Pipfile, which neither Cloud Run's buildpacks nor haar read",
        )
        .next("write them to a requirements.txt with: pipenv requirements > requirements.txt"));
    }
    Ok((Install::Nothing, Requirements::default()))
}

/// `project.dependencies`.
fn listed(project: &toml::Table) -> Result<Vec<String>, Failure> {
    let table = project.get("project").and_then(toml::Value::as_table);
    let Some(table) = table else {
        let is_poetry = project.get("tool").and_then(|tool| tool.get("poetry")).is_some();
        return match is_poetry {
            true => Err(Failure::new(
                "pyproject.toml declares its dependencies for Poetry, which is not supported here",
            )
            .next("write them to a requirements.txt with: poetry export -o requirements.txt")),
            false => Ok(Vec::new()),
        };
    };
    let dynamic = table.get("dynamic").and_then(toml::Value::as_array);
    if dynamic.is_some_and(|dynamic| dynamic.iter().any(|name| name.as_str() == Some("dependencies"))) {
        return Err(Failure::new(
            "pyproject.toml leaves its dependencies to the build system (project.dynamic)",
        )
        .next("list them in project.dependencies, or in a requirements.txt"));
    }
    let Some(dependencies) = table.get("dependencies") else { return Ok(Vec::new()) };
    let all =
        dependencies.as_array().map(|all| all.iter().map(|one| one.as_str().map(str::to_owned)).collect());
    all.flatten().ok_or_else(|| {
        Failure::new("project.dependencies in pyproject.toml is not a list of strings").next("mend it")
    })
}

fn framework(tree: &Tree, requirements: &Requirements) -> Option<Framework> {
    let known = [
        ("django", Framework::Django),
        ("fastapi", Framework::FastApi),
        ("flask", Framework::Flask),
        ("gradio", Framework::Gradio),
        ("streamlit", Framework::Streamlit),
    ];
    let named = known.into_iter().find(|(name, _)| requirements.has(name)).map(|(_, framework)| framework);
    // A project whose Django comes with something else.
    named.or_else(|| tree.read("manage.py")?.contains("DJANGO_SETTINGS_MODULE").then_some(Framework::Django))
}

/// The command of `web:` in a Procfile.
fn procfile(tree: &Tree) -> Option<String> {
    let text = tree.read("Procfile")?;
    let commands = text.lines().filter_map(|line| line.split_once(':'));
    commands
        .filter(|(name, _)| name.trim() == "web")
        .map(|(_, command)| command.trim().to_owned())
        .find(|c| !c.is_empty())
}

/// The module that holds the app, with its file's text.
fn module(tree: &Tree) -> Option<(&'static str, String)> {
    ["main", "app"].into_iter().find_map(|name| Some((name, tree.read(&format!("{name}.py"))?)))
}

fn find_start(
    tree: &Tree,
    requirements: &Requirements,
    project: Option<&toml::Table>,
    plan: &mut Plan,
) -> Result<(), Failure> {
    if plan.framework == Some(Framework::Django) && tree.is_file("manage.py") {
        django::start(tree, requirements, plan);
        return Ok(());
    }
    if let Some(script) = project.and_then(start_script) {
        plan.start = script;
        return Ok(());
    }
    let Some((module, text)) = module(tree) else { return Err(no_start(tree)) };
    let has_app = has_app(&text);
    if has_app && requirements.has(GUNICORN) {
        gunicorn(module, plan);
    } else if has_app && (requirements.has("uvicorn") || requirements.has_extra("fastapi", "standard")) {
        plan.start = format!("exec uvicorn {module}:app --host 0.0.0.0 --port $PORT");
    } else if requirements.has("gradio") {
        plan.env.push(("GRADIO_SERVER_NAME".into(), "0.0.0.0".into()));
        plan.start = format!("GRADIO_SERVER_PORT=$PORT exec python3 {module}.py");
    } else if requirements.has("streamlit") {
        plan.start = format!("exec streamlit run {module}.py --server.address 0.0.0.0 --server.port $PORT");
    } else if has_app && plan.framework == Some(Framework::FastApi) && !is_program(&text) {
        return Err(no_server());
    } else if has_app && plan.framework != Some(Framework::FastApi) {
        plan.added.push(GUNICORN.into());
        plan.remarks.push("gunicorn, which serves the app, is not among its requirements and was added, as Cloud Run's buildpacks do.".into());
        gunicorn(module, plan);
    } else {
        run_file(module, plan);
    }
    Ok(())
}

fn gunicorn(module: &str, plan: &mut Plan) {
    if plan.framework == Some(Framework::FastApi) {
        plan.remarks.push(format!(
            "gunicorn is among the requirements, so Cloud Run's buildpacks start the app with it, but by itself it cannot \
             serve FastAPI: add a Procfile with \"web: uvicorn {module}:app --host 0.0.0.0 --port $PORT\"."
        ));
    }
    plan.start = format!("exec gunicorn --bind :$PORT {module}:app");
}

fn run_file(module: &str, plan: &mut Plan) {
    plan.remarks.push(format!(
        "{module}.py is run as a program. Cloud Run's buildpacks do so only when told: add a Procfile with \"web: python3 \
         {module}.py\"."
    ));
    plan.start = format!("exec python3 {module}.py");
}

/// Whether a module has an `app` at its top: assigned, defined or imported.
fn has_app(text: &str) -> bool {
    // Patterns without anything of the file's in them.
    let patterns = [
        r"(?m)^app[ \t]*(:[^=\n]+)?=[^=]",
        r"(?m)^(async[ \t]+)?(def|class)[ \t]+app[ \t(:]",
        r"(?m)^from[ \t]+[^ \t\n]+[ \t]+import[ \t]+([^#\n]*[ \t,(])?app[ \t]*([,)#\r]|$)",
        r"(?m)^import[ \t]+([^#\n]*[ \t]as[ \t]+)?app[ \t]*([,#\r]|$)",
    ];
    patterns.iter().any(|pattern| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text)))
}

/// Whether a module does something when it is run.
fn is_program(text: &str) -> bool {
    text.contains("__main__")
}

/// `start = "module:function"` among `project.scripts`.
fn start_script(project: &toml::Table) -> Option<String> {
    let script = project.get("project")?.get("scripts")?.get("start")?.as_str()?;
    let (module, function) = script.split_once(':')?;
    let is_name = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
    };
    let (module, function) = (module.trim(), function.trim());
    (is_name(module) && is_name(function))
        .then(|| format!("exec python3 -c 'import sys, {module}; sys.exit({module}.{function}())'"))
}

fn no_server() -> Failure {
    Failure::new("the app is a FastAPI app, and nothing that could serve it is among its requirements")
        .next("add uvicorn to its requirements (or fastapi[standard])")
}

fn no_start(tree: &Tree) -> Failure {
    let files = tree.names("").into_iter().filter(|name| name.ends_with(".py")).take(5).collect::<Vec<_>>();
    let found = if files.is_empty() { String::new() } else { format!(" (found: {})", files.join(", ")) };
    Failure::new(format!(
        "nothing says how the app is started: there is no Procfile with a web: line, no manage.py of Django, no main.py \
         and no app.py{found}"
    ))
    .next("name the app's file main.py, or add a Procfile such as: web: gunicorn --bind :$PORT module:app")
}
