//! Makes the message types and the run-time schema from the tables. Needs neither protoc nor a network.

#[path = "build/descriptor.rs"]
mod descriptor;
#[allow(dead_code, missing_docs)]
#[path = "src/layout.rs"]
mod layout;
#[path = "build/schema.rs"]
mod schema;
#[path = "build/types.rs"]
mod types;

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;

/// Files that only serve to write options in other files: nobody sends what they define.
const ONLY_OPTIONS: &[&str] = &[
    "google/api/annotations.proto",
    "google/api/client.proto",
    "google/api/field_behavior.proto",
    "google/api/field_info.proto",
    "google/api/http.proto",
    "google/api/resource.proto",
    "google/api/routing.proto",
    "google/protobuf/descriptor.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["tables", "build", "build.rs", "src/layout.rs"] {
        println!("cargo:rerun-if-changed={input}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut known = descriptor::Set::default();
    let mut typed = FileDescriptorSet::default();
    for path in fs::read_dir("tables")? {
        let bytes = fs::read(path?.path())?;
        known.merge(&bytes[..])?;
        typed.merge(&bytes[..])?;
    }
    known.files.retain(|file| !ONLY_OPTIONS.contains(&file.name.as_str()));
    known.files.sort_by(|one, other| one.name.cmp(&other.name));
    let methods = schema::write(&known, &out)?;
    typed.file.retain(|file| !ONLY_OPTIONS.contains(&file.name()));
    typed.file.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(types::write(typed, methods, &out)?)
}
