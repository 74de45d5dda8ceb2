//! What an instance is to be: plain data, checked before anything is started.
//!
//! Paths that begin a field named `source`, `layers` or `scratch` are the host's; all others are the instance's, and
//! are resolved inside its root only after that root is the only one there is, so a symbolic link in an image or a
//! volume leads nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The most layers of a root filesystem (what registries' builders allow).
pub const MAX_LAYERS: usize = 127;
/// The most mounts of an instance.
pub const MAX_MOUNTS: usize = 100;
/// The most bytes of all [`InsideFile`]s together.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// One instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// A name for the log.
    pub id: String,
    /// Directories of the host, the lowest layer first. A whiteout is a character device 0:0, and a directory that
    /// hides those below carries `user.overlay.opaque=y`; whoever unpacks an image must let no other attribute of that
    /// kind through.
    pub layers: Vec<PathBuf>,
    /// An empty directory of the host that is this instance's alone; its content is removed when the instance ends.
    pub scratch: PathBuf,
    /// Where what the instance writes goes.
    pub writable: Writable,
    /// Program and arguments. A program without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment; nothing is added.
    pub env: Vec<(String, String)>,
    /// Working directory; made if it is not there.
    pub cwd: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; names are those of the image. Empty means root.
    pub user: String,
    /// The host name inside.
    pub hostname: String,
    /// What the instance may use.
    pub limits: Limits,
    /// Volumes, in the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// Files put into the root before the program starts, replacing what the image has there.
    pub files: Vec<InsideFile>,
    /// Sockets on the inside's loopback that are handed to the caller.
    pub listen: Vec<Listen>,
    /// What the instance can reach.
    pub network: Network,
    /// What is at `/sys`.
    pub sys: Sys,
}

impl Spec {
    /// An isolated instance of `argv` with the defaults of a container: root, `/`, in-memory writes, no limits.
    pub fn new(id: impl Into<String>, layers: Vec<PathBuf>, scratch: PathBuf, argv: Vec<String>) -> Spec {
        Spec {
            id: id.into(),
            layers,
            scratch,
            writable: Writable::Memory,
            argv,
            env: vec![("PATH".into(), DEFAULT_PATH.into())],
            cwd: "/".into(),
            user: String::new(),
            hostname: "localhost".into(),
            limits: Limits::default(),
            mounts: Vec::new(),
            files: Vec::new(),
            listen: Vec::new(),
            network: Network::Isolated,
            sys: Sys::ReadOnly,
        }
    }

    /// Every reason why this cannot be started, as one error.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Vec::new();
        self.check_program(&mut faults);
        self.check_root(&mut faults);
        self.check_mounts(&mut faults);
        if faults.is_empty() { Ok(()) } else { Err(Error::invalid(faults.join("; "))) }
    }

    fn check_program(&self, faults: &mut Vec<String>) {
        if self.argv.first().is_none_or(String::is_empty) {
            faults.push("argv names no program".into());
        }
        let words = self.argv.iter().chain(self.env.iter().flat_map(|(k, v)| [k, v]));
        if words.chain([&self.cwd, &self.user, &self.hostname]).any(|w| w.contains('\0')) {
            faults.push("a word of argv, env, cwd, user or hostname has a NUL byte".into());
        }
        if self.env.iter().any(|(k, _)| k.is_empty() || k.contains('=')) {
            faults.push("a variable's name is empty or has '='".into());
        }
        if !self.cwd.starts_with('/') {
            faults.push(format!("working directory {:?} is not absolute", self.cwd));
        }
        if self.hostname.len() > 64 {
            faults.push("the host name is longer than 64 bytes".into());
        }
    }

    fn check_root(&self, faults: &mut Vec<String>) {
        if self.layers.is_empty() || self.layers.len() > MAX_LAYERS {
            faults.push(format!("{} layers; 1 to {MAX_LAYERS} are possible", self.layers.len()));
        }
        if self.files.iter().map(|f| f.bytes.len()).sum::<usize>() > MAX_FILE_BYTES {
            faults.push(format!("files of more than {MAX_FILE_BYTES} bytes"));
        }
        if let Some(file) = self.files.iter().find(|f| !is_inside_path(&f.path)) {
            faults.push(format!("file {:?} is not an absolute path without '..'", file.path));
        }
    }

    fn check_mounts(&self, faults: &mut Vec<String>) {
        if self.mounts.len() > MAX_MOUNTS {
            faults.push(format!("{} mounts; at most {MAX_MOUNTS} are possible", self.mounts.len()));
        }
        if let Some(mount) = self.mounts.iter().find(|m| !is_inside_path(&m.target) || m.target == "/") {
            faults.push(format!("mount point {:?} is not an absolute path without '..'", mount.target));
        }
        if self.network == Network::Host && !self.listen.is_empty() {
            faults.push("an instance in the host's network has no loopback of its own to listen on".into());
        }
        if let Some(listen) = self.listen.iter().find(|l| l.addr.ip().is_unspecified()) {
            faults.push(format!("cannot listen on {}: name an address", listen.addr));
        }
    }
}

/// Where programs are looked for when an image says nothing.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `/a/b` without `..`, NUL, or an end that is no name.
fn is_inside_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..")
}

/// Where what an instance writes goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writable {
    /// Memory, counted as the instance's own: no more than its limit.
    Memory,
    /// The scratch directory.
    Disk,
}

/// What an instance may use. `None` means as much as the host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, files in memory included.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_millis: Option<u32>,
    /// Processes and threads, our own init included.
    pub pids: Option<u32>,
}

/// A volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Where; made if it is not there. Links in the image are followed, inside the image.
    pub target: String,
    /// What.
    pub what: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MountKind {
    /// A file, directory or socket of the host.
    Bind {
        /// The host's path.
        source: PathBuf,
        /// Whether it may be changed.
        access: Access,
    },
    /// Files in memory.
    Tmpfs {
        /// The most bytes it takes.
        bytes: u64,
    },
}

/// Whether a mount may be changed from the inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Not.
    ReadOnly,
    /// Yes. What root inside writes is root's outside: keep the source where no other user can reach it. For other
    /// users of the inside see [`Sandbox::writable_directory`](crate::Sandbox::writable_directory).
    ReadWrite,
}

/// A file put into an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InsideFile {
    /// Where. Directories are made; what is there, a link too, is replaced.
    pub path: String,
    /// Its content.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Its permission bits. The owner is root.
    pub mode: u32,
}

/// A socket on the inside's loopback interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// The address, put on the interface, and the port.
    pub addr: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
}

/// A protocol to listen with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

/// What an instance can reach by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Its own loopback, and what the caller offers there.
    Isolated,
    /// All that this machine reaches, the machine's own loopback and abstract sockets too: for what is trusted as its
    /// user is, such as a step of a build. It has no rights over this network, opens no port below the machine's first
    /// unprivileged one, and sees nothing of `/sys` but its control groups. Nothing can be offered to it
    /// ([`Spec::listen`]); who resolves its names is for [`Spec::files`] to say. It is not prepared in advance.
    Host,
}

/// What an instance sees at `/sys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sys {
    /// The kernel's tree and the instance's own control groups, neither of them writable.
    ReadOnly,
    /// An empty directory.
    None,
}
