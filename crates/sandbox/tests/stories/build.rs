//! What the step of a build needs: the host's network, and directories that it may fill whoever it runs as.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use sandbox::spec::{Access, InsideFile, Listen, Network, Protocol};
use sandbox::{Config, Isolation, Kind, Level, Sandbox};

use crate::world::{World, bind, make_base, run_on, spec_on};

/// Another user, and the first of its further ids.
const USER: u32 = 54_321;
const FIRST: u32 = 700_000;

pub(crate) async fn a_step_reaches_what_the_host_reaches(world: &World) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"the host").unwrap());
    let script =
        format!("/test inside ask 127.0.0.1:{port}; cat /etc/hosts; ls /sys/fs; /test inside attempts");
    let mut spec = world.shell(&script);
    spec.network = Network::Host;
    spec.files = vec![InsideFile { path: "/etc/hosts".into(), bytes: b"names\n".to_vec(), mode: 0o644 }];
    let said = world.run(spec).await;
    answer.join().unwrap();
    assert!(said.out.starts_with("the host\nnames\ncgroup\n"), "{}{}", said.out, said.err);
    // The walls other than the network's are the same; over the host's network it has no rights.
    for refused in ["mount=1", "unshare=1", "raw=1", "packet=1", "netfilter=1", "init-root=13"] {
        assert!(said.out.contains(refused), "{refused}: {}", said.out);
    }
}

pub(crate) async fn a_step_has_its_own_processes_and_name(world: &World) {
    let mut spec = world.shell("hostname; ls /proc | grep -c '^[0-9]'; readlink /proc/self/ns/net");
    spec.network = Network::Host;
    spec.hostname = "step".into();
    let said = world.run(spec).await;
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let (name, rest) = said.out.split_once('\n').unwrap();
    let (processes, network) = rest.split_once('\n').unwrap();
    assert_eq!((name, network.trim()), ("step", ours.to_str().unwrap()));
    assert!(processes.parse::<u32>().unwrap() < 6, "{processes}");
}

pub(crate) async fn nothing_is_offered_in_the_hosts_network(world: &World) {
    let mut spec = world.shell("true");
    spec.network = Network::Host;
    spec.listen = vec![Listen { addr: "169.254.169.254:80".parse().unwrap(), protocol: Protocol::Tcp }];
    assert_eq!(world.sandbox.start(spec).await.err().unwrap().kind, Kind::Invalid);
}

pub(crate) async fn a_directory_is_another_users_to_fill(world: &World) {
    let shared = world.directory("workspace");
    std::fs::write(shared.join("source"), "old").unwrap();
    fill(&world.sandbox, &world.base, &shared).await;
    assert_eq!(std::fs::metadata(shared.join("deep/file")).unwrap().uid(), 33);
    assert_eq!(std::fs::metadata(&shared).unwrap().uid(), 33);
    std::fs::remove_dir_all(&shared).unwrap();
}

/// Lends a directory that holds a file to user 33 of the inside, who changes it and adds to it.
async fn fill(sandbox: &Sandbox, base: &Path, shared: &Path) {
    sandbox.writable_directory(shared, 33).await.unwrap();
    let script = "cd /workspace; echo new > source; mkdir -m 700 deep; umask 77; echo x > deep/file; id -u";
    let mut spec = spec_on(base, &["sh", "-c", script]);
    spec.user = "web".into();
    spec.mounts.push(bind(shared, "/workspace", Access::ReadWrite));
    let said = run_on(sandbox, spec).await;
    assert_eq!(said.err, "");
    println!("inside {}", said.out.trim());
}

/// Another user's part in a story. Words: data id.
pub(crate) fn lend_by(words: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let home = tempfile::tempdir().unwrap();
    make_base(&home.path().join("base"));
    let base = home.path().join("base");
    let config = Config {
        data_id: words[0].clone(),
        layers: base.clone(),
        warm: 0,
        wiring: Default::default(),
        isolation: Isolation::Best,
    };
    runtime.block_on(async {
        let sandbox = Sandbox::open(config).unwrap();
        if sandbox.host().level == Level::Process {
            println!("skipped: {}", sandbox.host().sentence);
            return;
        }
        let shared = home.path().join("workspace");
        std::fs::create_dir(&shared).unwrap();
        std::fs::write(shared.join("source"), "old").unwrap();
        fill(&sandbox, &base, &shared).await;
        println!("outside {}", std::fs::metadata(shared.join("source")).unwrap().uid());
        sandbox.reclaim_directory(&shared).await.unwrap();
        assert_eq!(std::fs::read_to_string(shared.join("deep/file")).unwrap(), "x\n");
        std::fs::remove_dir_all(&shared).unwrap();
        println!("removed");
    });
}

pub(crate) async fn a_directory_is_lent_without_root_too(world: &World) {
    let exe = std::env::current_exe().unwrap();
    let output = Command::new(exe)
        .args(["lend", &format!("{}-lend", world.data_id)])
        .uid(USER)
        .gid(USER)
        .output()
        .unwrap();
    told_of_lending(&output, "inside 0", USER);
}

/// The files that give a user further ids are the machine's, so others are put in their place for one command. The user
/// has to be one whom the machine knows by name.
pub(crate) async fn a_directory_is_lent_with_subordinate_ids(world: &World) {
    let ids = world.directory("subordinate").join("ids");
    std::fs::write(&ids, format!("nobody:{FIRST}:65536\n")).unwrap();
    let script = "mount --bind $0 /etc/subuid && mount --bind $0 /etc/subgid && \
                  exec setpriv --reuid nobody --regid nogroup --clear-groups $1 lend $2";
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(&ids).arg(exe);
    let Ok(output) = command.arg(format!("{}-sub", world.data_id)).env("USER", "nobody").output() else {
        println!("    skipped: no unshare");
        return;
    };
    if String::from_utf8_lossy(&output.stdout).contains("inside 0") {
        println!("    skipped: no newuidmap");
        return;
    }
    told_of_lending(&output, "inside 33", FIRST + 32);
}

fn told_of_lending(output: &std::process::Output, inside: &str, owner: u32) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if out.starts_with("skipped") {
        println!("    {out}");
        return;
    }
    assert_eq!(out, format!("{inside}\noutside {owner}\nremoved\n"), "{err}");
}
