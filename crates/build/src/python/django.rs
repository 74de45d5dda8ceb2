//! Django: where its settings are, what serves it, and what it wants before it serves.

use regex::Regex;

use super::requirements::Requirements;
use crate::{Plan, Settings, tree::Tree};

/// The most settings files that are looked at.
const MAX_FILES: usize = 50;

/// What comes of an app being Django's, however it is started.
pub(super) fn prepare(tree: &Tree, settings: &Settings, plan: &mut Plan) {
    plan.migrate = Some(["python3", "manage.py", "migrate", "--noinput"].map(str::to_owned).to_vec());
    let sets_root =
        find(&settings_text(tree), r"(?m)^[ \t]*STATIC_ROOT[ \t]*(?::[^=\n]+)?=[ \t]*([^ \t\r\n]+)");
    let sets_root = sets_root.is_some_and(|value| !matches!(value.as_str(), "None" | "\"\"" | "''"));
    plan.collect_static = sets_root && !settings.is_set("DISABLE_COLLECTSTATIC");
}

/// The start command where nothing names one.
pub(super) fn start(tree: &Tree, requirements: &Requirements, plan: &mut Plan) {
    match wsgi(tree).filter(|_| requirements.has("gunicorn")) {
        Some(module) => plan.start = format!("exec gunicorn --bind :$PORT {module}"),
        None => {
            let remark = "The app is started with Django's own development server, which is slow and meant for nobody \
                          else: add gunicorn to its requirements.";
            plan.remarks.push(remark.into());
            plan.start = "exec python3 manage.py runserver --noreload 0.0.0.0:$PORT".into();
        }
    }
}

/// The module that `manage.py` says the settings are in.
fn settings_module(tree: &Tree) -> Option<String> {
    find(
        &tree.read("manage.py")?,
        r#"DJANGO_SETTINGS_MODULE["'][ \t\n]*[,\]][ \t\n]*=?[ \t\n]*["']([A-Za-z0-9_.]+)["']"#,
    )
}

/// Everything that the settings may consist of: a file, or all files of a package.
fn settings_text(tree: &Tree) -> String {
    let Some(module) = settings_module(tree) else { return String::new() };
    let path = module.replace('.', "/");
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let package = match (tree.is_directory(&path), parent.ends_with("settings")) {
        (true, _) => Some(path.as_str()),
        (false, true) => Some(parent),
        (false, false) => None,
    };
    let Some(package) = package else { return tree.read(&format!("{path}.py")).unwrap_or_default() };
    let files = tree.names(package).into_iter().filter(|name| name.ends_with(".py")).take(MAX_FILES);
    files.filter_map(|name| tree.read(&format!("{package}/{name}"))).collect::<Vec<_>>().join("\n")
}

/// What gunicorn is to serve: what the settings say, else the module next to them.
fn wsgi(tree: &Tree) -> Option<String> {
    let said =
        find(&settings_text(tree), r#"(?m)^[ \t]*WSGI_APPLICATION[ \t]*=[ \t]*["']([A-Za-z0-9_.]+)["']"#);
    if let Some((module, name)) = said.as_deref().and_then(|said| said.rsplit_once('.')) {
        return Some(if name == "application" { module.to_owned() } else { format!("{module}:{name}") });
    }
    let module = settings_module(tree)?;
    let project = module.split('.').next().unwrap_or_default();
    let beside = tree.is_file(&format!("{project}/wsgi.py")).then(|| format!("{project}.wsgi"));
    beside.or_else(|| {
        let has_wsgi = |name: &String| tree.is_file(&format!("{name}/wsgi.py"));
        tree.names("").into_iter().find(has_wsgi).map(|name| format!("{name}.wsgi"))
    })
}

/// The first group of the first match.
fn find(text: &str, pattern: &str) -> Option<String> {
    Some(Regex::new(pattern).ok()?.captures(text)?.get(1)?.as_str().to_owned())
}
