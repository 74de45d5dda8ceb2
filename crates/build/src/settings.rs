//! What of this machine's own settings a build sees.
//!
//! People sit behind proxies, mirrors and certificate authorities of their own, and have told pip and npm so. A build
//! that did not know would fail where `pip install` works. What is taken: the variables that name those ([`Settings`],
//! from the person's shell, which need not be the one haar was started in), pip's configuration files, and the files
//! and directories that either of them names. Nothing else of a shell or a home goes in.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::output::without_users;

/// The largest file of settings, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Prefixes of the variables that matter, in capitals.
const PREFIXES: [&str; 2] = ["PIP_", "NPM_CONFIG_"];
/// Ends of those.
const ENDS: [&str; 1] = ["_PROXY"];
/// Those that matter by their whole name.
const NAMES: [&str; 8] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "DISABLE_COLLECTSTATIC",
    "HOME",
    "XDG_CONFIG_HOME",
    "GIT_SSL_CAINFO",
];
/// Where pip would put things, or look for things of the machine's: that is ours to say.
const OURS: [&str; 12] = [
    "PIP_CACHE_DIR",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_PYTHON",
    "PIP_LOG",
    "PIP_LOG_FILE",
    "PIP_REQUIREMENT",
    "PIP_DRY_RUN",
    "PIP_NO_CACHE_DIR",
    "PIP_QUIET",
];
/// Those that name the person's own directories: used here, not seen inside.
const HOMES: [&str; 2] = ["HOME", "XDG_CONFIG_HOME"];
/// Options of pip that may name files and directories of this machine.
const PATHS: [&str; 7] =
    ["find-links", "cert", "client-cert", "constraint", "index-url", "extra-index-url", "global.cert"];
/// Options of pip that decide what it finds and takes.
const SOURCES: [&str; 9] = [
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "constraint",
    "pre",
    "only-binary",
    "no-binary",
    "prefer-binary",
];
/// Where the machine has its own certificates; seen inside as they are now, whatever the base has.
const BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
/// What a mount must not cover.
const KEPT: [&str; 9] = ["/usr", "/bin", "/lib", "/lib64", "/sbin", "/proc", "/sys", "/dev", "/layers"];
/// What nothing can be put into: it is empty inside, and for reading only. What a variable names there is seen elsewhere.
const LOCAL: &str = "/usr/local";
/// The home inside.
pub(crate) const HOME: &str = "/home/app";

/// What a person asks of a build besides the folder.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Variables of the person's shell. They may hold secrets.
    pub variables: BTreeMap<String, String>,
    /// The start command, as a line for the shell, instead of what would be found out.
    pub start: Option<String>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.variables.keys().collect();
        f.debug_struct("Settings").field("variables", &names).field("start", &self.start).finish()
    }
}

impl Settings {
    /// Takes from a shell's variables those that matter.
    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Settings {
        let chosen = variables.into_iter().filter(|(name, _)| matters(name));
        Settings { variables: chosen.collect(), start: None }
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.variables.get(name).is_some_and(|value| !value.is_empty() && value != "0")
    }
}

fn matters(name: &str) -> bool {
    let capitals = name.to_ascii_uppercase();
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| capitals.starts_with(prefix))
        || ENDS.iter().any(|end| capitals.ends_with(end))
}

/// What a step sees of the machine's settings.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// Variables.
    pub(crate) env: Vec<(String, String)>,
    /// Files, by their path inside.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// Files and directories of the machine that are seen, nearly all where they are.
    pub(crate) mounts: BTreeMap<PathBuf, String>,
    /// What decides what pip finds, a setting each, in order and without the names and passwords in addresses: those may
    /// be other ones each time.
    pub(crate) sources: Vec<String>,
    /// What must not be told.
    pub(crate) secrets: Vec<String>,
}

impl Surroundings {
    /// Finds out what settings mean on this machine. Blocks.
    pub(crate) fn of(settings: &Settings) -> Surroundings {
        let mut around = Surroundings::default();
        for (name, value) in settings.variables.iter().filter(|(name, _)| is_seen(name)) {
            around.note(name, value, settings);
            around.env.push((name.clone(), seen_value(name, value)));
        }
        around.take_pip_files(settings);
        around.sources.sort();
        for path in ["/etc/resolv.conf", "/etc/hosts"] {
            around.take(Path::new(path), path);
        }
        for bundle in BUNDLES {
            around.mount(Path::new(bundle), bundle.to_owned());
        }
        around
    }

    fn take_pip_files(&mut self, settings: &Settings) {
        let variable =
            |name: &str| settings.variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = variable("HOME");
        let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let inside = |path: &str| format!("{HOME}/{path}");
        let places = [
            (Some(PathBuf::from("/etc/pip.conf")), "/etc/pip.conf".to_owned()),
            (home.map(|home| home.join(".pip/pip.conf")), inside(".pip/pip.conf")),
            (config.map(|config| config.join("pip/pip.conf")), inside(".config/pip/pip.conf")),
            // Its own path is in the variable.
            (
                variable("PIP_CONFIG_FILE"),
                variable("PIP_CONFIG_FILE").unwrap_or_default().display().to_string(),
            ),
        ];
        for (from, to) in places.into_iter().filter_map(|(from, to)| Some((from?, to))) {
            if let Some(text) = self.take(&from, &to) {
                options(&text).for_each(|(name, value)| self.note(&name, &value, settings));
            }
        }
    }

    /// Puts a file of the machine's inside; gives its text.
    fn take(&mut self, from: &Path, to: &str) -> Option<String> {
        let bytes = content(from)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if is_free(Path::new(to)) {
            self.files.push((to.to_owned(), bytes));
        }
        Some(text)
    }

    /// Looks at the value of a setting for secrets, and for what it names of this machine.
    fn note(&mut self, name: &str, value: &str, settings: &Settings) {
        if SOURCES.contains(&option(name).as_str()) {
            let words: Vec<String> = value.split_whitespace().map(without_users).collect();
            self.sources.push(format!("{}={}", option(name), words.join(" ")));
        }
        if option(name) == "constraint" {
            self.sources.extend(
                value
                    .split_whitespace()
                    .filter_map(|path| content(Path::new(path)))
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            );
        }
        for word in value.split_whitespace() {
            if let Some((_, rest)) = word.split_once("://")
                && let Some((user, _)) = rest.split('/').next().unwrap_or_default().rsplit_once('@')
            {
                let password = user.split_once(':').map_or(user, |(_, password)| password);
                self.secrets.extend([user, password].map(str::to_owned));
            }
            if names_paths(name) {
                let path = word.strip_prefix("file://").unwrap_or(word);
                match (path.strip_prefix("~/"), settings.variables.get("HOME")) {
                    (Some(path), Some(home)) => {
                        self.mount(&Path::new(home).join(path), format!("{HOME}/{path}"));
                    }
                    _ => self.mount(Path::new(path), seen_word(path)),
                }
            }
        }
    }

    fn mount(&mut self, path: &Path, target: String) {
        if is_free(Path::new(&target)) && path.is_absolute() && path.exists() {
            self.mounts.insert(path.to_owned(), target);
        }
    }
}

/// What a file of settings holds, as far as it is of a sane size.
fn content(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|found| found.is_file()))?;
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Whether something of the machine's can be put at a path.
fn is_free(path: &Path) -> bool {
    path.is_absolute()
        && path.components().count() > 1
        && !path.components().any(|part| part == std::path::Component::ParentDir)
        && !KEPT.iter().any(|kept| path.starts_with(kept))
}

/// A variable as it is seen inside.
fn seen_value(name: &str, value: &str) -> String {
    if !names_paths(name) || !value.contains(LOCAL) {
        return value.to_owned();
    }
    value.split_whitespace().map(seen_word).collect::<Vec<_>>().join(" ")
}

/// Where a path of the machine is seen.
fn seen_word(word: &str) -> String {
    let is_local = Path::new(word).starts_with(LOCAL);
    if is_local { format!("{HOME}/.machine{word}") } else { word.to_owned() }
}

fn is_seen(name: &str) -> bool {
    !HOMES.contains(&name) && !OURS.contains(&name.to_ascii_uppercase().as_str())
}

/// An option of pip, as it is called on its command line, of a variable or a line of a file.
fn option(name: &str) -> String {
    let option = name.to_ascii_lowercase().replace('_', "-");
    option.strip_prefix("pip-").map(str::to_owned).unwrap_or(option)
}

/// Whether an option of pip, or a variable, may name files of this machine.
fn names_paths(name: &str) -> bool {
    let option = option(name);
    PATHS.contains(&option.as_str())
        || option.ends_with("-ca-bundle")
        || option.ends_with("-cafile")
        || matches!(option.as_str(), "ssl-cert-file" | "node-extra-ca-certs" | "git-ssl-cainfo")
}

/// The options of a configuration file: `name = value`, where lines that begin with a space go on.
fn options(text: &str) -> impl Iterator<Item = (String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';', '['])) {
        match (line.starts_with([' ', '\t']), line.split_once(['=', ':'])) {
            (true, _) => {
                if let Some((_, value)) = found.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            }
            (false, Some((name, value))) => found.push((name.trim().to_owned(), value.trim().to_owned())),
            (false, None) => {}
        }
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(home: &Path, more: &[(&str, &str)]) -> Settings {
        let pairs = more.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Settings::of(pairs.chain([("HOME".to_owned(), home.display().to_string())]))
    }

    #[test]
    fn only_what_matters_to_builds_is_taken_of_a_shell() {
        let home = tempfile::tempdir().unwrap();
        let taken = settings(
            home.path(),
            &[
                ("PIP_INDEX_URL", "https://u:secret@mirror/simple"),
                ("https_proxy", "http://proxy:3128"),
                ("npm_config_registry", "http://mirror"),
                ("AWS_SECRET_ACCESS_KEY", "never"),
                ("PIP_TARGET", "/elsewhere"),
            ],
        );
        assert!(!taken.variables.contains_key("AWS_SECRET_ACCESS_KEY"));
        assert!(!format!("{taken:?}").contains("secret"));
        let around = Surroundings::of(&taken);
        let names: Vec<&str> = around.env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["PIP_INDEX_URL", "https_proxy", "npm_config_registry"]);
        assert!(around.secrets.contains(&"secret".to_owned()));
    }

    #[test]
    fn what_pips_files_name_is_seen_where_it_is() {
        let home = tempfile::tempdir().unwrap();
        let wheels = home.path().join("wheels");
        std::fs::create_dir_all(home.path().join(".config/pip")).unwrap();
        std::fs::create_dir(&wheels).unwrap();
        let text =
            format!("[global]\nfind-links =\n    {}\n    https://mirror/x\nextra = /etc\n", wheels.display());
        std::fs::write(home.path().join(".config/pip/pip.conf"), text).unwrap();
        let around = Surroundings::of(&settings(home.path(), &[("PIP_CERT", "/nowhere/cert.pem")]));
        assert_eq!(around.mounts.get(&wheels), Some(&wheels.display().to_string()));
        assert!(!around.mounts.contains_key(Path::new("/etc")));
        assert!(around.files.iter().any(|(path, _)| path == "/home/app/.config/pip/pip.conf"));
    }

    #[test]
    fn where_pip_looks_is_known_without_who_asks() {
        let home = tempfile::tempdir().unwrap();
        let limits = home.path().join("limits.txt");
        std::fs::write(&limits, "flask<3\n").unwrap();
        std::fs::create_dir_all(home.path().join(".config/pip")).unwrap();
        std::fs::write(home.path().join(".config/pip/pip.conf"), "[global]\nextra-index-url = http://b/\n")
            .unwrap();
        let sources = |token: &str| {
            let index = format!("https://oauth2accesstoken:{token}@mirror/simple");
            let constraint = limits.display().to_string();
            let more = [("PIP_INDEX_URL", &*index), ("PIP_CONSTRAINT", &*constraint), ("PIP_TIMEOUT", "9")];
            Surroundings::of(&settings(home.path(), &more)).sources
        };
        let first = sources("one");
        assert!(first.contains(&"index-url=https://****@mirror/simple".to_owned()), "{first:?}");
        assert!(first.contains(&"extra-index-url=http://b/".to_owned()) && first.len() == 4, "{first:?}");
        assert_eq!(first, sources("another"));
        std::fs::write(&limits, "flask<4\n").unwrap();
        assert_ne!(first, sources("one"));
    }

    #[test]
    fn a_home_and_what_is_local_are_elsewhere_inside() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("wheels")).unwrap();
        let around =
            Surroundings::of(&settings(home.path(), &[("PIP_FIND_LINKS", "~/wheels /usr/local/bin")]));
        assert_eq!(around.mounts[&home.path().join("wheels")], "/home/app/wheels");
        assert_eq!(around.mounts[Path::new("/usr/local/bin")], "/home/app/.machine/usr/local/bin");
        assert_eq!(around.env[0].1, "~/wheels /home/app/.machine/usr/local/bin");
    }

    #[test]
    fn nothing_covers_what_programs_need() {
        let home = tempfile::tempdir().unwrap();
        let around =
            Surroundings::of(&settings(home.path(), &[("PIP_FIND_LINKS", "/ /usr/share /proc /tmp/../etc")]));
        assert!(around.mounts.keys().all(|path| path.starts_with("/etc/")), "{:?}", around.mounts);
    }
}
