//! Raw bytes at the ingress: from a client over HTTP/1 or HTTP/2, and from an instance that answers.
//!
//! The first byte says which. The instance of `memory` panics when it is sent anything that two servers could read
//! differently, so smuggling is found as well as panics and hangs.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

#[path = "../../crates/ingress/tests/front.rs"]
mod front;
#[path = "../../crates/ingress/tests/memory.rs"]
mod memory;

struct World {
    runtime: Runtime,
    memory: memory::Memory,
}

impl World {
    fn new() -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let memory = runtime.block_on(async { memory::Memory::new() });
        World { runtime, memory }
    }
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fuzz_target!(|bytes: &[u8]| {
    let Some((way, bytes)) = bytes.split_first() else { return };
    WORLD.with_borrow(|World { runtime, memory }| {
        runtime.block_on(async {
            match way % 4 {
                0 | 1 => drop(memory.feed(bytes).await),
                2 => drop(memory.feed(&[PREFACE, bytes].concat()).await),
                _ => drop(memory.answered_with(bytes).await),
            }
        });
    });
});
