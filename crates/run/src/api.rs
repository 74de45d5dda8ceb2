//! The methods: both forms of Google's API over one engine.

mod jobs_knative;
mod jobs_knative_read;
mod jobs_knative_write;
mod jobs_policy;
mod jobs_v2;
mod jobs_v2_read;
mod jobs_v2_write;
mod knative;
mod knative_global;
mod knative_list;
mod knative_read;
mod knative_write;
mod policy;
#[cfg(test)]
mod round_trips;
mod selector;
mod v2;
mod v2_read;
mod v2_write;

use std::sync::Arc;

use kernel::{Error, Method, Mount, Result, names};

use crate::{Run, change::Place, engine::RUN};

/// Every method that Cloud Run serves here.
pub fn methods(run: Arc<Run>) -> Vec<Method> {
    let mount = knative::mount(Mount::new(run));
    let mount = knative_global::mount(mount);
    let mount = policy::mount(mount);
    let mount = jobs_v2::mount(mount);
    let mount = jobs_knative::mount(mount);
    let mount = jobs_policy::mount(mount);
    v2::mount(mount).done()
}

impl Run {
    /// The place that `projects/P/locations/R/services/S` names, with the project by its id.
    async fn place(&self, name: &str) -> Result<Place> {
        let [project, region, service] = names::parse(name, ["projects", "locations", "services"]).ok_or_else(|| {
            Error::invalid(format!("'{name}' is not a service's name: use projects/PROJECT/locations/REGION/services/SERVICE."))
        })?;
        self.place_of(project, region, service).await
    }

    async fn place_of(&self, project: &str, region: &str, name: &str) -> Result<Place> {
        let project = self.ports.projects.resolve(project).await?;
        if !self.ports.projects.enabled(&project.id, RUN) {
            return Err(kernel::service_disabled(RUN, &project));
        }
        Ok(Place { project: project.id.to_string(), region: region.to_owned(), name: name.to_owned() })
    }
}
