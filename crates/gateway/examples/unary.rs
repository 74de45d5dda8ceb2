//! A gateway that answers a trivial call, for load tools to lean on: prints its address and what to send, then serves
//! until it is killed. `docs/performance.md` says how it is measured.

#[path = "../tests/world.rs"]
#[allow(dead_code, missing_docs, clippy::unwrap_used)]
mod world;

#[tokio::main]
async fn main() {
    let world = world::World::new();
    println!("http://{}{}", world.address(), world::ACCESS);
    std::future::pending::<()>().await;
}
