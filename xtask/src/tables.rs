//! Puts every descriptor in its table, and the tables where they are committed.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::{
    Result, discovery, fetch,
    list::{COMMON, DOCUMENTS, PRODUCTS, PROTOS, Source},
    protos, rest,
};

/// A `FileDescriptorProto`, encoded.
pub(crate) struct Descriptor {
    /// The file's name, as others import it.
    pub(crate) name: String,
    /// The encoded descriptor.
    pub(crate) bytes: Vec<u8>,
}

/// All tables: their bytes by file name.
pub(crate) struct Tables(BTreeMap<String, Vec<u8>>);

/// Makes all tables from the published packages.
pub(crate) fn make() -> Result<Tables> {
    let mut tables = described()?;
    for (name, files) in compiled()? {
        tables.insert(name.to_owned(), protos::encode(files));
    }
    Ok(Tables(tables.into_iter().map(|(name, bytes)| (format!("{name}.binpb"), bytes)).collect()))
}

/// The tables of products that have protos, and the common one.
fn compiled() -> Result<BTreeMap<&'static str, Vec<Vec<u8>>>> {
    let published = fetch::npm(&PROTOS)?;
    let mut names: Vec<String> = rest::IMPORTS.iter().chain(COMMON).map(|name| (*name).to_owned()).collect();
    for product in PRODUCTS {
        let Source::Protos(directory) = product.source else { continue };
        names.extend(published.keys().filter(|name| parent(name) == directory).cloned());
    }
    let mut tables: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in protos::compile(published, &names)? {
        tables.entry(table_of(&file.name)).or_default().push(file.bytes);
    }
    Ok(tables)
}

/// The tables of products that have only a discovery document.
fn described() -> Result<BTreeMap<String, Vec<u8>>> {
    let published = fetch::pip(&DOCUMENTS)?;
    let mut tables = BTreeMap::new();
    for product in PRODUCTS {
        let Source::Discovery(file, only) = product.source else { continue };
        let text = published.get(file).ok_or_else(|| format!("there is no document {file}"))?;
        let described = discovery::describe(text, only).map_err(|error| format!("{file}: {error}"))?;
        tables.insert(product.table.to_owned(), protos::encode(vec![described.bytes]));
    }
    Ok(tables)
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn table_of(file: &str) -> &'static str {
    let owner =
        PRODUCTS.iter().find(|product| matches!(product.source, Source::Protos(at) if at == parent(file)));
    owner.map_or("common", |product| product.table)
}

impl Tables {
    /// Replaces the committed tables.
    pub(crate) fn write(&self) -> Result<()> {
        for stale in committed()?.keys().filter(|name| !self.0.contains_key(*name)) {
            fs::remove_file(directory().join(stale))?;
        }
        for (name, bytes) in &self.0 {
            fs::write(directory().join(name), bytes)?;
            println!("{:>8} {name}", bytes.len());
        }
        Ok(())
    }

    /// Fails unless the committed tables are these.
    pub(crate) fn check(&self) -> Result<()> {
        let committed = committed()?;
        let names = self.0.keys().chain(committed.keys());
        match names.into_iter().find(|name| self.0.get(*name) != committed.get(*name)) {
            None => Ok(()),
            Some(name) => Err(format!("crates/apis/tables/{name} is stale: run `cargo xtask apis`").into()),
        }
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/apis/tables")
}

fn committed() -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory())? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(files)
}
