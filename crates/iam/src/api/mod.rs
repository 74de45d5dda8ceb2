//! The methods of `iam.googleapis.com`, `iamcredentials.googleapis.com` and `cloudidentity.googleapis.com` that are served.
//!
//! Not served, and so answered `UNIMPLEMENTED`: `QueryAuditableServices`.

mod accounts;
mod credentials;
mod federation;
mod groups;
mod keys;
mod memberships;
mod roles;
mod troubleshoot;

use std::sync::Arc;

use kernel::{Method, Mount, Result, ports::Project};

use crate::Iam;

impl Iam {
    /// What is served.
    pub fn methods(self: &Arc<Self>) -> Vec<Method> {
        let mount = Mount::new(self.clone());
        let mount = credentials::mount(roles::mount(keys::mount(accounts::mount(mount))));
        let mount = troubleshoot::mount(federation::mount(mount));
        memberships::mount(groups::mount(mount)).done()
    }

    /// The project that a parent such as `projects/p` names.
    async fn parent(&self, name: &str) -> Result<Project> {
        let [id] = kernel::names::parse(name, ["projects"])
            .ok_or_else(|| kernel::Error::bad_field("name", format!("Invalid project name: {name}")))?;
        self.projects.resolve(id).await
    }
}
