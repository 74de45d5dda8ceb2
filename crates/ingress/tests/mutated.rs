//! Requests with a few bytes changed, cut, doubled or swapped: the small brother of the fuzz target in `fuzz/`. The
//! instance in memory panics when it is sent what can be read in two ways, or more requests than the client made.

use proptest::{prelude::*, test_runner::TestRunner};

use crate::memory::Memory;

/// Requests that are right, and those that are nearly right, to begin with.
const SEEDS: [&str; 8] = [
    "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /two HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n12345GET /two HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, te\r\nupgrade: websocket\r\nte: trailers\r\ncontent-length: 3\r\n\r\nabc",
    "POST http://a/ HTTP/1.1\r\nhost: a\r\ntrailer: x\r\ntransfer-encoding: chunked\r\n\r\n1;x=y\r\nz\r\n0\r\nx: y\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncookie: a=b\r\ncookie: c=d\r\n\r\n",
    "PUT /%00?a=%zz HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\ncontent-length: 1\r\nforwarded: for=x\r\n\r\nx",
];

/// Bytes that mean something to somebody.
const SHARP: &[u8] = b"\r\n\t :;,\0\x0b\x7f\xff0159afGx-+*@/%\"";

#[derive(Clone, Debug)]
enum Change {
    Put(u8),
    Insert(u8),
    Cut(usize),
    Double(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let byte = || prop_oneof![prop::sample::select(SHARP), any::<u8>()];
    prop_oneof![
        byte().prop_map(Change::Put),
        byte().prop_map(Change::Insert),
        (1usize..12).prop_map(Change::Cut),
        (1usize..40).prop_map(Change::Double),
    ]
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), change()), 0..5);
    (prop::sample::select(&SEEDS[..]), changes).prop_map(|(seed, changes)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (place, change) in changes {
            apply(&mut bytes, place.index(seed.len()), change);
        }
        bytes
    })
}

fn apply(bytes: &mut Vec<u8>, place: usize, change: Change) {
    let place = place.min(bytes.len().saturating_sub(1));
    let size = bytes.len();
    let end = |length: usize| (place + length).min(size);
    match change {
        Change::Put(byte) => bytes[place..end(1)].fill(byte),
        Change::Insert(byte) => bytes.insert(place, byte),
        Change::Cut(length) => drop(bytes.drain(place..end(length))),
        Change::Double(length) => {
            let copy = bytes[place..end(length)].to_vec();
            bytes.splice(place..place, copy);
        }
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn whatever_is_changed_the_instance_sees_only_what_is_plain() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let memory = runtime.block_on(async { Memory::new() });
    let mut runner = TestRunner::new(cases(2000));
    let outcome = runner.run(&mutated(), |bytes| {
        let outcome = runtime.block_on(memory.feed(&bytes));
        // Every request that the instance was sent was answered, or the client is told that something was wrong.
        let answers = outcome.answer.windows(7).filter(|seven| seven == b"HTTP/1.").count();
        prop_assert!(answers >= outcome.seen.len() || outcome.answer.is_empty());
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn whatever_an_instance_answers_the_client_gets_an_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let memory = runtime.block_on(async { Memory::new() });
    let scripts = (prop::sample::select(&ANSWERS[..]), any::<prop::sample::Index>(), change());
    let mut runner = TestRunner::new(cases(500));
    let outcome = runner.run(&scripts, |(script, place, change)| {
        let mut bytes = script.as_bytes().to_vec();
        apply(&mut bytes, place.index(script.len()), change);
        let answer = runtime.block_on(memory.answered_with(&bytes));
        prop_assert!(answer.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answer));
        Ok(())
    });
    outcome.unwrap();
}

const ANSWERS: [&str; 4] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nx: y\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.0 404 Not Found\r\nset-cookie: a=b\r\n\r\nuntil the end",
    "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\nconnection: close, etag\r\ncontent-length: 5\r\n\r\n",
];
