//! Makes message types and the run-time schema from the tables.

use std::{env, error::Error, fs, path::Path};

use prost::Message;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=tables");
    println!("cargo:rerun-if-changed=build.rs");
    let mut set = FileDescriptorSet::default();
    let mut paths: Vec<_> = fs::read_dir("tables")?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        set.merge(&fs::read(path)?[..])?;
    }
    let out = env::var("OUT_DIR")?;
    generate_types(set, Path::new(&out))
}

fn generate_types(set: FileDescriptorSet, out: &Path) -> Result<(), Box<dyn Error>> {
    prost_build::Config::new()
        .btree_map(["."])
        .bytes(["."])
        .include_file("types.rs")
        .out_dir(out)
        .compile_fds(set)?;
    Ok(())
}
