use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use images::Reference;

use crate::{
    data::DataDir,
    report::{self, Doing, Result, Trouble},
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
    /// List what is there
    List {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
}

impl Images {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let images =
            images::Images::open(&data.make("images")?).map_err(|error| Trouble::new(error.to_string()))?;
        match self.what {
            What::Import { path, name } => import(&images, &path, name.as_deref()),
            What::Pull { reference } => pull(&images, &reference),
            What::List { json } => list(&images, json),
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
    runtime
        .block_on(images.pull(&reference, &registries))
        .map_err(|error| Trouble::new(error.to_string()))?;
    report::print(format!("{reference}\n"))?;
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
        eprintln!("no images yet, but for {}, which is always there", images::HELLO);
    }
    report::print(all.iter().map(|(name, digest)| format!("{name}  {digest}\n")).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}
