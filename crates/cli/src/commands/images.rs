use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use images::Reference;
use serde_json::json;

use crate::{
    client,
    data::DataDir,
    report::{self, Doing, Result, Trouble, tell},
};

/// Bring container images in, and list them
#[derive(Args)]
pub struct Images {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Bring in an OCI layout (a directory or an archive), or what `docker save` wrote
    Import {
        /// The directory or file
        path: PathBuf,
        /// The reference it shall have, such as us-docker.pkg.dev/project/repository/name:tag
        #[arg(long, value_name = "REFERENCE")]
        name: Option<String>,
    },
    /// Bring in an image from its registry
    Pull {
        /// Its reference, such as docker.io/library/nginx:latest
        reference: String,
    },
    /// Remove what no name, no service, no job and no build uses; haar does so by itself once a day
    Prune {
        /// Only tell what would go
        #[arg(long)]
        dry_run: bool,
        /// Also what builds have kept for the next ones and did not use for this many days
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        older_than: u32,
    },
    /// List what is there
    List {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
}

impl Images {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let images = || {
            let directory = data.make("images")?;
            images::Images::open(&directory).map_err(|error| Trouble::new(error.to_string()))
        };
        match self.what {
            What::Import { path, name } => import(&images()?, &path, name.as_deref()),
            What::Pull { reference } => pull(&images()?, &reference),
            What::List { json } => list(&images()?, json),
            What::Prune { dry_run, older_than } => prune(data, dry_run, older_than),
        }
    }
}

fn import(images: &images::Images, path: &std::path::Path, name: Option<&str>) -> Result<ExitCode> {
    let name = name.map(Reference::parse).transpose().map_err(|error| Trouble::new(error.to_string()))?;
    let imported = images.import(path, name.as_ref()).map_err(|error| {
        Trouble::new(format!("cannot import {}: {error}", path.display()))
            .next("give an OCI layout, or an archive made with: docker save IMAGE > image.tar")
    })?;
    report::print(imported.iter().map(|reference| format!("{reference}\n")).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

fn pull(images: &images::Images, reference: &str) -> Result<ExitCode> {
    let reference = Reference::parse(reference).map_err(|error| Trouble::new(error.to_string()))?.to_string();
    let registries = images::Registries::from_variables(|name| std::env::var(name).ok())
        .map_err(|why| Trouble::new(why).next("correct that variable, or unset it"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start")?;
    runtime.block_on(images.pull(&reference, &registries)).map_err(|error| pull_trouble(&error))?;
    keep(images, &reference)?;
    report::print(format!("{reference}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn pull_trouble(error: &images::Error) -> Trouble {
    let trouble = Trouble::new(error.to_string());
    match error {
        images::Error::NotFound(_) => trouble.next(
            "see whether its name and tag are right, and whether its registry asks for credentials (docker login)",
        ),
        images::Error::Unreachable(..) => trouble.next(
            "see whether this machine reaches that registry; a file works without: haar images import image.tar",
        ),
        _ => trouble,
    }
}

/// An image that was asked for by its digest has no name yet, and would go with the next pruning.
fn keep(images: &images::Images, reference: &str) -> Result<()> {
    let Some((_, digest)) = reference.split_once('@') else { return Ok(()) };
    let named = Reference::parse(reference).and_then(|parsed| images.tag(&parsed, digest));
    named.map_err(|error| Trouble::new(error.to_string()))
}

/// Only the running haar knows what its services use.
fn prune(data: &DataDir, dry_run: bool, older_than: u32) -> Result<ExitCode> {
    let asked = json!({ "dry_run": dry_run, "older_than": u64::from(older_than) * 24 * 60 * 60 });
    let removed = client::control(&data.require_running()?, "POST", "images/prune", Some(asked))?;
    let count = |what: &str| removed[what].as_u64().unwrap_or_default();
    let verb = if dry_run { "would remove" } else { "removed" };
    let megabytes = count("bytes").div_ceil(1 << 20);
    report::print(format!(
        "{verb} {} layers and {} blobs, {megabytes} MiB\n",
        count("layers"),
        count("blobs")
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn list(images: &images::Images, json: bool) -> Result<ExitCode> {
    let all = images.list().map_err(|error| Trouble::new(error.to_string()))?;
    if json {
        let all: Vec<_> =
            all.iter().map(|(name, digest)| serde_json::json!({ "name": name, "digest": digest })).collect();
        report::print(serde_json::to_string_pretty(&all).doing("write JSON")? + "\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        tell!("no images yet, but for {}, which is always there", images::HELLO);
    }
    report::print(all.iter().map(|(name, digest)| format!("{name}  {digest}\n")).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}
