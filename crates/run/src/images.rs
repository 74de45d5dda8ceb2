//! Which images are in use: whoever makes room on the disk keeps these.

use crate::Run;

impl Run {
    /// The digests of the images that revisions and executions were made of, some more than once.
    pub fn image_digests(&self) -> Vec<String> {
        let revisions = self.revisions.mirror().scan("", "", usize::MAX, |_, _| true);
        let executions = self.jobs.executions.mirror().scan("", "", usize::MAX, |_, _| true);
        let of_revisions =
            revisions.into_iter().flat_map(|(_, revision)| revision.value.image_digests.clone());
        let of_executions =
            executions.into_iter().flat_map(|(_, execution)| execution.value.image_digests.clone());
        of_revisions.chain(of_executions).collect()
    }
}
