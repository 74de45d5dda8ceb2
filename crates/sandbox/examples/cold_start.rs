//! How long until the first byte of a static program: executed bare, in a sandbox, and by runc where it is installed.
//!
//! `cargo run --release -p sandbox --example cold_start [ROUNDS]`, as root for the figures that count. The kinds take
//! turns, so that a busy moment of the machine hits all of them. Prints median and 99th percentile in milliseconds.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::spec::{Limits, Listen, Protocol};
use sandbox::wiring::Outward;
use sandbox::{Config, Isolation, Sandbox, Spec, Wiring};
use tokio::io::AsyncReadExt;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const PROGRAM: &str = "#include <unistd.h>\nint main(void) { return write(1, \"!\", 1) != 1; }\n";

fn main() -> Outcome<()> {
    sandbox::helper::entry();
    let rounds = std::env::args().nth(1).map_or(Ok(100), |n| n.parse())?;
    let home = tempfile::tempdir()?;
    let layers = make_layers(home.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(home.path(), &layers, rounds))
}

/// One layer with the program, and seven with a file each.
fn make_layers(home: &Path) -> Outcome<Vec<PathBuf>> {
    let mut layers = vec![make_layer(home)?];
    for number in 1..8 {
        let layer = home.join(format!("layer{number}"));
        std::fs::create_dir(&layer)?;
        std::fs::write(layer.join(format!("file{number}")), [b'x'; 4096])?;
        layers.push(layer);
    }
    Ok(layers)
}

fn make_layer(home: &Path) -> Outcome<PathBuf> {
    let layer = home.join("layer");
    std::fs::create_dir(&layer)?;
    std::fs::write(home.join("hello.c"), PROGRAM)?;
    let mut gcc = Command::new("gcc");
    let built =
        gcc.args(["-O2", "-static", "-o"]).arg(layer.join("hello")).arg(home.join("hello.c")).status()?;
    if built.success() { Ok(layer) } else { Err("gcc -static failed".into()) }
}

async fn measure(home: &Path, layers: &[PathBuf], rounds: usize) -> Outcome<()> {
    let layer = layers[0].as_path();
    let open = |warm, id: &str, wiring| {
        Sandbox::open(Config {
            data_id: format!("bench-{id}-{}", std::process::id()),
            layers: layer.into(),
            warm,
            isolation: Isolation::Best,
            wiring,
        })
    };
    let (warm, cold) = (open(2, "warm", Wiring::default())?, open(0, "cold", Wiring::default())?);
    let wiring = Wiring { offers: offers(), outward: Outward::Caught };
    let (wired, wired_cold) = (open(2, "wired", wiring.clone())?, open(0, "wired-cold", wiring)?);
    println!("{}", warm.host().sentence);
    let runc = make_bundle(home, layer).is_ok();
    let mut times: [Vec<Duration>; 7] = Default::default();
    for round in 0..rounds {
        times[0].push(bare(layer)?);
        times[1].push(boxed(&warm, spec(layer, round)).await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
        times[2].push(boxed(&warm, full_spec(layers, round)).await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
        times[3].push(boxed(&wired, Spec { listen: Vec::new(), ..full_spec(layers, round) }).await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
        times[4].push(boxed(&cold, spec(layer, round)).await?);
        times[5].push(boxed(&wired_cold, spec(layer, round)).await?);
        if runc && round % 4 == 0 {
            times[6].push(by_runc(home, round)?);
        }
    }
    let names = [
        "bare exec",
        "sandbox, prepared",
        "sandbox, prepared, 8 layers, limits, listeners",
        "sandbox, prepared, 8 layers, limits, wired",
        "sandbox, unprepared",
        "sandbox, unprepared, wired",
        "runc",
    ];
    for (name, times) in names.iter().zip(&mut times).filter(|(_, times)| !times.is_empty()) {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
        println!("{name:<48} median {:6.2} ms   p99 {:6.2} ms", at(50), at(99));
    }
    burst("", &warm, layer).await?;
    burst(", wired", &wired, layer).await
}

fn spec(layer: &Path, round: usize) -> Spec {
    Spec::new(format!("hello-{round}"), vec![layer.into()], "/nowhere".into(), vec!["/hello".into()])
}

/// As a service's instance would have it.
fn full_spec(layers: &[PathBuf], round: usize) -> Spec {
    Spec {
        layers: layers.to_vec(),
        limits: Limits { memory_bytes: Some(512 << 20), cpu_millis: Some(1000), pids: Some(512) },
        listen: offers(),
        ..spec(&layers[0], round)
    }
}

fn offers() -> Vec<Listen> {
    let listen = |addr: &str, protocol| Listen { addr: addr.parse().expect("an address"), protocol };
    vec![
        listen("169.254.169.254:80", Protocol::Tcp),
        listen("169.254.169.254:53", Protocol::Tcp),
        listen("169.254.169.254:53", Protocol::Udp),
        listen("199.36.153.8:443", Protocol::Tcp),
    ]
}

fn bare(layer: &Path) -> Outcome<Duration> {
    let begin = Instant::now();
    let mut child = Command::new(layer.join("hello")).stdout(Stdio::piped()).spawn()?;
    child.stdout.take().ok_or("no output")?.read_exact(&mut [0])?;
    let time = begin.elapsed();
    child.wait()?;
    Ok(time)
}

async fn boxed(sandbox: &Sandbox, spec: Spec) -> Outcome<Duration> {
    let begin = Instant::now();
    let mut instance = sandbox.start(spec).await?;
    instance.take_stdout().ok_or("no output")?.read_exact(&mut [0]).await?;
    let time = begin.elapsed();
    instance.wait().await;
    Ok(time)
}

/// A bundle with the namespaces and mounts that runc itself proposes.
fn make_bundle(home: &Path, layer: &Path) -> Outcome<()> {
    let made = Command::new("runc").arg("spec").current_dir(home).status()?;
    if !made.success() {
        return Err("runc spec failed".into());
    }
    let path = home.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    config["process"]["args"] = serde_json::json!(["/hello"]);
    config["process"]["terminal"] = false.into();
    config["process"]["rlimits"] = serde_json::json!([]);
    config["root"]["path"] = layer.to_string_lossy().into();
    for name in ["proc", "dev", "sys"] {
        std::fs::create_dir_all(layer.join(name))?;
    }
    std::fs::write(path, config.to_string())?;
    by_runc(home, usize::MAX).map(drop)
}

fn by_runc(home: &Path, round: usize) -> Outcome<Duration> {
    let name = format!("haar-bench-{}-{round}", std::process::id());
    let begin = Instant::now();
    let mut command = Command::new("runc");
    command.args(["run", &name]).current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn()?;
    child.stdout.take().ok_or("no output")?.read_exact(&mut [0])?;
    let time = begin.elapsed();
    child.wait()?;
    Ok(time)
}

/// Many at once, far beyond what is prepared.
async fn burst(how: &str, sandbox: &Sandbox, layer: &Path) -> Outcome<()> {
    const COUNT: usize = 200;
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for round in 0..COUNT {
        let (sandbox, spec) = (sandbox.clone(), spec(layer, round));
        tasks.push(tokio::spawn(async move { boxed(&sandbox, spec).await.map_err(|e| e.to_string()) }));
    }
    for task in tasks {
        task.await??;
    }
    println!("{COUNT} instances at once{how}: {:.2} s until the last is gone", begin.elapsed().as_secs_f64());
    Ok(())
}
