//! The conformance suite that servers of HTTP/2 are commonly measured with, run against the ingress where it is
//! there: built by `scripts/test-clients`, or named by `HAAR_H2SPEC`. What of it matters most is in `frames` as well,
//! which needs no other program. The whole of haar's port is measured with it too, in `tests`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Output,
};

use http::Response;
use http_body_util::BodyExt;
use ingress::ServiceRoute;

use crate::harness::*;

/// What begins neither as HTTP/2 nor as TLS is HTTP/1 on our port, and is answered 400 in its words before the connection
/// is closed. h2spec reads those words as a frame.
const EXCEPTED: [&str; 1] = ["× 2: Sends invalid connection preface"];

fn program() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients/go/h2spec");
    let named = std::env::var_os("HAAR_H2SPEC").map_or(built, PathBuf::from);
    named.exists().then_some(named)
}

async fn h2spec(program: PathBuf, port: u16) -> Output {
    let mut command = tokio::process::Command::new(program);
    command.args(["--strict", "--timeout", "2", "--host", "127.0.0.1", "--port", &port.to_string()]);
    command.kill_on_drop(true).output().await.unwrap()
}

#[test]
fn h2spec_finds_nothing_that_is_wrong() {
    let Some(program) = program() else {
        // Past the harness, which hides what passing tests print.
        let _ = writeln!(std::io::stderr(), "SKIPPED: h2spec is not installed");
        return;
    };
    test(async {
        let hosts = vec![HOST.into(), "127.0.0.1".into()];
        let service = ServiceRoute { hosts, ..service() };
        // The instance answers once it has the whole request: a stream that is already answered is not looked at closely.
        let after_all = server(|request, _| async {
            let _ = request.into_body().collect().await;
            Response::new(full("a body that fills a window"))
        });
        let world = World::with(after_all, quick(), revision(), service).await;
        let output = h2spec(program, world.address.port()).await;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, end) = report.rsplit_once("Failures:").unwrap_or(("", &report));
        let failed: Vec<_> = end.lines().filter(|line| line.contains('×')).map(str::trim).collect();
        assert_eq!(failed, EXCEPTED, "{end}");
        assert!(report.contains("0 skipped"), "{end}");
    });
}
