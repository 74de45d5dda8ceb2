//! What programs are told to trust, as they read it.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::world::World;

#[tokio::test]
async fn the_bundle_holds_ours_and_the_machines() {
    let world = World::new();
    let bundle = gateway::bundle(world.ca.pem(), &[]).unwrap();
    assert!(bundle.starts_with(world.ca.pem().trim()));
}

#[tokio::test]
async fn java_reads_its_store() {
    if Command::new("keytool").arg("-help").output().is_err() {
        println!("skipped: there is no keytool on this machine");
        return;
    }
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trust.p12");
    std::fs::write(&path, gateway::java_store(world.ca.pem())).unwrap();
    let mut keytool = Command::new("keytool")
        .args(["-J-Duser.language=en", "-list", "-v", "-storetype", "PKCS12", "-keystore"])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // No password: an empty line where it is asked for.
    keytool.stdin.take().unwrap().write_all(b"\n").unwrap();
    let said = keytool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.contains("trustedCertEntry") && said.contains("Haar local CA"), "{said}");
}
