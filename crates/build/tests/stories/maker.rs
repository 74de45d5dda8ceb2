//! The store of images as builds see it: what the binary plugs in, without its words for errors.

use std::io::Read;

use images::Images;
use kernel::{
    Error, Result,
    ports::{ArchiveLimits, HostMount, ImageConfig, ImageMaker, MachineBase, MadeLayer, Staged},
};

pub(crate) struct Maker(pub(crate) Images);

fn error(error: images::Error) -> Error {
    Error::invalid(error.to_string())
}

fn layer(layer: images::Layer) -> MadeLayer {
    MadeLayer { digest: layer.digest, directory: layer.directory }
}

impl ImageMaker for Maker {
    fn machine(&self) -> Result<MachineBase> {
        let base = self.0.machine_base().map_err(error)?;
        let mount = |mount: images::Mount| HostMount { source: mount.source, target: mount.target };
        let mounts = base.mounts.into_iter().map(mount).collect();
        Ok(MachineBase { layer: layer(base.layer), mounts, python: base.python })
    }

    fn made(&self, key: &str) -> Option<MadeLayer> {
        self.0.made(key).map(layer)
    }

    fn stage(&self) -> Result<Staged> {
        let staging = self.0.stage().map_err(error)?;
        Ok(Staged { path: staging.path().to_owned(), guard: Box::new(staging) })
    }

    fn unpack(&self, archive: &mut dyn Read, into: &Staged, limits: ArchiveLimits) -> Result<String> {
        let limits = images::Limits { bytes: limits.bytes, entries: limits.entries };
        self.0.unpack_into(archive, &into.path, limits).map_err(error)
    }

    fn keep(&self, staged: Staged, key: &str, owner: u32) -> Result<MadeLayer> {
        self.0.keep_layer(&staged.path, key, owner).map(layer).map_err(error)
    }

    fn publish(&self, reference: &str, layers: &[String], config: &ImageConfig) -> Result<String> {
        let reference = images::Reference::parse(reference).map_err(error)?;
        let ImageConfig { entrypoint, command, env, working_dir, user } = config.clone();
        let config = images::Config { entrypoint, command, env, working_dir, user };
        self.0.publish(&reference, layers, &config).map_err(error)
    }
}
