//! What is written down of calls: kinds of access, and one call as the audit log has it.
//!
//! **Which methods are which.** Google documents a kind for each permission. What changes configuration is an *admin
//! write* and always written; what reads it, and what touches the data that customers keep, only where a policy's
//! `auditConfigs` switch it on. Here the kind follows from the permission that a method asks first: a short list names
//! the permissions on data, the verb decides the rest. A method that asks nothing before it runs is not written.
//!
//! Source: <https://cloud.google.com/logging/docs/audit>, and the audit pages of the products that are served.

use apis::MethodId;

use crate::{Caller, Error, Resource};

/// What a call does, as `auditConfigs` tell calls apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Changes configuration: always written.
    AdminWrite,
    /// Reads configuration.
    AdminRead,
    /// Reads data that customers keep.
    DataRead,
    /// Writes data that customers keep.
    DataWrite,
}

/// Permissions on data and what they do to it.
const DATA: [(&str, Access); 18] = [
    ("secretmanager.versions.access", Access::DataRead),
    ("storage.objects.get", Access::DataRead),
    ("storage.objects.list", Access::DataRead),
    ("storage.objects.create", Access::DataWrite),
    ("storage.objects.update", Access::DataWrite),
    ("storage.objects.delete", Access::DataWrite),
    ("logging.logEntries.create", Access::DataWrite),
    ("logging.logEntries.list", Access::DataRead),
    ("logging.logs.list", Access::DataRead),
    ("artifactregistry.repositories.downloadArtifacts", Access::DataRead),
    ("artifactregistry.repositories.uploadArtifacts", Access::DataWrite),
    ("pubsub.topics.publish", Access::DataWrite),
    ("pubsub.subscriptions.consume", Access::DataRead),
    ("iam.serviceAccounts.getAccessToken", Access::DataRead),
    ("iam.serviceAccounts.getOpenIdToken", Access::DataRead),
    ("iam.serviceAccounts.signBlob", Access::DataRead),
    ("iam.serviceAccounts.signJwt", Access::DataRead),
    ("cloudsql.instances.connect", Access::DataRead),
];

/// How the verbs of permissions begin that read.
const READS: [&str; 8] = ["get", "list", "search", "query", "view", "analyze", "fetch", "read"];

impl Access {
    /// What a permission is for.
    pub fn of(permission: &str) -> Access {
        if let Some((_, access)) = DATA.iter().find(|(name, _)| *name == permission) {
            return *access;
        }
        let verb = permission.rsplit('.').next().unwrap_or(permission);
        match READS.iter().any(|read| verb.starts_with(read)) {
            true => Access::AdminRead,
            false => Access::AdminWrite,
        }
    }
}

/// A permission that was asked before a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The permission.
    pub permission: &'static str,
    /// Where it was asked.
    pub resource: Resource,
    /// Whether the caller has it.
    pub granted: bool,
}

/// A call that has ended.
pub struct Call<'c> {
    /// Which method.
    pub method: MethodId,
    /// What it does.
    pub access: Access,
    /// Who called.
    pub caller: &'c Caller,
    /// What was asked before it ran.
    pub asked: &'c [Asked],
    /// Why it failed, if it did.
    pub error: Option<&'c Error>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_decides_unless_it_is_about_data() {
        for (permission, access) in [
            ("secretmanager.versions.access", Access::DataRead),
            ("secretmanager.versions.add", Access::AdminWrite),
            ("secretmanager.secrets.getIamPolicy", Access::AdminRead),
            ("secretmanager.secrets.setIamPolicy", Access::AdminWrite),
            ("run.services.list", Access::AdminRead),
            ("iam.serviceAccounts.undelete", Access::AdminWrite),
            ("logging.logEntries.create", Access::DataWrite),
        ] {
            assert_eq!(Access::of(permission), access, "{permission}");
        }
    }
}
