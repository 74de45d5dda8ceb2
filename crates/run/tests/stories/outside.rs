//! What is outside an instance: the machine's networks, and what of ours is in nobody's way.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::Arc,
};

use apis::google::discovery::run::v1 as knative;
use kernel::BoxFuture;
use run::local::way::{Pipe, Straight, Target, Way};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::{
    knative::{container, deploy, manifest, state},
    world::World,
};

/// A way by a proxy that knows one domain, all of it on this machine.
pub(crate) struct Pilot;

impl Way for Pilot {
    fn needs_name(&self, host: &str) -> bool {
        host.ends_with(".sea")
    }

    fn dial(&self, target: Target) -> BoxFuture<'static, io::Result<Box<dyn Pipe>>> {
        match target {
            Target::Name(name, port) => Box::pin(async move {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                stream.write_all(name.as_bytes()).await?;
                Ok(Box::new(stream) as Box<dyn Pipe>)
            }),
            address => Straight.dial(address),
        }
    }
}

/// A server that says what it heard first, or a word of its own.
async fn lighthouse(word: &'static str) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Hanging up on what was not read would be a reset, which may overtake the word.
            tokio::spawn(async move {
                let _ = stream.write_all(word.as_bytes()).await;
                let _ = stream.shutdown().await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            });
        }
    });
    port
}

/// An address of this machine other than its loopback's, as it would use to send something far away.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
        _ => None,
    }
}

pub(crate) async fn a_container_reaches_the_machine_s_networks(world: Arc<World>) {
    if !world.is_wired() {
        return println!("    skipped: no redirection on this host");
    }
    let port = lighthouse("ahoy").await;
    deploy(&world, manifest("tide", "serve")).await;
    let ask = async |path: String| world.get("tide", &path).await.1;
    assert_eq!(ask(format!("/ask/fleet.sea:{port}")).await, "ahoy");
    assert!(ask("/names/fleet.sea".into()).await.starts_with("198.18.0."));
    // The machine's loopback is not the instance's.
    assert!(ask(format!("/ask/127.0.0.1:{port}")).await.contains("refused"));
    let Some(address) = own_address() else { return println!("    the rest skipped: no network here") };
    assert_eq!(ask(format!("/ask/{address}:{port}")).await, "ahoy");
    assert!(ask(format!("/ask/{address}:4560")).await.starts_with("error"));
    assert!(ask("/ask/169.254.169.254:8080".into()).await.starts_with("error"));
    assert!(ask("/ask/[2001:db8::1]:443".into()).await.contains("unreachable"));
    let told = |what: &str| world.log.0.lock().unwrap().iter().any(|(_, _, line)| line.contains(what));
    world.eventually("haar's port is refused", || told("haar is there")).await;
    world.eventually("metadata servers are refused", || told("169.254.169.254:8080 was refused")).await;
}

pub(crate) async fn a_container_may_have_any_port_of_ours(world: Arc<World>) {
    for port in [80, 443] {
        let mut tide = manifest(&format!("tide{port}"), "serve");
        container(&mut tide).ports =
            vec![knative::ContainerPort { container_port: Some(port), ..Default::default() }];
        let tide = deploy(&world, tide).await;
        let name = format!("tide{port}");
        assert_eq!(state(&tide, "Ready").0, "True", "{}", state(&tide, "Ready").1);
        assert_eq!(world.get(&name, "/env/PORT").await, (200, port.to_string()));
        if !world.is_wired() {
            let lines = world.log.0.lock().unwrap();
            assert!(
                lines.iter().any(|(_, _, line)| line.contains("Another port, such as 8080, avoids this."))
            );
            continue;
        }
        let ask = async |path: &str| world.get(&name, path).await.1;
        assert_eq!(ask("/ask/metadata.google.internal:80").await, format!("metadata of {name}"));
        assert_eq!(ask("/ask/run.googleapis.com:443").await, format!("https of {name}"));
        assert_eq!(ask("/ask/run.googleapis.com:80").await, format!("http of {name}"));
    }
}
