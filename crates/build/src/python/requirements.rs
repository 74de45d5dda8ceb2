//! `requirements.txt`: which packages it names, which files it includes, and whether it leads into the folder itself.
//!
//! Pip is who reads it in earnest. What is wanted here is its names, and everything that decides what it installs, so that
//! a layer of dependencies can be found again.

use std::collections::BTreeSet;

use crate::{Failure, tree::Tree};

/// The most files that may be included, one by another.
const MAX_FILES: usize = 50;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirements {
    /// Every file that was read, with its name, one after the other.
    pub(crate) declared: String,
    /// Whether files or folders next to it are installed or looked at.
    pub(crate) is_local: bool,
    /// Names in pip's normal form, with their extras.
    names: Vec<(String, Vec<String>)>,
}

impl Requirements {
    /// Reads a file and what it includes.
    ///
    /// # Errors
    /// When a file that is included is not there, or there are too many.
    pub(crate) fn read(tree: &Tree, file: &str) -> Result<Requirements, Failure> {
        let mut requirements = Requirements::default();
        let mut waiting = vec![file.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(file) = waiting.pop() {
            if !seen.insert(file.clone()) {
                continue;
            }
            if seen.len() > MAX_FILES {
                return Err(Failure::new("requirements.txt includes more than 50 files"));
            }
            let text = tree.read(&file).ok_or_else(|| {
                Failure::new(format!(
                    "{file}, which requirements.txt leads to, is not there or cannot be read"
                ))
                .next("add it, or see whether .gcloudignore or .gitignore leaves it out")
            })?;
            requirements.declared.push_str(&format!("# {file}\n{text}\n"));
            let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
            for line in lines(&text) {
                waiting.extend(requirements.add(&line).map(|included| join(directory, &included)));
            }
        }
        Ok(requirements)
    }

    /// Requirements that are listed elsewhere.
    pub(crate) fn listed(lines: &[String]) -> Requirements {
        let mut requirements = Requirements::default();
        lines.iter().for_each(|line| {
            requirements.add(line);
        });
        requirements
    }

    /// Whether a package is asked for by name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|(known, _)| known == name)
    }

    /// Whether a package is asked for with an extra.
    pub(crate) fn has_extra(&self, name: &str, extra: &str) -> bool {
        self.names.iter().any(|(known, extras)| known == name && extras.iter().any(|known| known == extra))
    }

    /// Notes one line; gives the file that it includes.
    fn add(&mut self, line: &str) -> Option<String> {
        if let Some(file) = argument(line, &["-r", "--requirement", "-c", "--constraint"]) {
            let is_elsewhere = file.contains("://") || file.starts_with('/');
            return (!is_elsewhere).then(|| file.to_owned());
        }
        if let Some(place) = argument(line, &["-e", "--editable", "-f", "--find-links"]) {
            self.is_local |= !place.contains("://") && !place.starts_with("git+");
            return None;
        }
        if line.starts_with('-') {
            return None;
        }
        let is_file = line.starts_with('.') || line.contains("file:") || line.ends_with(".whl");
        self.is_local |= is_file
            || line.split([' ', ';']).next().is_some_and(|word| word.contains('/') && !word.contains(':'));
        self.names.extend(name(line));
        None
    }
}

/// Lines without comments, with those joined that go on.
fn lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let without = joined.lines().map(|line| match line.find(" #") {
        Some(at) => line[..at].trim().to_owned(),
        None => line.trim().to_owned(),
    });
    without.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// The argument of one of these options: `-r x`, `-rx`, `--requirement x` or `--requirement=x`.
fn argument<'a>(line: &'a str, options: &[&str]) -> Option<&'a str> {
    options.iter().find_map(|option| {
        let rest = line.strip_prefix(option)?;
        let is_long = option.starts_with("--");
        let separated = rest.starts_with([' ', '\t', '=']);
        (separated || !is_long).then(|| rest.trim_start_matches([' ', '\t', '=']).trim())
    })
}

/// The name at the beginning of a requirement, as pip compares names, and its extras.
fn name(line: &str) -> Option<(String, Vec<String>)> {
    let end = line
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'))
        .unwrap_or(line.len());
    let normal = normal(&line[..end]);
    let extras = line[end..].trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let extras = extras.map(|(extras, _)| extras.split(',').map(normal_extra).collect());
    (!normal.is_empty()).then(|| (normal, extras.unwrap_or_default()))
}

fn normal_extra(text: &str) -> String {
    normal(text.trim())
}

fn normal(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c {
            '.' | '_' | '-' if name.ends_with('-') => {}
            '.' | '_' | '-' => name.push('-'),
            other => name.push(other.to_ascii_lowercase()),
        }
    }
    name
}

/// A path from the directory of the file that names it.
fn join(directory: &str, path: &str) -> String {
    let path = path.trim_start_matches("./");
    if directory.is_empty() { path.to_owned() } else { format!("{directory}/{path}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Requirements, Failure> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Requirements::read(&Tree::open(root.path()).unwrap(), "requirements.txt")
    }

    #[test]
    fn names_are_found_as_pip_reads_them() {
        let text = "# gunicorn\nFlask[Async]==3.0 # and uvicorn\nzope.interface_x>=1 ; python_version > '3'\n\
            requests \\\n  >= 2\n--index-url https://mirror/simple\nfastapi [standard]\n";
        let found = read(&[("requirements.txt", text)]).unwrap();
        for name in ["flask", "zope-interface-x", "requests", "fastapi"] {
            assert!(found.has(name), "{name}");
        }
        assert!(!found.has("gunicorn") && !found.has("uvicorn") && !found.is_local);
        assert!(found.has_extra("flask", "async") && found.has_extra("fastapi", "standard"));
    }

    #[test]
    fn what_is_included_counts() {
        let found = read(&[
            ("requirements.txt", "-r req/base.txt\n-c limits.txt\n"),
            ("req/base.txt", "django\n-r ./more.txt\n"),
            ("req/more.txt", "gunicorn"),
            ("limits.txt", "django<6"),
        ])
        .unwrap();
        assert!(found.has("gunicorn") && found.declared.contains("django<6"));
        let missing = read(&[("requirements.txt", "-r base.txt")]).unwrap_err();
        assert!(missing.error.starts_with("base.txt"), "{missing}");
    }

    #[test]
    fn what_leads_into_the_folder_is_seen() {
        for (line, local) in [
            (".", true),
            ("-e .", true),
            ("./wheels/x-1-py3-none-any.whl", true),
            ("x @ file:///workspace/x", true),
            ("vendor/x", true),
            ("--find-links=wheels", true),
            ("--find-links https://mirror/x", false),
            ("x @ https://mirror/x.zip", false),
            ("git+https://mirror/x", false),
            ("x", false),
        ] {
            assert_eq!(read(&[("requirements.txt", line)]).unwrap().is_local, local, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([-rce. a-z=\\[\\]\\\\#/:\n]|\\PC){0,60}") {
            let _ = Requirements::listed(&lines(&text));
        }
    }
}
