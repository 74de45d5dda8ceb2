//! What a folder is found to be, and how it is started.

use build::{Framework, Install, Plan, Settings, detect};

use crate::world::folder;

fn plan(files: &[(&str, &str)]) -> Plan {
    detect(folder(files).path(), &Settings::default()).unwrap_or_else(|failure| panic!("{failure:?}"))
}

const MANAGE: &str = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'harbour.settings')\n";
const FLASK: &str = "from flask import Flask\napp = Flask(__name__)\n";

pub(crate) fn each_app_is_found_to_be_what_it_is() {
    let django = ("manage.py", MANAGE);
    let settings = ("harbour/settings.py", "WSGI_APPLICATION = \"harbour.wsgi.application\"\n");
    let pyproject = "[project]\nname = 'x'\ndependencies = ['flask', 'gunicorn>=20']\n";
    let script = "[project]\nname = 'x'\n[project.scripts]\nstart = 'server.main:run'\n";
    for (start, files) in [
        ("gunicorn x:y", &[("Procfile", "worker: z\nweb: gunicorn x:y\n"), ("main.py", FLASK)][..]),
        (
            "exec gunicorn --bind :$PORT harbour.wsgi",
            &[django, settings, ("requirements.txt", "Django\ngunicorn")],
        ),
        (
            "exec python3 manage.py runserver --noreload 0.0.0.0:$PORT",
            &[django, settings, ("requirements.txt", "django")],
        ),
        (
            "exec gunicorn --bind :$PORT other.wsgi:app",
            &[
                ("manage.py", MANAGE),
                ("harbour/settings/__init__.py", ""),
                ("harbour/settings/base.py", "WSGI_APPLICATION = 'other.wsgi.app'"),
                ("requirements.txt", "django\ngunicorn"),
            ],
        ),
        (
            "exec gunicorn --bind :$PORT main:app",
            &[("main.py", FLASK), ("requirements.txt", "flask\ngunicorn")],
        ),
        (
            "exec gunicorn --bind :$PORT main:app",
            &[("main.py", FLASK), ("app.py", FLASK), ("requirements.txt", "flask")],
        ),
        ("exec gunicorn --bind :$PORT app:app", &[("app.py", FLASK), ("pyproject.toml", pyproject)]),
        (
            "exec uvicorn main:app --host 0.0.0.0 --port $PORT",
            &[("main.py", "app = FastAPI()"), ("requirements.txt", "fastapi[standard]")],
        ),
        (
            "exec uvicorn main:app --host 0.0.0.0 --port $PORT",
            &[("main.py", "from x import app"), ("requirements.txt", "fastapi\nuvicorn")],
        ),
        (
            "exec streamlit run app.py --server.address 0.0.0.0 --server.port $PORT",
            &[("app.py", "import streamlit"), ("requirements.txt", "streamlit")],
        ),
        (
            "GRADIO_SERVER_PORT=$PORT exec python3 app.py",
            &[("app.py", "import gradio"), ("requirements.txt", "gradio")],
        ),
        ("exec python3 main.py", &[("main.py", "serve()\n")]),
        (
            "exec python3 -c 'import sys, server.main; sys.exit(server.main.run())'",
            &[("pyproject.toml", script)],
        ),
    ] {
        assert_eq!(plan(files).start, start, "{files:?}");
    }
    let added = plan(&[("main.py", FLASK), ("requirements.txt", "flask")]);
    assert_eq!((added.added, added.framework), (vec!["gunicorn".into()], Some(Framework::Flask)));
    assert_eq!(added.remarks.len(), 1);
    let listed = plan(&[("app.py", FLASK), ("pyproject.toml", pyproject)]);
    assert_eq!(listed.install, Install::Listed(vec!["flask".into(), "gunicorn>=20".into()]));
    assert_eq!(
        plan(&[("main.py", ""), (".python-version", "# x\n3.13.1\n")]).wanted.as_deref(),
        Some("3.13")
    );
    let both = plan(&[("app.py", FLASK), ("pyproject.toml", pyproject), ("requirements.txt", "flask")]);
    assert!(matches!(both.install, Install::File { .. }));
    let asked = Settings { start: Some("python -m x".into()), ..Settings::default() };
    assert_eq!(detect(folder(&[("x.py", "")]).path(), &asked).unwrap().start, "python -m x");
    static_files();
}

fn static_files() {
    let with = |settings: &str| plan(&[("manage.py", MANAGE), ("harbour/settings.py", settings)]);
    assert!(with("STATIC_ROOT = BASE_DIR / 'static'\n").collect_static);
    for none in ["STATIC_ROOT = None\n", "# STATIC_ROOT = 'x'\n", "STATIC_URL = '/static/'\n", ""] {
        assert!(!with(none).collect_static, "{none}");
    }
    assert_eq!(with("").migrate.unwrap()[2], "migrate");
}

pub(crate) fn what_is_no_app_says_what_to_add() {
    for (files, error, next) in [
        (&[][..], "the folder is empty", "name the folder"),
        (&[("notes.txt", "")], "it has no requirements.txt", "main.py"),
        (&[("package.json", "{}")], "a Node.js app (package.json)", "haar images import"),
        (&[("requirements.txt", "flask")], "nothing says how the app is started", "Procfile"),
        (&[("server.py", FLASK)], "(found: server.py)", "Procfile"),
        (&[("requirements.txt", "-r more.txt"), ("main.py", "")], "more.txt", "ignore"),
        (&[("Pipfile", ""), ("main.py", "")], "Pipfile", "pipenv requirements"),
        (&[("pyproject.toml", "[tool.poetry]\n"), ("main.py", "")], "Poetry", "poetry export"),
        (
            &[("pyproject.toml", "[project]\ndynamic = ['dependencies']\n")],
            "project.dynamic",
            "project.dependencies",
        ),
        (&[("pyproject.toml", "[project\n"), ("main.py", "")], "not valid TOML", "mend"),
        (
            &[("main.py", "app = FastAPI()"), ("requirements.txt", "fastapi")],
            "nothing that could serve it",
            "uvicorn",
        ),
    ] {
        let failure = detect(folder(files).path(), &Settings::default()).unwrap_err();
        assert!(failure.error.contains(error), "{failure:?}");
        assert!(failure.next.as_deref().unwrap_or_default().contains(next), "{failure:?}");
    }
}

pub(crate) fn links_lead_nowhere() {
    let root = folder(&[("main.py", "")]);
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("requirements.txt")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc/passwd", root.path().join("Procfile")).unwrap();
    let plan = detect(root.path(), &Settings::default()).unwrap();
    assert_eq!((plan.install, &*plan.start), (Install::Nothing, "exec python3 main.py"));
}
