//! Ways out of an instance's network: what it finds at haar's addresses, and where everything else leads.

use std::net::SocketAddrV4;

use sandbox::spec::{Listen, Protocol};
use sandbox::wiring::{self, Outward};
use sandbox::{Config, Instance, Isolation, Listener, Redirection, Sandbox, Wiring};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::World;

/// The ports that haar and servers both like.
const PORTS: [u16; 3] = [80, 443, 53];

fn listen(addr: &str, protocol: Protocol) -> Listen {
    Listen { addr: addr.parse().unwrap(), protocol }
}

fn open(world: &World, name: &str, outward: Outward) -> Option<Sandbox> {
    if let Redirection::Missing(why) = &world.sandbox.host().redirection {
        println!("    skipped: {why}");
        return None;
    }
    let offers = vec![
        listen("169.254.169.254:80", Protocol::Tcp),
        listen("199.36.153.8:443", Protocol::Tcp),
        listen("0.0.0.0:53", Protocol::Udp),
    ];
    let config = Config {
        data_id: format!("{}-{name}", world.data_id),
        layers: world.base.clone(),
        warm: 1,
        isolation: Isolation::Best,
        wiring: Wiring { offers, outward },
    };
    Some(Sandbox::open(config).unwrap())
}

/// Says a word to each who comes.
async fn say(listener: TcpListener, word: String) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.write_all(word.as_bytes()).await;
    }
}

/// Answers at every listener with its address, and at the way out with the destination.
fn answer(instance: &mut Instance) {
    for (listen, listener) in instance.take_listeners() {
        match listener {
            Listener::Tcp(listener) => drop(tokio::spawn(say(listener, listen.addr.to_string()))),
            Listener::Udp(socket) => drop(tokio::spawn(async move {
                let mut question = [0; 64];
                while let Ok((_, from)) = socket.recv_from(&mut question).await {
                    let _ = socket.send_to(b"a name", from).await;
                }
            })),
        }
    }
    let Some(outward) = instance.take_outward() else { return };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = outward.accept().await {
            let to =
                wiring::destination(&stream).map_or_else(|error| error.to_string(), |to| format!("out {to}"));
            let _ = stream.write_all(to.as_bytes()).await;
        }
    });
}

async fn lines(instance: &mut Instance) -> Vec<String> {
    let mut out = String::new();
    instance.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
    out.lines().map(str::to_owned).collect()
}

fn ask(places: &[&str]) -> String {
    places.iter().map(|place| format!("/test inside ask {place}; ")).collect()
}

pub(crate) async fn every_connection_leads_to_haar(world: &World) {
    let Some(sandbox) = open(world, "ways", Outward::Caught) else { return };
    let script =
        ask(&["169.254.169.254:80", "199.36.153.8:443", "8.8.8.8:443", "10.1.2.3:5432", "199.36.153.8:22"])
            + "/test inside ask-udp 169.254.169.254:53; /test inside ask-udp 8.8.8.8:53";
    let mut instance = sandbox.start(world.shell(&script)).await.unwrap();
    answer(&mut instance);
    let expected = [
        "169.254.169.254:80",
        "199.36.153.8:443",
        "out 8.8.8.8:443",
        "out 10.1.2.3:5432",
        "out 199.36.153.8:22",
        "a name",
        "a name",
    ];
    assert_eq!(lines(&mut instance).await, expected);
}

pub(crate) async fn an_instance_may_listen_on_the_ports_of_haar(world: &World) {
    let Some(sandbox) = open(world, "ports", Outward::Caught) else { return };
    for port in PORTS {
        let places = [format!("127.0.0.1:{port}"), format!("{}:{port}", wiring::OWN)];
        let script = format!(
            "/test inside serve-all {port} mine & /test inside await {}; {}{}echo done; sleep 60",
            places[0],
            ask(&["169.254.169.254:80", "199.36.153.8:443", "9.9.9.9:80"]),
            ask(&[places[0].as_str(), places[1].as_str()])
        );
        let mut instance = sandbox.start(world.shell(&script)).await.unwrap();
        answer(&mut instance);
        let mut lines = tokio::io::BufReader::new(instance.take_stdout().unwrap()).lines();
        let expected =
            ["listening", "169.254.169.254:80", "199.36.153.8:443", "out 9.9.9.9:80", "mine", "mine", "done"];
        for line in expected {
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(line), "port {port}");
        }
        let mut reached = String::new();
        let own = (wiring::OWN, port).into();
        instance.connect_to(own).await.unwrap().read_to_string(&mut reached).await.unwrap();
        assert_eq!(reached, "mine");
    }
}

pub(crate) async fn without_a_way_out_only_what_is_offered_is_there(world: &World) {
    let Some(sandbox) = open(world, "closed", Outward::Nowhere) else { return };
    let script = ask(&["169.254.169.254:80", "8.8.8.8:443", "[2001:db8::1]:443"]);
    let mut instance = sandbox.start(world.shell(&script)).await.unwrap();
    assert!(instance.take_outward().is_none());
    answer(&mut instance);
    assert_eq!(
        lines(&mut instance).await,
        ["169.254.169.254:80", "network unreachable", "network unreachable"]
    );
}

pub(crate) async fn what_cannot_be_taken_out_is_refused_at_once(world: &World) {
    let Some(sandbox) = open(world, "refused", Outward::Caught) else { return };
    let script =
        ask(&["[2001:db8::1]:443"]) + "/test inside send-udp 8.8.8.8:4433; " + &ask(&["169.254.1.2:65304"]);
    let mut instance = sandbox.start(world.shell(&script)).await.unwrap();
    answer(&mut instance);
    let said = lines(&mut instance).await;
    assert_eq!(said[..2], ["network unreachable", "connection refused"]);
    assert!(!said[2].starts_with("out"), "{said:?}");
    // Whoever does not take the way out has none.
    let instance = sandbox.start(world.shell(&ask(&["8.8.8.8:443"]))).await;
    let mut instance = instance.unwrap();
    drop(instance.take_outward());
    let refused = lines(&mut instance).await;
    // It may have been quicker than we were.
    assert!(matches!(refused[0].as_str(), "connection refused" | "connection reset"), "{refused:?}");
}

pub(crate) async fn two_wired_instances_do_not_meet(world: &World) {
    let Some(sandbox) = open(world, "apart", Outward::Caught) else { return };
    let mut server = sandbox.start(world.inside(&["serve-all", "8080", "private"])).await.unwrap();
    server.take_stdout().unwrap().read_exact(&mut [0; 10]).await.unwrap();
    let own = SocketAddrV4::new(wiring::OWN, 8080);
    let mut other = sandbox.start(world.shell(&ask(&[&own.to_string(), "127.0.0.1:8080"]))).await.unwrap();
    answer(&mut other);
    assert_eq!(lines(&mut other).await, ["connection refused", "connection refused"]);
}
