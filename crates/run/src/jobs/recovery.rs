//! What a new start of haar does about jobs: goes on with what was interrupted, removes what is nobody's.

use std::sync::Arc;

use crate::Run;

impl Run {
    /// Takes up what a restart interrupted.
    pub(crate) fn resume_jobs(self: &Arc<Self>) {
        self.resume_job_operations();
        let unsettled = self
            .jobs
            .jobs
            .mirror()
            .scan("", "", usize::MAX, |_, job| job.value.observed_generation < job.value.generation);
        unsettled.iter().for_each(|(_, job)| self.settle_job_later(&job.value));
        let (owned, orphans): (Vec<_>, Vec<_>) = self
            .jobs
            .executions
            .mirror()
            .list()
            .into_iter()
            .partition(|(_, held)| self.is_owned(&held.value));
        for (name, _) in owned.iter().filter(|(_, held)| !held.value.is_over()) {
            self.conduct_later(name);
        }
        let orphans: Vec<_> = orphans.into_iter().map(|(name, _)| name).collect();
        let run = self.clone();
        tokio::spawn(async move {
            for name in orphans {
                if let Err(error) = run.forget_execution(&name).await {
                    tracing::warn!("{name} is not deleted: {error:?}");
                }
            }
        });
    }
}
