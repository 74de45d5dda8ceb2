//! What is committed under `tables`.

use std::{fs, io, sync::LazyLock};

use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorSet;

/// All tables as one descriptor set: encoded sets that follow each other are one.
fn bytes() -> Vec<u8> {
    let tables = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tables")).expect("there are tables");
    let read = |table: io::Result<fs::DirEntry>| fs::read(table?.path());
    tables.flat_map(|table| read(table).expect("a table can be read")).collect()
}

/// All tables as `prost-reflect` understands them.
pub(crate) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(&bytes()[..]).expect("the tables agree with each other"));

#[test]
fn tables_hold_no_comments() {
    let set = FileDescriptorSet::decode(&bytes()[..]).unwrap();
    assert!(set.file.len() > 100, "only {} files", set.file.len());
    for file in set.file {
        assert!(file.source_code_info.is_none(), "{} has comments", file.name());
    }
}

#[test]
fn no_file_is_in_two_tables() {
    let mut names: Vec<String> = FileDescriptorSet::decode(&bytes()[..])
        .unwrap()
        .file
        .iter()
        .map(|file| file.name().to_owned())
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn what_is_secret_is_not_shown() {
    use apis::google::cloud::{
        secretmanager::v1::{AccessSecretVersionResponse, SecretPayload},
        sql,
    };
    let payload = Some(SecretPayload { data: "hunter2".into(), data_crc32c: None });
    let response = AccessSecretVersionResponse { name: "projects/1".into(), payload };
    let shown = format!("{response:?}");
    assert!(shown.contains("projects/1") && shown.contains("SecretPayload { .. }"), "{shown}");
    let user = |password: &str| sql::v1beta4::User { password: password.into(), ..Default::default() };
    assert_eq!(format!("{:?}", user("hunter2")), "User { .. }");
    assert_eq!(format!("{:?}", sql::v1::User::default()), "User { .. }");
}
