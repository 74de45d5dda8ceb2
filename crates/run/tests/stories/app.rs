//! What runs in instances: a server small enough to be read, and programs that fail to be one.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

/// Whether `/sick` has been asked for: then `/health` is not well.
static SICK: AtomicBool = AtomicBool::new(false);
/// How many times `/ready` is still not to be well, by `/busy/TIMES`.
static BUSY: AtomicU32 = AtomicU32::new(0);

/// The modes, each the command of an image of its own.
pub(crate) const MODES: [&str; 12] =
    ["serve", "other", "exit", "deaf", "shy", "tell", "nap", "stubborn", "once", "work", "brief", "tick"];

pub(crate) fn run(words: &[String]) -> ! {
    match words.first().map(String::as_str) {
        Some("serve" | "other") => serve(Ipv4Addr::UNSPECIFIED),
        Some("tick") => {
            std::thread::spawn(|| {
                loop {
                    println!("tick");
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            serve(Ipv4Addr::UNSPECIFIED)
        }
        Some("shy") => serve(Ipv4Addr::LOCALHOST),
        Some("exit") => {
            println!("reading the tide tables");
            eprintln!("no tide tables in here");
            std::process::exit(3)
        }
        Some("tell") => tell(),
        Some("look") => {
            words[1..].iter().for_each(|path| println!("{}", look(path).unwrap()));
            std::process::exit(0)
        }
        Some("nap") => {
            println!("nap {} of {}", variable("CLOUD_RUN_TASK_INDEX"), variable("CLOUD_RUN_TASK_COUNT"));
            std::thread::sleep(Duration::from_millis(200));
            std::process::exit(0)
        }
        Some("work") => work(),
        Some("brief") => {
            println!("begun");
            std::thread::sleep(Duration::from_millis(1500));
            std::process::exit(4)
        }
        Some("stubborn") => std::process::exit(i32::from(variable("CLOUD_RUN_TASK_ATTEMPT") != "2")),
        Some("once") if variable("CLOUD_RUN_TASK_ATTEMPT") != "0" => std::process::exit(0),
        _ => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
    }
}

/// Says what a task of a job knows of itself.
fn tell() -> ! {
    let who = std::env::var("GREETING").unwrap_or_else(|_| variable("CLOUD_RUN_JOB"));
    println!(
        "{who} {} {} of {}, attempt {}, PORT {}",
        variable("CLOUD_RUN_EXECUTION"),
        variable("CLOUD_RUN_TASK_INDEX"),
        variable("CLOUD_RUN_TASK_COUNT"),
        variable("CLOUD_RUN_TASK_ATTEMPT"),
        variable("PORT")
    );
    std::process::exit(0)
}

/// Says what an instance of a worker pool knows of itself, and goes on working.
fn work() -> ! {
    println!(
        "{} {}, PORT {}, K_SERVICE {}",
        variable("CLOUD_RUN_WORKER_POOL"),
        variable("CLOUD_RUN_WORKER_POOL_REVISION"),
        variable("PORT"),
        variable("K_SERVICE")
    );
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| "unset".into())
}

fn serve(address: Ipv4Addr) -> ! {
    let port = std::env::var("PORT").or(std::env::var("SIDE_PORT")).unwrap().parse::<u16>().unwrap();
    let listener = TcpListener::bind((address, port)).unwrap();
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept().unwrap();
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let body = look(&path).unwrap_or_else(|error| format!("error: {error}"));
        let sick = SICK.fetch_or(path == "/sick", Relaxed) && path == "/health";
        let busy =
            path == "/ready" && BUSY.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        let status = if sick || busy { "500 Not Well" } else { "200 OK" };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    }
}

/// What a path asks for: `/who`, `/busy/TIMES`, `/env/NAME`, `/names/HOST`, `/ask/HOST:PORT`, `/via/PORT/…`, `/quit/`, `/wait/`, `/eat/`, and of a path
/// `/file/PATH`, `/mode/PATH`, `/write/PATH`, `/fill/PATH`, `/dial/PATH`.
fn look(path: &str) -> std::io::Result<String> {
    let (kind, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    match kind {
        "env" => Ok(std::env::var(rest).unwrap_or_default()),
        "/who" => {
            static WHO: OnceLock<String> = OnceLock::new();
            Ok(WHO.get_or_init(|| format!("{:?}", SystemTime::now())).clone())
        }
        "busy" => {
            BUSY.store(rest.parse().unwrap_or(0), Relaxed);
            Ok("busy".into())
        }
        "names" => {
            let found = (rest, 80).to_socket_addrs()?;
            Ok(found.map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" "))
        }
        "wait" => {
            println!("waiting");
            std::thread::sleep(Duration::from_millis(300));
            Ok("waited".into())
        }
        "file" => std::fs::read_to_string(format!("/{rest}")),
        "via" => {
            let (port, rest) = rest.split_once('/').unwrap_or((rest, ""));
            let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
            write!(stream, "GET /{rest} HTTP/1.1\r\n\r\n")?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok(said.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
        }
        "quit" => std::process::exit(7),
        "eat" => loop {
            // Never given back, and written to, or it would be none.
            std::hint::black_box(vec![1_u8; 8 << 20].leak());
        },
        "mode" => {
            use std::os::unix::fs::PermissionsExt;
            Ok(format!("{:o}", std::fs::metadata(format!("/{rest}"))?.permissions().mode() & 0o7777))
        }
        "write" => std::fs::write(format!("/{rest}"), "written").map(|()| "written".into()),
        "fill" => Ok(fill(&format!("/{rest}"))?.to_string()),
        "dial" => {
            let mut stream = std::os::unix::net::UnixStream::connect(format!("/{rest}"))?;
            stream.write_all(b"ping")?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok(said)
        }
        "ask" => {
            let mut said = String::new();
            TcpStream::connect(rest)?.read_to_string(&mut said)?;
            Ok(said)
        }
        _ => Ok(std::env::args().nth(2).unwrap_or_default()),
    }
}

/// How many MiB a file can take.
fn fill(path: &str) -> std::io::Result<usize> {
    let mut file = std::fs::File::create(path)?;
    let whole = vec![7; 1 << 20];
    Ok((0..4096).take_while(|_| file.write_all(&whole).is_ok()).count())
}
