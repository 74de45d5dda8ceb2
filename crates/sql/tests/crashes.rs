//! Haar ends at any moment of an instance's making, and comes back.

use std::time::Duration;

use apis::google::cloud::sql::v1beta4::{self as proto, database_instance::SqlInstanceState};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    instances::instance,
    world::{World, connect, newest},
};

/// Starts to make an instance and ends everything some time later, as if the process were killed: every task is
/// dropped where it waits.
fn killed_after(major: u32, moment: Duration) -> (TempDir, proto::Operation) {
    let runtime = Runtime::new().unwrap();
    let left = runtime.block_on(async {
        let world = World::new().await;
        let operation = world.insert(instance("db", major)).await.unwrap();
        tokio::time::sleep(moment).await;
        (world.abandon(), operation)
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    left
}

#[test]
fn an_instance_is_made_whole_whenever_haar_is_killed() {
    let Some(major) = newest("an_instance_is_made_whole_whenever_haar_is_killed") else { return };
    for moment in [0, 900].map(Duration::from_millis) {
        let (dir, operation) = killed_after(major, moment);
        Runtime::new().unwrap().block_on(async {
            let world = World::open(dir).await;
            world.succeeds(Ok(operation)).await;
            assert_eq!(world.get("db").await.unwrap().state(), SqlInstanceState::Runnable);
            connect(&world.socket("db"), "postgres", "root secret", "postgres").await.unwrap();
            world.sql.shut_down().await;
            assert_eq!(world.pid(), 0, "stopped in order");
        });
    }
}
