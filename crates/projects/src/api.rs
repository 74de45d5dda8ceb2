//! The methods: Resource Manager in its three versions, and Service Usage.

use std::sync::Arc;

use kernel::{Error, Method, Resource, Result, ports::Policies};

use crate::engine::Projects;

mod above;
mod usage;
mod v1;
mod v2;
mod v3;

/// The methods that projects serve.
pub fn methods(projects: Arc<Projects>) -> Vec<Method> {
    let mut methods = v3::methods(projects.clone());
    methods.extend(v1::methods(projects.clone()));
    methods.extend(v2::methods(projects.clone()));
    methods.extend(above::methods(projects.clone()));
    methods.extend(usage::methods(projects));
    methods
}

/// The project in `projects/P`.
fn project_in(name: &str) -> Result<&str> {
    match kernel::names::parse(name, ["projects"]) {
        Some([project]) => Ok(project),
        None => {
            Err(Error::bad_field("name", format!("Resource name [{name}] is not of the form projects/*.")))
        }
    }
}

/// The policies, and the project as they know it, which must exist.
async fn policy_resource(projects: &Projects, id_or_number: &str) -> Result<(Arc<dyn Policies>, Resource)> {
    let found = projects.find(id_or_number).await?;
    Ok((projects.policies()?, Resource::project(&found.id)))
}
