//! Many at once: a burst at a service that has no instance.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::json;
use tests::{Haar, PROJECT, busybox_image, have, instances_run};

use super::{REGION, await_settled, manifest, ready};

const REQUESTS: usize = 300;
const CONCURRENCY: usize = 80;
/// Serves a page that takes a while, so that requests meet.
const SERVE: &str = "mkdir -p /www/cgi-bin; \
     printf '#!/bin/busybox sh\\n/bin/busybox sleep 1\\necho; echo slept' > /www/cgi-bin/sleep; \
     chmod +x /www/cgi-bin/sleep; exec /bin/busybox httpd -f -p $PORT -h /www";

fn instances(haar: &Haar) -> u64 {
    haar.status()["services"][0]["instances"].as_u64().expect("a count")
}

#[test]
fn a_burst_at_no_instance_loses_nothing_and_starts_what_it_needs() {
    let haar = Haar::start_with(&["--idle-after", "5"]);
    if !instances_run(&haar) || !have("busybox") {
        return;
    }
    let container = json!({ "image": busybox_image(&haar), "command": ["/bin/busybox", "sh", "-c", SERVE] });
    let mut body = manifest("burst", &container);
    body["spec"]["template"]["spec"]["containerConcurrency"] = CONCURRENCY.into();
    let collection =
        format!("{REGION}-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services");
    haar.api("POST", &collection, Some(&body));
    let served = await_settled(&haar, &format!("{collection}/burst"));
    assert_eq!(ready(&served)["status"], "True", "{served:#}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while instances(&haar) > 0 {
        assert!(Instant::now() < deadline, "the instance that proved it stays");
        std::thread::sleep(Duration::from_millis(100));
    }

    let host = served["status"]["url"].as_str().expect("a URL").trim_start_matches("http://");
    let mut streams: Vec<TcpStream> = (0..REQUESTS)
        .map(|_| {
            let mut stream = TcpStream::connect(haar.listen()).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
            write!(stream, "GET /cgi-bin/sleep HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
                .expect("a request");
            stream
        })
        .collect();
    let mut most = 0;
    for (number, stream) in streams.iter_mut().enumerate() {
        if number.is_multiple_of(REQUESTS / 10) {
            most = instances(&haar).max(most);
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("slept\n"), "{answer}");
    }
    let needed = REQUESTS.div_ceil(CONCURRENCY) as u64;
    assert!((1..=needed).contains(&most), "{most} instances were started where {needed} are enough");
}
