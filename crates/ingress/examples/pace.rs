//! Sends requests at a fixed rate and prints latencies: from when a request was due if its connection was still
//! busy then (so that a stall is not left out), else from when it was sent (timers here are 1 ms coarse).
//!
//! `pace ADDRESS RATE CONNECTIONS SECONDS`

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
    time::Instant,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Result<(), Error> {
    stream.write_all(request).await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the connection was closed".into());
        }
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or("no length")?;
        let total = end + 4 + length.trim().parse::<usize>()?;
        while buffer.len() < total {
            if stream.read_buf(buffer).await? == 0 {
                return Err("the connection was closed".into());
            }
        }
        return Ok(());
    }
}

async fn client(
    address: SocketAddr,
    (start, step, count): (Instant, Duration, u32),
    latencies: Arc<Mutex<Vec<u32>>>,
) -> Result<(), Error> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nUser-Agent: pace\r\n\r\n", address.ip());
    let (mut buffer, mut mine) = (Vec::with_capacity(4096), Vec::with_capacity(count as usize));
    for turn in 0..count {
        let due = start + step * turn;
        let late = due <= Instant::now();
        tokio::time::sleep_until(due).await;
        let begun = if late { due } else { Instant::now() };
        exchange(&mut stream, request.as_bytes(), &mut buffer).await?;
        mine.push(begun.elapsed().as_micros() as u32);
    }
    latencies.lock().await.extend(mine);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().collect();
    let [_, address, rate, connections, seconds] = args.as_slice() else {
        return Err("pace ADDRESS RATE CONNECTIONS SECONDS".into());
    };
    let (address, rate, connections): (SocketAddr, u32, u32) =
        (address.parse()?, rate.parse()?, connections.parse()?);
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let step = Duration::from_secs(1) * connections / rate;
    let count = seconds.parse::<u32>()? * rate / connections;
    let start = Instant::now() + Duration::from_millis(100);
    let tasks: Vec<_> = (0..connections)
        .map(|i| {
            tokio::spawn(client(address, (start + step / connections * i, step, count), latencies.clone()))
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let mut all = latencies.lock().await;
    all.sort_unstable();
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
    println!("p50 {} us p99 {} us max {} us ({} requests)", at(0.5), at(0.99), at(1.0), all.len());
    Ok(())
}
