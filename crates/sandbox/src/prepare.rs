//! What is done on the host's side before an init is given its order: limits are set, and everything of the host's that
//! the spec names is got hold of, shown with the owners that the instance is to see.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::cgroup::Cgroup;
use crate::error::{Result, Step};
use crate::mapping::{Mapped, Translation, detached};
use crate::spec::{Mount, MountKind, Spec, Writable};
use crate::wire::{Order, Source};

/// All that goes with an order.
pub(crate) struct Prepared {
    /// The order itself.
    pub(crate) file: OwnedFd,
    /// The mounts that it numbers.
    pub(crate) sources: Vec<OwnedFd>,
    /// The directory to empty in the end.
    pub(crate) scratch: Option<OwnedFd>,
}

/// Prepares an order. Repeated layers are taken out of the spec. Blocks.
pub(crate) fn prepare(spec: &mut Spec, mapped: &Mapped, group: Option<&dyn Cgroup>) -> Result<Prepared> {
    group.map_or(Ok(()), |group| group.limit(&spec.limits)).step("limits")?;
    drop_repeated(&mut spec.layers);
    let mut sources = Sources { translation: mapped.translation.as_ref(), trees: Vec::new() };
    let layers = spec.layers.iter().map(|path| sources.layer(path)).collect::<Result<_>>()?;
    let binds = spec.mounts.iter().map(|mount| sources.volume(mount)).collect::<Result<_>>()?;
    let (scratch, directory) = match spec.writable {
        Writable::Memory => (None, None),
        Writable::Disk => (Some(sources.scratch(&spec.scratch)?), Some(open(&spec.scratch)?)),
    };
    let lengths = spec.files.iter().map(|file| file.bytes.len()).collect();
    let order = Order { spec: spec.clone(), layers, binds, scratch, groups: mapped.groups, lengths };
    Ok(Prepared { file: order.to_file().step("order")?, sources: sources.trees, scratch: directory })
}

/// Removes all but the highest of each layer that comes more than once, which the kernel refuses to join. The highest
/// hides the others entirely.
fn drop_repeated(layers: &mut Vec<PathBuf>) {
    let mut seen = HashSet::new();
    layers.reverse();
    layers.retain(|layer| seen.insert(layer.clone()));
    layers.reverse();
}

fn open(path: &Path) -> Result<OwnedFd> {
    std::fs::File::open(path).map(OwnedFd::from).step(path.display())
}

/// Collects mounts. Without a translation there is nothing to collect: the init is the same user and goes by path.
struct Sources<'a> {
    translation: Option<&'a Translation>,
    trees: Vec<OwnedFd>,
}

impl Sources<'_> {
    fn layer(&mut self, path: &Path) -> Result<Source> {
        let tree = self.translation.map(|translation| translation.show(path));
        Ok(self.number(tree.transpose().step(path.display())?))
    }

    fn volume(&mut self, mount: &Mount) -> Result<Option<Source>> {
        let MountKind::Bind { source: path, .. } = &mount.what else { return Ok(None) };
        let shown = self.translation.map(|translation| match translation.show(path) {
            // A filesystem that cannot translate (tmpfs before Linux 6.3) is shown with owners that nobody inside is.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => detached(path),
            shown => shown,
        });
        Ok(Some(self.number(shown.transpose().step(path.display())?)))
    }

    /// The scratch directory is the instance's own: what is in it has the instance's owners on disk.
    fn scratch(&mut self, path: &Path) -> Result<Source> {
        let owned = self.translation.map(|translation| {
            std::os::unix::fs::chown(path, Some(translation.root), Some(translation.root))?;
            detached(path)
        });
        Ok(self.number(owned.transpose().step(path.display())?))
    }

    fn number(&mut self, tree: Option<OwnedFd>) -> Source {
        match tree {
            Some(tree) => {
                self.trees.push(tree);
                Source::Fd(self.trees.len() - 1)
            }
            None => Source::Path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_repeated_layer_the_highest_stays() {
        let mut layers: Vec<PathBuf> = ["a", "b", "a", "c", "b"].map(PathBuf::from).to_vec();
        drop_repeated(&mut layers);
        assert_eq!(layers, ["a", "c", "b"].map(PathBuf::from));
    }
}
