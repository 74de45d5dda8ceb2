//! Room on the disk: images that nothing uses any more go, by themselves once a day and when somebody asks.

use std::{sync::Arc, time::Duration};

use images::{Bounds, Collected, Mode};
use serde_json::{Value, json};

use super::Parts;

/// When it is looked for the first time, and how often then.
const FIRST: Duration = Duration::from_mins(20);
const EVERY: Duration = Duration::from_hours(24);
/// When it is looked again while something is being brought in.
const AGAIN: Duration = Duration::from_mins(5);

/// Makes room for as long as haar runs.
pub async fn keep(parts: Arc<Parts>) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = match make(&parts, Bounds::default(), Mode::Remove).await {
            Ok(None) => AGAIN,
            Ok(Some(collected)) => {
                tracing::info!(?collected, "images that nothing uses were removed");
                EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "no room could be made");
                EVERY
            }
        };
    }
}

async fn make(parts: &Parts, bounds: Bounds, mode: Mode) -> Result<Option<Collected>, String> {
    let (images, run) = (parts.images.clone(), parts.run.clone());
    let collecting = tokio::task::spawn_blocking(move || {
        images.collect(|| run.image_digests(), bounds, mode).map_err(|error| error.to_string())
    });
    collecting.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Answers `haar images prune`: `{"dry_run": BOOL, "older_than": SECONDS}`.
///
/// # Errors
/// Why nothing was removed, in a sentence.
pub async fn answer(parts: &Parts, asked: &Value) -> Result<Value, String> {
    let mode = if asked["dry_run"] == true { Mode::Look } else { Mode::Remove };
    let age = asked["older_than"].as_u64().map(Duration::from_secs);
    let bounds = Bounds { age: age.unwrap_or(Bounds::default().age), ..Bounds::default() };
    let collected = make(parts, bounds, mode).await?;
    let Collected { layers, blobs, bytes } =
        collected.ok_or("an image is being built or brought in just now; try again when that is done")?;
    Ok(json!({ "layers": layers, "blobs": blobs, "bytes": bytes }))
}
