//! What comes in, from somebody who means harm.

use std::sync::Arc;

use build::{Settings, source};

use crate::world::World;

fn packed(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let root = tempfile::tempdir().unwrap();
    let mut stream = Vec::new();
    source::pack(root.path(), &Settings::default(), &mut stream).unwrap();
    // Without the end that the packer wrote.
    stream.truncate(stream.len() - 1024);
    let mut archive = tar::Builder::new(stream);
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let is_link = *kind == tar::EntryType::Symlink || *kind == tar::EntryType::Link;
        if is_link {
            header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        let content = if is_link { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(crate) async fn what_leads_out_of_a_folder_is_refused(world: Arc<World>) {
    use tar::EntryType::{Regular, Symlink};
    let out = world.build_packed(packed(&[("workspace/../../out", Regular, "x")])).await.built.unwrap_err();
    assert!(out.error.contains("leads out"), "{out}");
    // A link stays a link, and what is written through it stays inside.
    let target = world.home.path().join("target");
    std::fs::create_dir(&target).unwrap();
    let through = [
        ("workspace/link", Symlink, target.to_str().unwrap()),
        ("workspace/link/file", Regular, "x"),
        ("workspace/main.py", Regular, "print()"),
    ];
    let _ = world.build_packed(packed(&through)).await;
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    let nothing = world.build_packed(b"not a tar stream".to_vec()).await.built.unwrap_err();
    assert!(nothing.error.starts_with("what came is not a packed folder"), "{nothing}");
}
