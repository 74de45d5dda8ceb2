//! Erasing what time has ended.
//!
//! Readers never wait for this: to them, what is due is gone already. The sweep makes it so on the disk, and
//! finishes what a crash left half done.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use kernel::{Code, Result};
use tokio::time::Instant;

use super::Secrets;
use crate::record::SecretRecord;

/// How long it may take until what is due is erased.
const EVERY: Duration = Duration::from_secs(30);
/// When it is first looked at: after the calls that whoever starts the program waits for.
const FIRST: Duration = Duration::from_secs(5);

impl Secrets {
    /// Erases expired secrets, versions whose destruction was put off until now, and the versions of deleted
    /// secrets; moves rotation times that have come by their period.
    ///
    /// # Errors
    /// Those of the store. What was not erased is still due.
    pub async fn sweep(&self) -> Result<()> {
        let now = self.now();
        for (name, _) in self.secrets.mirror().scan("", "", usize::MAX, |_, secret| secret.expired(now)) {
            self.make_room(&name).await?;
        }
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now.0);
        for (id, _) in
            self.versions.mirror().scan("", "", usize::MAX, |_, version| is_due(version.destroy_at))
        {
            self.destroy_due(&id).await?;
        }
        for (id, gone) in self.gone.mirror().list() {
            if let Ok(uid) = u64::from_str_radix(&id, 16) {
                self.erase_gone(uid, gone.versions).await?;
            }
        }
        self.advance_rotations().await
    }

    async fn advance_rotations(&self) -> Result<()> {
        let now = self.now();
        let is_due =
            |secret: &SecretRecord| secret.settings.rotation.is_some_and(|rotation| rotation.is_due(now));
        for (name, _) in self.secrets.mirror().scan("", "", usize::MAX, |_, secret| is_due(secret)) {
            let advance = |secret: &mut SecretRecord| {
                if let Some(rotation) = &mut secret.settings.rotation {
                    rotation.advance(now);
                }
                Ok(())
            };
            match self.secrets.update(&name, "", advance).await {
                Err(error) if error.code() == Code::NotFound => {}
                moved => drop(moved?),
            }
        }
        Ok(())
    }

    /// Starts the task that sweeps for as long as somebody else holds the engine.
    pub(super) fn keep_sweeping(self: &Arc<Self>) {
        tokio::spawn(sweep_until_dropped(Arc::downgrade(self)));
    }
}

async fn sweep_until_dropped(secrets: Weak<Secrets>) {
    let mut ticks = tokio::time::interval_at(Instant::now() + FIRST, EVERY);
    loop {
        ticks.tick().await;
        let Some(secrets) = secrets.upgrade() else { return };
        if let Err(error) = secrets.sweep().await {
            tracing::warn!(%error, "what has expired could not be erased; trying again");
        }
    }
}
