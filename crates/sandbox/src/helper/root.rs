//! An instance's root filesystem, in steps whose order is the protection:
//!
//! 1. Everything of the host's is had as a detached mount: nothing of the host is looked up later.
//! 2. The layers are joined, in the staging area.
//! 3. The joined root becomes the root, and the host's is let go. From here on no path, link or `..`, whoever wrote it,
//!    leads out, since there is nothing else to lead to.
//! 4. Only now are volumes and files put in, for their targets pass through what the image holds.
//! 5. `/proc` and `/sys` come last, so that no volume's target can lie in them.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::mount::UnmountFlags;

use super::staging::{self, Furniture};
use crate::error::{Error, Result, Step};
use crate::spec::{Access, InsideFile, Mount, MountKind, Sys, Writable};
use crate::sys::{self, MountChange};
use crate::wire::{Order, Source};

/// How many links to nothing are followed: as many as the kernel follows on a path.
const MAX_LINKS: usize = 40;

/// Makes the root that an order describes the root of this process. `fds` are those that its sources number.
pub(super) fn enter(order: &Order, fds: Vec<OwnedFd>, furniture: Furniture) -> Result<()> {
    let spec = &order.spec;
    let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
    let binds = take_binds(order, &mut fds)?;
    stage_layers(order, &mut fds)?;
    stage_upper(order, &mut fds)?;
    join(spec.layers.len())?;
    pivot().step("change of root")?;
    attach_at(&furniture.dev, "/dev")?;
    for (mount, bind) in spec.mounts.iter().zip(binds) {
        put_mount(mount, bind).map_err(|error| about(&mount.target, error))?;
    }
    for file in &spec.files {
        put_file(file).step(&file.path)?;
    }
    attach_at(&furniture.proc, "/proc")?;
    match (&furniture.sys, spec.sys) {
        (Some(sys), Sys::ReadOnly) => attach_at(sys, "/sys"),
        _ => Ok(()),
    }
}

/// Whether layers can be joined here at all: what `probe` wants to know.
pub(super) fn try_join() -> Result<()> {
    fs::create_dir("layers/0").step("trial")?;
    staging::mount("tmpfs", "up", c"size=64k,mode=755").step("trial")?;
    make_upper()?;
    join(1)
}

fn take(source: Source, path: &Path, fds: &mut [Option<OwnedFd>]) -> Result<OwnedFd> {
    match source {
        Source::Fd(index) => fds
            .get_mut(index)
            .and_then(Option::take)
            .ok_or_else(|| Error::host(format!("no descriptor came for {}", path.display()))),
        Source::Path => staging::clone(path).step(path.display()),
    }
}

fn take_binds(order: &Order, fds: &mut [Option<OwnedFd>]) -> Result<Vec<Option<OwnedFd>>> {
    let mounts = order.spec.mounts.iter().zip(&order.binds);
    mounts
        .map(|(mount, source)| match (&mount.what, source) {
            (MountKind::Bind { source: path, access }, Some(source)) => {
                let tree = take(*source, path, fds)?;
                sys::mount_setattr(tree.as_fd(), bind_attributes(*access)).step(path.display())?;
                Ok(Some(tree))
            }
            _ => Ok(None),
        })
        .collect()
}

fn bind_attributes(access: Access) -> MountChange<'static> {
    let never = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let set = match access {
        Access::ReadOnly => never | libc::MOUNT_ATTR_RDONLY,
        Access::ReadWrite => never,
    };
    MountChange { set, idmap: None, recursive: true }
}

fn stage_layers(order: &Order, fds: &mut [Option<OwnedFd>]) -> Result<()> {
    for (index, (path, source)) in order.spec.layers.iter().zip(&order.layers).enumerate() {
        let tree = take(*source, path, fds)?;
        let target = format!("layers/{index}");
        fs::create_dir(&target).step(&target)?;
        staging::attach(tree, &target).step(format_args!("layer {}", path.display()))?;
    }
    Ok(())
}

fn stage_upper(order: &Order, fds: &mut [Option<OwnedFd>]) -> Result<()> {
    match (order.spec.writable, order.scratch) {
        (Writable::Disk, Some(source)) => {
            let tree = take(source, &order.spec.scratch, fds)?;
            staging::attach(tree, "up").step("scratch directory")?;
        }
        _ => {
            let bytes =
                order.spec.limits.memory_bytes.map_or(String::new(), |bytes| format!(",size={bytes}"));
            let options = c_string(format!("mode=755{bytes}"))?;
            staging::mount("tmpfs", "up", &options).step("writable root in memory")?;
        }
    }
    make_upper()
}

fn make_upper() -> Result<()> {
    for name in ["up/u", "up/w"] {
        fs::DirBuilder::new().mode(0o755).create(name).step(name)?;
    }
    Ok(())
}

/// Joins `count` layers under a writable one. Names are short and relative: the kernel takes a page of options, and
/// shows them to the workload. Nothing here needs to outlast a power cut, so nothing is synced.
fn join(count: usize) -> Result<()> {
    let lower: Vec<String> = (0..count).rev().map(|index| format!("layers/{index}")).collect();
    let lower = lower.join(":");
    let options = c_string(format!("lowerdir={lower},upperdir=up/u,workdir=up/w,userxattr,volatile"))?;
    staging::mount("overlay", "root", &options).step("join layers")
}

fn c_string(text: String) -> Result<std::ffi::CString> {
    std::ffi::CString::new(text).map_err(|_| Error::invalid("a NUL byte in a mount option"))
}

/// With both names the same, the old root is stacked on the new one, and is then detached.
fn pivot() -> io::Result<()> {
    rustix::process::chdir("root")?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

fn attach_at(tree: &OwnedFd, target: &str) -> Result<()> {
    let found = fs::symlink_metadata(target);
    if found.as_ref().is_ok_and(|found| !found.is_dir()) {
        return Err(Error::invalid(format!("the image has something other than a directory at {target}")));
    }
    if found.is_err() {
        fs::create_dir(target).step(target)?;
    }
    staging::attach(tree, target).step(target)
}

fn about(target: &str, error: Error) -> Error {
    Error { message: format!("volume at {target}: {}", error.message), ..error }
}

fn put_mount(mount: &Mount, bind: Option<OwnedFd>) -> Result<()> {
    match (&mount.what, bind) {
        (MountKind::Tmpfs { bytes }, _) => {
            make_target(&mount.target, Target::Directory)?;
            let options = c_string(format!("size={bytes},mode=1777"))?;
            staging::mount("tmpfs", &mount.target, &options).step("mount")
        }
        (MountKind::Bind { .. }, Some(tree)) => {
            let directory = rustix::fs::fstat(&tree).step("source")?.st_mode & libc::S_IFMT == libc::S_IFDIR;
            make_target(&mount.target, if directory { Target::Directory } else { Target::File })?;
            staging::attach(tree, &mount.target).step("mount")
        }
        (MountKind::Bind { .. }, None) => Err(Error::host("its source did not come")),
    }
}

enum Target {
    Directory,
    File,
}

fn make_target(target: &str, kind: Target) -> Result<()> {
    let path = Path::new(target);
    if path.exists() {
        return Ok(());
    }
    match kind {
        Target::Directory => make_directories(path, MAX_LINKS).step("make the mount point"),
        Target::File => {
            make_parents(path).step("make the mount point")?;
            fs::File::create(path).map(drop).step("make the mount point")
        }
    }
}

fn make_parents(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| make_directories(parent, MAX_LINKS))
}

/// Makes a directory and those above it. A link to nothing is taken to mean that there should be something: images
/// have links to what only a volume brings.
fn make_directories(path: &Path, links_left: usize) -> io::Result<()> {
    let error = match fs::create_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => error,
        done => return done,
    };
    let dangling = path.ancestors().filter(|a| !a.exists()).find_map(|a| Some((a, fs::read_link(a).ok()?)));
    match dangling {
        Some((link, to)) if links_left > 0 => {
            let to = link.parent().unwrap_or(Path::new("/")).join(to);
            make_directories(&to, links_left - 1)?;
            make_directories(path, links_left - 1)
        }
        _ => Err(error),
    }
}

/// Writes a file anew: what was there, a link that leads elsewhere included, is not written through.
fn put_file(file: &InsideFile) -> io::Result<()> {
    let path = Path::new(&file.path);
    make_parents(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(file.mode).open(path)?;
    new.write_all(&file.bytes)?;
    new.set_permissions(fs::Permissions::from_mode(file.mode))
}
