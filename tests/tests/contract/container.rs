//! What the program finds around it: its process, its files, its limits, its network.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use serde_json::{Value, json};

use super::{Clause, World};

const PLAIN: &[Clause] = &[
    ("Process: PORT MUST be set, and is 8080 if nobody says otherwise", |world| {
        assert_eq!(plain(world)["environment"]["PORT"], "8080");
    }),
    ("Process: K_SERVICE, K_CONFIGURATION and K_REVISION SHOULD be set", |world| {
        let environment = &plain(world)["environment"];
        assert_eq!([&environment["K_SERVICE"], &environment["K_CONFIGURATION"]], ["plain", "plain"]);
        assert!(environment["K_REVISION"].as_str().expect("a revision").starts_with("plain-00001-"));
    }),
    ("Process: nothing of the platform's own environment is inherited", |world| {
        let environment = plain(world)["environment"].clone();
        let names: Vec<&String> = environment.as_object().expect("variables").keys().collect();
        for theirs in ["HAAR_", "CLOUDSDK_CONFIG", "CARGO", "LISTEN_FDS", "NOTIFY_SOCKET", "CLOUD_RUN_"] {
            assert!(!names.iter().any(|name| name.starts_with(theirs)), "{names:?}");
        }
    }),
    ("Process: terminal SHOULD NOT be true", |world| {
        assert_eq!(plain(world)["terminals"], json!([false, false, false]));
    }),
    ("Process: nothing is open but the three", |world| {
        // The fourth is the directory that is read.
        assert_eq!(plain(world)["descriptors"], json!([0, 1, 2, 3]));
    }),
    ("File descriptors: a read from stdin SHOULD always result in EOF", |world| {
        assert_eq!(plain(world)["stdin ends"], true);
    }),
    ("User: the image's user SHOULD be the program's, and no other", |world| {
        let told = plain(world);
        let all_four = |id: &Value| format!("{id}\t{id}\t{id}\t{id}");
        assert_eq!(told["status"]["Uid"], all_four(&told["user"]));
        assert_eq!(told["status"]["Gid"], all_four(&told["group"]));
        assert_eq!([&told["user"], &told["umask"]], [1000, 0o022]);
    }),
    ("State: the process has a PID namespace of its own", |world| {
        assert!(plain(world)["processes"].as_array().expect("processes").len() <= 3);
    }),
    ("Default filesystems: the devices and links of OCI MUST be there", devices),
    ("Default filesystems: /tmp MUST be read-write, for everybody", |world| {
        let told = plain(world);
        assert!(mode(&told, "/tmp").starts_with("drwxrwxrw"));
        assert_eq!(told["written"]["/tmp"], "kept");
    }),
    ("Default filesystems: /var/log MAY be a directory with write permissions, and is", |world| {
        let told = plain(world);
        assert!(mode(&told, "/var/log").starts_with("drwxrwxrw"));
        assert_eq!(told["written"]["/var/log"], "kept");
    }),
    ("Default filesystems: /etc/resolv.conf SHOULD be a file that only root changes", |world| {
        assert!(mode(&plain(world), "/etc/resolv.conf").starts_with("-rw-r--r--"));
    }),
    ("Devices: /dev/console SHOULD NOT be there, nor any of the machine's", |world| {
        for path in ["/dev/console", "/dev/mem", "/dev/kmsg", "/dev/sda", "/proc/kcore"] {
            let found = plain(world)["files"][path].clone();
            assert!(found.as_str().is_some_and(|found| found.starts_with("FileNotFound")), "{path}: {found}");
        }
    }),
    ("DNS: names SHOULD be found by the resolver of /etc/resolv.conf", |world| {
        let told = plain(world);
        assert!(told["resolv.conf"].as_str().expect("text").contains("nameserver 169.254.169.254"));
        assert_eq!(told["resolved"]["metadata.google.internal"], json!(["169.254.169.254"]));
        assert_eq!(told["resolved"]["run.googleapis.com"], json!(["199.36.153.8"]));
        assert_eq!(told["resolved"]["localhost"], json!(["127.0.0.1"]));
    }),
    ("Control groups: the limits SHOULD be exposed", |world| {
        exposes(&plain(world), 512 << 20, 1.0);
    }),
    ("Control groups: they SHOULD be mounted read-only", |world| {
        for (path, outcome) in plain(world)["cgroups changed"].as_object().expect("groups") {
            let outcome = outcome.as_str().expect("an outcome");
            assert!(outcome.contains("Read-only") || outcome.contains("No such file"), "{path}: {outcome}");
        }
    }),
    ("Sysctl: it SHOULD NOT be exposed for tuning", |world| {
        let told = plain(world);
        for (name, outcome) in told["sysctl changed"].as_object().expect("names") {
            assert_ne!(outcome, "changed", "{name}");
        }
        let mounts = told["mounts"].as_array().expect("mounts");
        for mount in mounts.iter().filter(|mount| mount[1] == "/proc/sys") {
            assert_eq!([&mount[0], &mount[2]], ["proc", "proc"]);
            assert!(mount[3].as_str().expect("options").split(',').any(|option| option == "ro"), "{mount}");
        }
    }),
    ("Seccomp: privileges cannot be gained, nor raw sockets had", |world| {
        let told = plain(world);
        assert_eq!([&told["status"]["NoNewPrivs"], &told["status"]["Seccomp"]], ["1", "2"]);
        assert!(told["raw socket"].as_str().expect("an error").starts_with("PermissionError"));
    }),
    ("Cloud Run: the filesystem can be written to", |world| {
        let written = &plain(world)["written"];
        for path in ["/workspace", "/var/tmp", "/dev/shm"] {
            assert_eq!(written[path], "kept", "{path}");
        }
        assert!(
            written["/root"].as_str().expect("an outcome").starts_with("PermissionError"),
            "permissions hold"
        );
    }),
    ("Cloud Run: the hostname is localhost", |world| {
        assert_eq!(plain(world)["hostname"], "localhost");
    }),
    ("Outbound network connectivity: what the machine reaches is reached", |world| {
        if let Some(address) = lighthouse() {
            assert_eq!(world.get(&world.plain, &format!("/dial?{address}")).body, "ahoy");
        }
    }),
    ("Metadata services: project, region, instance and account, to who says Metadata-Flavor", metadata),
];

fn plain(world: &World) -> Value {
    world.told(&world.plain)
}

fn mode(told: &Value, path: &str) -> String {
    let found = &told["files"][path];
    found["mode"].as_str().unwrap_or_else(|| panic!("{path}: {found}")).to_owned()
}

fn devices(world: &World) {
    let told = plain(world);
    for device in ["full", "null", "ptmx", "random", "tty", "urandom", "zero"] {
        assert!(mode(&told, &format!("/dev/{device}")).starts_with("crw-rw-rw-"), "{device}");
    }
    for (link, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        assert_eq!(told["files"][format!("/dev/{link}")]["link"], format!("/proc/self/fd{target}"), "{link}");
        assert!(told["files"][format!("/proc/self/fd{target}")]["mode"].is_string(), "{target}");
    }
}

/// The files of version 1 or of version 2 say these limits.
fn exposes(told: &Value, memory: u64, processors: f64) {
    let group =
        |path: &str| told["cgroups"][format!("/sys/fs/cgroup/{path}")].as_str().expect("a text").trim();
    let number =
        |path: &str| group(path).parse::<f64>().unwrap_or_else(|_| panic!("{path}: {}", group(path)));
    let (of_memory, quota, period, weight) = match group("memory.max").starts_with("FileNotFound") {
        true => (
            "memory/memory.limit_in_bytes",
            number("cpu/cpu.cfs_quota_us"),
            number("cpu/cpu.cfs_period_us"),
            "cpu/cpu.shares",
        ),
        false => {
            let (quota, period) = group("cpu.max").split_once(' ').expect("a quota and a period");
            let number = |text: &str| text.parse().expect("a number");
            ("memory.max", number(quota), number(period), "cpu.weight")
        }
    };
    assert_eq!(group(of_memory), memory.to_string());
    assert_eq!(quota / period, processors);
    assert!(number(weight) >= 1.0);
}

fn metadata(world: &World) {
    let said = |path: &str| {
        let answer = world.get(&world.plain, &format!("/metadata?/computeMetadata/v1/{path}"));
        assert!(answer.body.contains("metadata-flavor: Google"), "{}", answer.body);
        answer.body.split_once("\r\n\r\n").expect("a body").1.to_owned()
    };
    assert_eq!(said("project/project-id"), tests::PROJECT);
    let number = said("project/numeric-project-id");
    assert!(number.parse::<u64>().is_ok(), "{number}");
    assert_eq!(said("instance/region"), format!("projects/{number}/regions/us-central1"));
    assert!(said("instance/id").len() > 40);
    let account = format!("{number}-compute@developer.gserviceaccount.com");
    assert_eq!(said("instance/service-accounts/default/email"), account);
    let token: Value = serde_json::from_str(&said("instance/service-accounts/default/token")).expect("JSON");
    assert_eq!(token["token_type"], "Bearer");
    assert!(token["access_token"].is_string() && token["expires_in"].as_u64() > Some(0));
}

/// Somebody who says a word on an address of this machine that is not its loopback's; none where there is no network.
fn lighthouse() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok().filter(|own| !own.ip().is_loopback())?;
    let listener = TcpListener::bind((own.ip(), 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"ahoy");
        }
    });
    Some(address)
}

/// `haar up --outbound off`: nobody is reached but Google's services and the metadata server.
#[test]
fn a_program_without_a_way_out() {
    let Some(world) = World::new(&["--outbound", "off"]) else { return };
    if let Some(address) = lighthouse() {
        let heard = world.get(&world.plain, &format!("/dial?{address}")).body;
        assert!(heard.contains("Error"), "{heard}");
    }
    metadata(&world);
    assert_eq!(plain(&world)["resolved"]["run.googleapis.com"], json!(["199.36.153.8"]));
}

const SHAPED: &[Clause] = &[
    ("Protocols and ports: the developer MAY specify the port, and finds it in PORT", |world| {
        let told = shaped(world);
        assert_eq!(told["environment"]["PORT"], "8801");
    }),
    ("Process: command and args are the program's, in this order", |world| {
        let told = shaped(world);
        assert_eq!(told["command"], json!(["python3", "-u", "/workspace/main.py", "ebb", "and flood", ""]));
    }),
    ("Process: a working directory is where the program begins", |world| {
        assert_eq!(shaped(world)["directory"], "/tmp");
    }),
    ("Process: variables come as they were given, those that refer to others resolved", |world| {
        let environment = shaped(world)["environment"].clone();
        assert_eq!(environment["SEA"], "north = cold, \"deep\"\n$HOME");
        assert_eq!(environment["EMPTY"], "");
    }),
    ("Control groups: they MUST be configured as asked for", |world| {
        exposes(&shaped(world), 256 << 20, 2.0);
    }),
];

fn shaped(world: &World) -> Value {
    let status = world.haar.status();
    let services = status["services"].as_array().expect("services").clone();
    let url =
        services.iter().map(|service| &service["url"]).find(|url| super::host(url).starts_with("shaped-"));
    world.told(&super::host(url.expect("it is there")))
}

#[test]
fn what_a_program_finds_around_it() {
    let Some(world) = World::new(&[]) else { return };
    world.holds_to(PLAIN);
    let container = json!({
        "command": ["python3", "-u", "/workspace/main.py"],
        "args": ["ebb", "and flood", ""],
        "workingDir": "/tmp",
        "ports": [{ "containerPort": 8801 }],
        "env": [{ "name": "SEA", "value": "north = cold, \"deep\"\n$HOME" }, { "name": "EMPTY", "value": "" }],
        "resources": { "limits": { "cpu": "2", "memory": "256Mi" } },
    });
    world.serve("shaped", container, json!({}));
    world.holds_to(SHAPED);
    an_image_that_brings_nothing(&world);
}

/// What the contract promises is the platform's, not the image's.
fn an_image_that_brings_nothing(world: &World) {
    if !tests::have("busybox") {
        return;
    }
    let script = "mkdir -p /www/cgi-bin; printf '%s\\n' '#!/bin/busybox sh' echo \
                  'PATH=/bin; for tool in ls id cat; do /bin/busybox ln -sf busybox /bin/$tool; done' \
                  'id -u; ls -ld /tmp /dev/null /dev/fd /dev/shm /proc/self /etc/resolv.conf /etc/hosts /sys/fs/cgroup 2>&1' \
                  > /www/cgi-bin/look; chmod +x /www/cgi-bin/look; exec /bin/busybox httpd -f -p $PORT -h /www";
    let image = tests::busybox_image(&world.haar);
    let container = json!({ "image": image, "command": ["/bin/busybox", "sh", "-c", script] });
    let host = world.serve("bare", container, json!({}));
    let answer = world.get(&host, "/cgi-bin/look");
    assert!(answer.body.starts_with("0\n"), "an image without a user is root's: {}", answer.body);
    assert!(!answer.body.contains("No such file"), "{}", answer.body);
}
