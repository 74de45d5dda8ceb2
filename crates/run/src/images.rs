//! Which images are in use: whoever makes room on the disk keeps these.

use crate::{Run, record::Template};

impl Run {
    /// The digests of the images that revisions and executions were made of, and those by which services, worker pools,
    /// jobs, and what was not begun yet, name theirs; some more than once.
    pub fn image_digests(&self) -> Vec<String> {
        let services = self.services.mirror().scan("", "", usize::MAX, |_, _| true);
        let revisions = self.revisions.mirror().scan("", "", usize::MAX, |_, _| true);
        let jobs = self.jobs.jobs.mirror().scan("", "", usize::MAX, |_, _| true);
        let executions = self.jobs.executions.mirror().scan("", "", usize::MAX, |_, _| true);
        let mut digests = Vec::new();
        for (_, service) in services {
            digests.extend(service.value.template.iter().flat_map(named));
        }
        for (_, revision) in revisions {
            digests.extend(revision.value.image_digests.iter().cloned());
            digests.extend(revision.value.template.iter().flat_map(named));
        }
        for (_, job) in jobs {
            digests.extend(job.value.template.iter().flat_map(|template| named(&template.task())));
        }
        for (_, execution) in executions {
            digests.extend(execution.value.image_digests.iter().cloned());
            digests.extend(named(&execution.value.template().task()));
        }
        digests
    }
}

/// The digests by which containers name their images. Whoever names one by a tag wants what the tag names.
fn named(template: &Template) -> Vec<String> {
    let images = template.containers.iter().map(|container| &container.image);
    images.filter_map(|image| Some(image.split_once('@')?.1.to_owned())).collect()
}
