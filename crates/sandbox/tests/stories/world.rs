//! The root filesystem that the stories share, and how to run something in it.

use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use sandbox::spec::{Access, Mount, MountKind};
use sandbox::{Config, Exit, Instance, Isolation, Sandbox, Spec};
use tokio::io::AsyncReadExt;

/// A sandbox, and a layer in which the machine's own `/usr` can be mounted.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) base: PathBuf,
    pub(crate) data_id: String,
    home: tempfile::TempDir,
}

/// What an instance said and how it ended.
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) exit: Exit,
}

impl World {
    pub(crate) fn new() -> World {
        let home = tempfile::tempdir().unwrap();
        // Others than root come here too, in one story.
        open_to_all(home.path());
        let base = home.path().join("base");
        make_base(&base);
        let data_id = format!("test-{}", std::process::id());
        let config = Config {
            data_id: data_id.clone(),
            layers: base.clone(),
            warm: 1,
            wiring: Default::default(),
            isolation: Isolation::Best,
        };
        World { sandbox: Sandbox::open(config).unwrap(), base, data_id, home }
    }

    /// A new directory that goes with the world.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A spec for a program of the machine's `/usr`.
    pub(crate) fn spec(&self, argv: &[&str]) -> Spec {
        spec_on(&self.base, argv)
    }

    /// A spec for one of our own programs.
    pub(crate) fn inside(&self, words: &[&str]) -> Spec {
        self.spec(&[&["/test", "inside"], words].concat())
    }

    pub(crate) fn shell(&self, script: &str) -> Spec {
        self.spec(&["sh", "-c", script])
    }

    pub(crate) async fn start(&self, spec: Spec) -> Instance {
        self.sandbox.start(spec).await.unwrap()
    }

    pub(crate) async fn run(&self, spec: Spec) -> Said {
        run_on(&self.sandbox, spec).await
    }

    pub(crate) async fn out(&self, script: &str) -> String {
        let said = self.run(self.shell(script)).await;
        assert_eq!(said.err, "");
        said.out
    }
}

pub(crate) async fn run_on(sandbox: &Sandbox, spec: Spec) -> Said {
    read(sandbox.start(spec).await.unwrap()).await
}

pub(crate) async fn run_beside(sandbox: &Sandbox, beside: &Instance, spec: Spec) -> Said {
    read(sandbox.start_beside(beside, spec).await.unwrap()).await
}

async fn read(mut instance: Instance) -> Said {
    let (mut out, mut err) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (instance.take_stdout().unwrap(), instance.take_stderr().unwrap());
    let (read_out, read_err) = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
    read_out.unwrap();
    read_err.unwrap();
    Said { out, err, exit: instance.wait().await }
}

pub(crate) fn spec_on(base: &Path, argv: &[&str]) -> Spec {
    let argv = argv.iter().map(|word| word.to_string()).collect();
    let mut spec = Spec::new("story", vec![base.into()], "/nowhere".into(), argv);
    let exe = std::env::current_exe().unwrap();
    spec.mounts = vec![bind("/usr", "/usr", Access::ReadOnly), bind(&exe, "/test", Access::ReadOnly)];
    spec
}

pub(crate) fn bind(source: impl Into<PathBuf>, target: &str, access: Access) -> Mount {
    Mount { target: target.into(), what: MountKind::Bind { source: source.into(), access } }
}

pub(crate) fn make_base(base: &Path) {
    for name in ["etc", "tmp", "usr"] {
        std::fs::create_dir_all(base.join(name)).unwrap();
    }
    open_to_all(base);
    for name in ["bin", "sbin", "lib", "lib64", "lib32"] {
        // As on the machine itself, where these are links into /usr.
        if let Ok(to) = std::fs::read_link(Path::new("/").join(name)) {
            symlink(to, base.join(name)).unwrap();
        }
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n";
    std::fs::write(base.join("etc/passwd"), passwd).unwrap();
    std::fs::write(base.join("etc/group"), "root:x:0:\nssl:x:110:web\n").unwrap();
    std::fs::write(base.join("garbage"), b"\x7fELF and then nothing").unwrap();
    std::fs::write(base.join("plain"), b"no program").unwrap();
    set_mode(&base.join("garbage"), 0o755);
    set_mode(&base.join("plain"), 0o644);
    set_mode(&base.join("tmp"), 0o1777);
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn open_to_all(path: &Path) {
    set_mode(path, 0o755);
}

/// Runs a future to its end or to its panic, which has been printed by then.
pub(crate) fn caught<F: Future<Output = ()> + Unpin>(future: F) -> impl Future<Output = Result<(), ()>> {
    struct Caught<F>(F);
    impl<F: Future<Output = ()> + Unpin> Future for Caught<F> {
        type Output = Result<(), ()>;
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                Pin::new(&mut self.0).poll(context)
            }));
            match polled {
                Ok(poll) => poll.map(Ok),
                Err(_) => Poll::Ready(Err(())),
            }
        }
    }
    Caught(future)
}
