//! Bodies of any size pass in little memory. Measured in a process of its own, since a process has one high-water mark:
//! client, ingress and instance are all in it, so what it bounds is the sum of the three.

use std::{
    pin::Pin,
    process::Command,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ingress::Config;

use crate::harness::*;

const TOTAL: usize = 512 << 20;
const PART: usize = 64 << 10;
/// What the process may grow to; it grows to 14 MiB.
const MOST: usize = 64 << 20;

/// A body made as it is taken.
struct Made(usize);

impl Body for Made {
    type Data = Bytes;
    type Error = ingress::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ingress::BoxError>>> {
        static ZEROS: [u8; PART] = [0; PART];
        let Some(left) = self.0.checked_sub(PART) else { return Poll::Ready(None) };
        self.0 = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS)))))
    }
}

async fn count(mut body: Incoming) -> usize {
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    total
}

/// The most memory that this process has had, in bytes.
fn high_water() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

fn unlimited() -> Config {
    Config { max_request: u64::MAX, ..quick() }
}

#[test]
fn half_a_gigabyte_goes_to_an_instance_and_back_in_little_memory() {
    let itself = std::env::current_exe().unwrap();
    for protocol in ["http1", "http2"] {
        let name = format!("streaming::echoed_over_{protocol}");
        let output = Command::new(&itself).args(["--ignored", "--exact", &name]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn echoed_over_http1() {
    test(async {
        let world = World::with(echo(), unlimited(), revision(), service()).await;
        let request = Request::post("/").header("host", HOST).body(Made(TOTAL).boxed_unsync()).unwrap();
        let response = world.http1().await.send_request(request).await.unwrap();
        assert_eq!(count(response.into_body()).await, TOTAL);
        assert!(high_water() < MOST, "{} MiB", high_water() >> 20);
    });
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn echoed_over_http2() {
    test(async {
        let world = World::with(echo(), unlimited(), h2c(revision()), service()).await;
        let uri = format!("http://{HOST}/");
        let request = Request::post(uri).body(Made(TOTAL).boxed_unsync()).unwrap();
        let response = world.http2().await.send_request(request).await.unwrap();
        assert_eq!(count(response.into_body()).await, TOTAL);
        assert!(high_water() < MOST, "{} MiB", high_water() >> 20);
    });
}
