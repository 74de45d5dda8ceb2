//! The methods: both forms of Google's API over one engine.

mod authorization;
mod domains;
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
mod shared;
mod unserved;
mod v2;
mod v2_change;
mod v2_read;
mod v2_write;
mod workers_form;
mod workers_knative;
mod workers_v2;

use std::sync::Arc;

use kernel::{Method, Mount, Result, names};

use crate::{Run, change::Place, engine::RUN, record::Kind, rules, words};

/// Every method that Cloud Run serves here.
pub fn methods(run: Arc<Run>) -> Vec<Method> {
    let mount = knative::mount(Mount::new(run));
    let mount = knative_global::mount(mount);
    let mount = policy::mount(mount);
    let mount = jobs_v2::mount(mount);
    let mount = jobs_knative::mount(mount);
    let mount = jobs_policy::mount(mount);
    let mount = domains::mount(mount);
    let mount = workers_v2::mount(mount);
    let mount = workers_knative::mount(mount);
    v2::mount(mount).done()
}

impl Run {
    /// The place that `projects/P/locations/R/services/S` names, or `…/workerPools/S`, with the project by its id.
    async fn place(&self, kind: Kind, name: &str) -> Result<Place> {
        let [project, region, id] = names::parse(name, ["projects", "locations", kind.collection()])
            .ok_or_else(|| words::not_a_name(kind, name))?;
        self.place_of(kind, project, region, id).await
    }

    /// A place in a region that there is; `-` stands for all.
    async fn place_of(&self, kind: Kind, project: &str, region: &str, name: &str) -> Result<Place> {
        let project = self.ports.projects.resolve(project).await?;
        if !self.ports.projects.enabled(&project.id, RUN) {
            return Err(kernel::service_disabled(RUN, &project));
        }
        if region != "-" {
            rules::check_region(region)?;
        }
        Ok(Place { kind, project: project.id.to_string(), region: region.to_owned(), name: name.to_owned() })
    }

    /// What the names of all in a location begin with; for `-` also those of others.
    async fn listed(&self, kind: Kind, parent: &str) -> Result<String> {
        let [project, region] = shared::location(parent)?;
        Ok(self.place_of(kind, project, region, "").await?.prefix())
    }
}

impl Place {
    /// What the names of all in its location begin with; where that is all locations, others' do as well.
    fn prefix(&self) -> String {
        match self.region.as_str() {
            "-" => format!("projects/{}/locations/", self.project),
            _ => format!("{}/{}/", self.location(), self.kind.collection()),
        }
    }
}
