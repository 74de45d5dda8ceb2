//! Brings pinned packages here with the ordinary client of their registry, so that mirrors and proxies a person
//! has set up are honoured, and reads the files in them. Nothing is unpacked to disk.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use crate::{Result, list::Pin};

/// Files by their path inside the package.
pub(crate) type Files = BTreeMap<String, String>;

/// Where the wheel has the documents.
const DOCUMENTS: &str = "googleapiclient/discovery_cache/documents/";

/// The proto files of an npm package, by the path other files import them under.
pub(crate) fn npm(pin: &Pin) -> Result<Files> {
    let archive = download(pin, "npm", &["pack", "--silent", &format!("{}@{}", pin.name, pin.version)])?;
    let mut files = Files::new();
    for entry in tar::Archive::new(GzDecoder::new(Cursor::new(archive))).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if let Some(name) = path.strip_prefix("package/").filter(|name| name.ends_with(".proto")) {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            files.insert(name.to_owned(), text);
        }
    }
    Ok(files)
}

/// The discovery documents of a Python wheel, by file name.
pub(crate) fn pip(pin: &Pin) -> Result<Files> {
    let wanted = format!("{}=={}", pin.name, pin.version);
    let archive =
        download(pin, "pip", &["download", "--quiet", "--no-deps", "--only-binary=:all:", &wanted])?;
    let mut archive = zip::ZipArchive::new(Cursor::new(archive))?;
    let mut files = Files::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let Some(name) = entry.name()?.strip_prefix(DOCUMENTS).map(str::to_owned) else { continue };
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        files.insert(name, text);
    }
    Ok(files)
}

/// Runs a client in an empty directory, where it leaves one file: that file, if its hash is right.
fn download(pin: &Pin, program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let scratch = tempfile::tempdir()?;
    let status =
        Command::new(program).args(arguments).current_dir(scratch.path()).stdout(Stdio::null()).status();
    if !status.map_err(|error| format!("cannot run {program}: {error}"))?.success() {
        return Err(format!("{program} did not bring {} {}", pin.name, pin.version).into());
    }
    let bytes = fs::read(only_file(scratch.path())?)?;
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != pin.sha256 {
        return Err(format!("{} {} has sha256 {found}, not {}", pin.name, pin.version, pin.sha256).into());
    }
    Ok(bytes)
}

fn only_file(directory: &Path) -> Result<PathBuf> {
    let mut paths = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    match (paths.next(), paths.next()) {
        (Some(path), None) => Ok(path?),
        _ => Err("the client should have left one file".into()),
    }
}
