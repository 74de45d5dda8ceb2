//! What is to be done with a folder: plain data, found by looking, with nothing run.

use crate::{Failure, Settings, python, tree::Tree};

/// How an app is built and started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The framework, where one was recognized.
    pub framework: Option<Framework>,
    /// The version of the language that the folder asks for, such as `3.13`.
    pub wanted: Option<String>,
    /// What is installed.
    pub install: Install,
    /// What is installed besides, because the start command needs it.
    pub added: Vec<String>,
    /// Whether Django's static files are collected.
    pub collect_static: bool,
    /// The start command, as a line for the shell; `$PORT` is where it listens.
    pub start: String,
    /// What changes the database to what the app wants, where a framework has that.
    pub migrate: Option<Vec<String>>,
    /// Variables that the image sets.
    pub env: Vec<(String, String)>,
    /// What people should know, a sentence each.
    pub remarks: Vec<String>,
}

/// A framework that is treated in a way of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    /// <https://www.djangoproject.com>
    Django,
    /// <https://flask.palletsprojects.com>
    Flask,
    /// <https://fastapi.tiangolo.com>
    FastApi,
    /// <https://streamlit.io>
    Streamlit,
    /// <https://www.gradio.app>
    Gradio,
}

impl Framework {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Framework::Django => "Django",
            Framework::Flask => "Flask",
            Framework::FastApi => "FastAPI",
            Framework::Streamlit => "Streamlit",
            Framework::Gradio => "Gradio",
        }
    }
}

/// What declares an app's dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Install {
    /// Nothing does.
    #[default]
    Nothing,
    /// `requirements.txt`.
    File {
        /// Everything that decides what is installed: the file and those that it includes.
        declared: String,
        /// Whether it names files of the folder itself.
        local: bool,
    },
    /// The dependencies of `pyproject.toml`, one requirement each.
    Listed(Vec<String>),
}

/// Finds out what a folder is and what is to be done with it.
///
/// # Errors
/// When it is no app that can be built here: what was looked for, and what to add.
pub fn detect(folder: &std::path::Path, settings: &Settings) -> Result<Plan, Failure> {
    let tree =
        Tree::open(folder).map_err(|error| Failure::new(format!("the folder cannot be read: {error}")))?;
    if python::is(&tree) {
        return python::plan(&tree, settings);
    }
    Err(unknown(&tree))
}

/// Says why a folder is nothing that can be built.
fn unknown(tree: &Tree) -> Failure {
    let names = tree.names("");
    let others = [
        ("package.json", "a Node.js app"),
        ("go.mod", "a Go app"),
        ("pom.xml", "a Java app"),
        ("build.gradle", "a Java app"),
        ("Gemfile", "a Ruby app"),
        ("Dockerfile", "a Dockerfile"),
    ];
    if let Some((file, what)) = others.iter().find(|(file, _)| names.iter().any(|name| name == file)) {
        return Failure::new(format!(
            "the folder holds {what} ({file}), and only Python apps can be built from source here"
        ))
        .next("build its image elsewhere, bring it in with: haar images import, and deploy that");
    }
    if names.is_empty() {
        return Failure::new("the folder is empty").next("name the folder that holds the app");
    }
    let python = "requirements.txt, pyproject.toml, Procfile, manage.py or any other *.py file";
    Failure::new(format!("the folder is no app that can be built: it has no {python}"))
        .next("add a requirements.txt and a main.py with the app, or name the folder that holds them")
}
