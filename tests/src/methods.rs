//! Which methods a test has called, as haar's own log tells: kept below `target`, for `docs/compatibility.md` to name
//! a test for each method.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What makes a haar's log name each call.
pub(crate) const LOG: &str = "warn,gateway::dispatch=debug";

/// Where each test's methods are, in a file of the test's name.
pub fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("target/methods")
}

/// Adds the methods that this log says were answered to those of the test that runs on this thread.
pub(crate) fn record(log: &str) {
    let current = std::thread::current();
    // A test's thread has its name; a module path is no path of a file.
    let Some(test) = current.name().filter(|name| name.contains("::")) else { return };
    let path = recorded().join(test.replace("::", "."));
    let mut methods: BTreeSet<String> =
        fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
    methods.extend(log.lines().filter_map(answered).map(str::to_owned));
    let lines: String = methods.iter().map(|method| method.clone() + "\n").collect();
    // What cannot be kept is missing when the page is written, and seen there.
    let _ = fs::create_dir_all(recorded()).and_then(|()| fs::write(path, lines));
}

/// The method of a line that tells of a call that succeeded, or that a method is there only to refuse.
fn answered(line: &str) -> Option<&str> {
    let (_, call) = line.split_once("gateway::dispatch: call method=\"")?;
    let (method, rest) = call.split_once('"')?;
    let is_its_answer = rest.contains("code=\"OK\"") || rest.contains("code=\"UNIMPLEMENTED\"");
    is_its_answer.then_some(method)
}
