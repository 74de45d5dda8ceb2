//! Revisions by themselves: found, deleted, collected.
//!
//! A revision is deleted only while its service does not need it, and the two are compared in one transaction: traffic
//! that is moved to a revision in the very moment it is deleted finds it gone, or keeps it.
//! (<https://cloud.google.com/run/docs/managing/revisions>)

use std::cmp::Reverse;

use kernel::{Error, Result, collection::Held, store::Txn};

use crate::{
    Run, plan,
    record::{Kind, Revision, Service},
    words,
};

/// How many revisions of a service are kept (<https://cloud.google.com/run/quotas>).
const KEPT: usize = 1000;

/// Why a revision cannot be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Requests come to it, or are to come to it, by a share or by a tag.
    Serving,
    /// The service has no other.
    Only,
    /// It is the newest, or the newest that can serve.
    Latest,
}

impl Run {
    /// A revision by its own name, which begins with its service's or worker pool's. A service's comes first where both
    /// have one of this name.
    pub(crate) fn revision_in(&self, project: &str, region: &str, name: &str) -> Option<Held<Revision>> {
        let place = format!("projects/{project}/locations/{region}");
        let find = |kind: Kind| {
            let whose = name.match_indices('-').map(|(end, _)| &name[..end]);
            let named = |of: &str| format!("{place}/{}/{of}/revisions/{name}", kind.collection());
            whose.filter_map(|of| self.revisions.find(&named(of))).next()
        };
        find(Kind::Service).or_else(|| find(Kind::WorkerPool))
    }

    /// Deletes a revision that nothing needs.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` for the latest, the only and a serving one; `NOT_FOUND`; `ABORTED` for an etag that does
    /// not match.
    pub(crate) async fn delete_revision(&self, revision: &Revision, etag: &str) -> Result<()> {
        let service = revision.parent();
        let unneeded = |revision: &Revision| {
            let Some(service) = self.services.find(&service) else { return Ok(Txn::new()) };
            match self.need(&service.value, &revision.name) {
                Some(need) => Err(words::revision_needed(need, revision)),
                None => {
                    Ok(Txn::new().check(self.services.key(&service.value.resource_name()), service.revision))
                }
            }
        };
        let name = revision.resource_name();
        self.revisions.delete_with(&name, etag, |held| unneeded(&held.value)).await?;
        self.fleet.forget(&plan::revision_id(revision));
        Ok(())
    }

    /// Why a service would miss a revision, if it would.
    fn need(&self, service: &Service, revision: &str) -> Option<Need> {
        let mut targets = service.serving.iter().chain(&service.traffic);
        if targets.any(|target| target.revision == revision) {
            return Some(Need::Serving);
        }
        if self.revisions_of(service).len() == 1 {
            return Some(Need::Only);
        }
        let is_latest = service.latest_created == revision || service.latest_ready == revision;
        is_latest.then_some(Need::Latest)
    }

    /// Deletes the oldest revisions that nothing needs, when there are more than Cloud Run keeps.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn collect(&self, service: &str) -> Result<()> {
        let Some(service) = self.services.find(service) else { return Ok(()) };
        let ages = self.revisions_of(&service.value).into_iter().map(|held| (held.created, held));
        for (_, old) in superfluous(ages.collect(), KEPT) {
            match self.delete_revision(&old.value, "").await {
                Err(error) if !is_harmless(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a revision could stay, or had gone already.
fn is_harmless(error: &Error) -> bool {
    use kernel::Code;
    matches!(error.code(), Code::FailedPrecondition | Code::NotFound | Code::Aborted)
}

/// All but the newest so many, by when they were made.
fn superfluous<T>(mut all: Vec<(u64, T)>, kept: usize) -> Vec<(u64, T)> {
    all.sort_by_key(|(created, _)| Reverse(*created));
    all.split_off(kept.min(all.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_beyond_the_limit_go() {
        let all: Vec<_> = (0..1003).map(|age| (age, ())).collect();
        let gone: Vec<_> = superfluous(all, KEPT).into_iter().map(|(age, ())| age).collect();
        assert_eq!(gone, [2, 1, 0]);
        assert!(superfluous(vec![(1, ()), (2, ())], KEPT).is_empty());
    }
}
