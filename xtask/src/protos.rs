//! Compiles proto files. Descriptors are kept as the bytes the compiler gives, for options that are extensions
//! (`google.api.http` among them) do not survive decoding into `prost_types`.

use prost::Message;
use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};

use crate::{Result, fetch::Files, tables::Descriptor};

/// A descriptor set whose files are not decoded.
#[derive(Clone, PartialEq, Message)]
struct RawSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

struct Published(Files);

impl FileResolver for Published {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let source = self.0.get(name).ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, source)
    }
}

/// Compiles these files and all that they import, imports before importers. Comments and source positions are
/// left out.
pub(crate) fn compile(published: Files, names: &[String]) -> Result<Vec<Descriptor>> {
    let mut sources = ChainFileResolver::new();
    sources.add(GoogleFileResolver::new());
    sources.add(Published(published));
    let mut compiler = Compiler::with_file_resolver(sources);
    compiler.include_imports(true).include_source_info(false);
    for name in names {
        compiler.open_file(name)?;
    }
    RawSet::decode(&compiler.encode_file_descriptor_set()[..])?
        .files
        .into_iter()
        .map(|bytes| Ok(Descriptor { name: file_name(&bytes)?, bytes }))
        .collect()
}

fn file_name(bytes: &[u8]) -> Result<String> {
    Ok(prost_types::FileDescriptorProto::decode(bytes)?.name().to_owned())
}

/// One table: a descriptor set of these files.
pub(crate) fn encode(files: Vec<Vec<u8>>) -> Vec<u8> {
    RawSet { files }.encode_to_vec()
}
