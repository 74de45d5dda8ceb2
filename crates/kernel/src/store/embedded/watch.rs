//! A watch: a position in the history that moves on as there is more.

use std::sync::Arc;

use tokio::sync::watch as channel;

use super::{Shared, database::Tables, history::Change};
use crate::{
    BoxFuture, Result,
    store::{Event, Revision, Watch, Watched},
};

/// How much of the history is read at a time when a watch has fallen behind.
const CHUNK: usize = 1 << 20;

pub(super) struct EmbeddedWatch {
    shared: Arc<Shared>,
    prefix: String,
    /// Everything up to here has been reported.
    position: Revision,
    head: channel::Receiver<Revision>,
}

impl EmbeddedWatch {
    pub(super) fn new(
        shared: Arc<Shared>,
        prefix: String,
        after: Revision,
        head: channel::Receiver<Revision>,
    ) -> Self {
        EmbeddedWatch { shared, prefix, position: after, head }
    }

    /// What has happened since the position; `None` when the store has moved past it and forgotten.
    async fn changes(&self) -> Result<Option<Vec<Arc<Change>>>> {
        if let Some(recent) = self.shared.recent.after(self.position) {
            return Ok(Some(recent));
        }
        let (shared, position) = (self.shared.clone(), self.position);
        let read = move || shared.read(|txn| Tables::changes(txn, position, CHUNK));
        let stored = tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err(super::closed()))?;
        Ok(stored.map(|changes| changes.into_iter().map(Arc::new).collect()))
    }

    async fn advance(&mut self) -> Result<Watched> {
        let Some(changes) = self.changes().await? else { return Ok(Watched::Compacted) };
        let Some(last) = changes.last() else { return Ok(Watched::Progress(self.position)) };
        self.position = last.revision;
        let events: Vec<Event> = changes.iter().flat_map(|change| change.events(&self.prefix)).collect();
        Ok(if events.is_empty() { Watched::Progress(self.position) } else { Watched::Events(events) })
    }

    async fn advance_when_possible(&mut self) -> Option<Watched> {
        self.head.wait_for(|head| *head > self.position).await.ok()?;
        match self.advance().await {
            Ok(watched) => Some(watched),
            Err(error) => {
                tracing::error!("a watch ends: {}", error.message());
                None
            }
        }
    }
}

impl Watch for EmbeddedWatch {
    fn next(&mut self) -> BoxFuture<'_, Option<Watched>> {
        Box::pin(self.advance_when_possible())
    }
}
