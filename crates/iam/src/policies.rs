//! Policies as clients see them: read, replaced as a whole, asked about.
//!
//! A replacement is checked member by member and role by role before anything is written, and is written only if
//! the policy is still the one that the caller read. Service accounts of ours are stored with their unique id:
//! when one is deleted its bindings say so, and another under the same address gets nothing.
//!
//! Conditions are refused until they can be evaluated.

use std::collections::{BTreeMap, BTreeSet};

use apis::google::{
    iam::v1::{AuditConfig, AuditLogConfig, Binding, Policy, SetIamPolicyRequest},
    r#type::Expr,
};
use kernel::{
    BoxFuture, Caller, Error, Resource, Result, etag,
    mirror::{Record, Versioned},
    names::RESOURCE_MANAGER,
    ports::Policies,
    store::{Key, Outcome, Txn},
};

use crate::{
    Iam,
    decide::stored_name,
    members::Member,
    records::{AuditLogRecord, AuditRecord, BindingRecord, ConditionRecord, MemberRecord, PolicyRecord},
    roles::Role,
};

/// The most members that a policy may have, counted once for each binding they are in
/// (<https://cloud.google.com/iam/quotas>).
const MOST_MEMBERS: usize = 1500;
/// The most permissions that may be asked about at once.
const MOST_PERMISSIONS: usize = 100;

impl Policies for Iam {
    fn get(&self, resource: &Resource, requested_version: i32) -> Result<Policy> {
        check_version(requested_version, "Requested")?;
        let stored = self.stored_policy(resource);
        Ok(self.shown(stored.as_deref(), resource))
    }

    fn set(&self, resource: &Resource, request: SetIamPolicyRequest) -> BoxFuture<'_, Result<Policy>> {
        let resource = resource.clone();
        Box::pin(async move { self.replace(&resource, request).await })
    }

    fn test(&self, caller: &Caller, resource: &Resource, permissions: Vec<String>) -> Result<Vec<String>> {
        if permissions.len() > MOST_PERMISSIONS {
            return Err(Error::invalid(format!(
                "At most {MOST_PERMISSIONS} permissions can be tested at once."
            )));
        }
        match permissions.iter().find(|permission| !is_permission(permission)) {
            Some(bad) => Err(Error::invalid(format!("Permission {bad} is not valid for this resource."))),
            None => {
                Ok(permissions.into_iter().filter(|permission| caller.may(permission, resource)).collect())
            }
        }
    }

    fn key(&self, resource: &Resource) -> Key {
        self.policies.key(&self.policy_name(resource))
    }
}

impl Iam {
    /// The policy of a project that was never set: the person at the machine is its owner, as whoever creates a
    /// project on Google is.
    pub fn default_policy(&self) -> Policy {
        let members = vec![format!("user:{}", self.owner().email())];
        Policy {
            version: 1,
            bindings: vec![Binding { role: "roles/owner".into(), members, condition: None }],
            audit_configs: Vec::new(),
            etag: etag::bytes(0).into(),
        }
    }

    fn policy_name(&self, resource: &Resource) -> String {
        stored_name(resource.service, &self.canonical(resource.service, &resource.name))
    }

    fn stored_policy(&self, resource: &Resource) -> Option<std::sync::Arc<Versioned<PolicyRecord>>> {
        self.policies.get(&self.policy_name(resource))
    }

    fn shown(&self, stored: Option<&Versioned<PolicyRecord>>, resource: &Resource) -> Policy {
        match stored {
            Some(stored) => Policy {
                version: stored.version.max(1),
                bindings: stored.bindings.iter().map(|binding| self.shown_binding(binding)).collect(),
                audit_configs: stored.audit.iter().map(shown_audit).collect(),
                etag: etag::bytes(stored.revision).into(),
            },
            None if is_project(resource) => self.default_policy(),
            None => Policy { etag: etag::bytes(0).into(), ..Policy::default() },
        }
    }

    fn shown_binding(&self, binding: &BindingRecord) -> Binding {
        Binding {
            role: binding.role.clone(),
            members: binding.members.iter().map(|member| self.shown_member(member)).collect(),
            condition: binding.condition.as_ref().map(|condition| Expr {
                expression: condition.expression.clone(),
                title: condition.title.clone(),
                description: condition.description.clone(),
                location: condition.location.clone(),
            }),
        }
    }

    fn shown_member(&self, member: &MemberRecord) -> String {
        let MemberRecord { name, unique_id } = member;
        let is_gone = || match Member::parse(name) {
            Ok(Member::ServiceAccount(email)) => {
                self.accounts.get(&email).is_none_or(|account| account.unique_id != *unique_id)
            }
            _ => false,
        };
        match !unique_id.is_empty() && is_gone() {
            true => format!("deleted:{name}?uid={unique_id}"),
            false => name.clone(),
        }
    }

    async fn replace(&self, resource: &Resource, request: SetIamPolicyRequest) -> Result<Policy> {
        let mask = Mask::of(&request);
        let policy = request.policy.unwrap_or_default();
        let stored = self.stored_policy(resource);
        let revision = stored.as_ref().map_or(0, |stored| stored.revision);
        if !etag::allows_bytes(&policy.etag, revision) {
            return Err(concurrent(&policy.etag, &etag::bytes(revision)));
        }
        check_version(policy.version, "Specified")?;
        let mut record = match &stored {
            Some(stored) => stored.value.clone(),
            None => self.record_of_default(resource),
        };
        if mask.bindings {
            record.bindings = self.accept(resource, &policy).await?;
            record.version = policy.version.max(1);
        }
        if mask.audit {
            record.audit = policy.audit_configs.iter().map(accept_audit).collect::<Result<_>>()?;
        }
        let key = self.key(resource);
        match self.policies.commit(Txn::new().check(&key, revision).put(&key, record.to_stored())).await? {
            Outcome::Committed(_) => Ok(self.shown(self.stored_policy(resource).as_deref(), resource)),
            Outcome::Conflict(_) => {
                let now = self.stored_policy(resource).map_or(0, |stored| stored.revision);
                Err(concurrent(&policy.etag, &etag::bytes(now)))
            }
        }
    }

    fn record_of_default(&self, resource: &Resource) -> PolicyRecord {
        let bindings = if is_project(resource) { self.default_policy().bindings } else { Vec::new() };
        let member = |name| MemberRecord { name, unique_id: String::new() };
        let binding = |binding: Binding| BindingRecord {
            role: binding.role,
            members: binding.members.into_iter().map(member).collect(),
            condition: None,
        };
        PolicyRecord { bindings: bindings.into_iter().map(binding).collect(), ..PolicyRecord::default() }
    }

    /// Checks bindings and brings them into the stored form: one for each role, members in order.
    async fn accept(&self, resource: &Resource, policy: &Policy) -> Result<Vec<BindingRecord>> {
        let count: usize = policy.bindings.iter().map(|binding| binding.members.len()).sum();
        if count > MOST_MEMBERS {
            return Err(Error::invalid(format!(
                "The number of members in the policy ({count}) is larger than the maximum allowed size {MOST_MEMBERS}."
            )));
        }
        let mut merged: BTreeMap<(&str, Option<ConditionRecord>), BTreeSet<MemberRecord>> = BTreeMap::new();
        for binding in &policy.bindings {
            check_role(&binding.role, resource)?;
            let condition =
                binding.condition.as_ref().map(|condition| accept_condition(condition, policy.version));
            let members = merged.entry((&binding.role, condition.transpose()?)).or_default();
            for member in &binding.members {
                members.insert(self.accept_member(member, resource).await?);
            }
        }
        let kept = merged.into_iter().filter(|(_, members)| !members.is_empty());
        Ok(kept
            .map(|((role, condition), members)| BindingRecord {
                role: role.to_owned(),
                members: members.into_iter().collect(),
                condition,
            })
            .collect())
    }

    async fn accept_member(&self, member: &str, resource: &Resource) -> Result<MemberRecord> {
        let name = member.to_owned();
        match Member::parse(member)? {
            Member::ServiceAccount(email) => {
                self.settle_default(&email).await?;
                if self.is_missing(&email) {
                    return Err(Error::invalid(format!("Service account {email} does not exist.")));
                }
                let unique_id =
                    self.accounts.get(&email).map_or_else(String::new, |account| account.unique_id.clone());
                Ok(MemberRecord { name, unique_id })
            }
            Member::Deleted => Ok(remembered(member)),
            Member::ProjectRole(..) if resource.service != "storage.googleapis.com" => {
                Err(Error::invalid(format!(
                    "The member {member} is of an unknown type. Please set a valid type prefix for the member."
                )))
            }
            _ => Ok(MemberRecord { name, unique_id: String::new() }),
        }
    }
}

/// A deleted service account that a client sends back is stored as the account it was: brought back, it has its
/// roles again.
fn remembered(member: &str) -> MemberRecord {
    let parts = member.strip_prefix("deleted:").and_then(|rest| rest.split_once("?uid="));
    match parts.filter(|(name, _)| name.starts_with("serviceAccount:")) {
        Some((name, unique_id)) => MemberRecord { name: name.to_owned(), unique_id: unique_id.to_owned() },
        None => MemberRecord { name: member.to_owned(), unique_id: String::new() },
    }
}

/// Which parts of a policy a request replaces: the bindings, unless it says otherwise.
struct Mask {
    bindings: bool,
    audit: bool,
}

impl Mask {
    fn of(request: &SetIamPolicyRequest) -> Self {
        match request.update_mask.as_ref().filter(|mask| !mask.paths.is_empty()) {
            None => Mask { bindings: true, audit: false },
            Some(mask) => Mask {
                bindings: mask.paths.iter().any(|path| path == "bindings"),
                audit: mask.paths.iter().any(|path| path == "auditConfigs" || path == "audit_configs"),
            },
        }
    }
}

fn is_project(resource: &Resource) -> bool {
    resource.service == RESOURCE_MANAGER
        && resource.name.strip_prefix("projects/").is_some_and(|id| !id.contains('/'))
}

fn check_version(version: i32, whose: &str) -> Result<()> {
    match version {
        0 | 1 | 3 => Ok(()),
        _ => Err(Error::invalid(format!(
            "{whose} policy version ({version}) is not valid: it must be 0, 1 or 3."
        ))),
    }
}

fn check_role(role: &str, resource: &Resource) -> Result<()> {
    if role.starts_with("projects/") || role.starts_with("organizations/") {
        return Err(Error::invalid(format!("Role ({role}) does not exist in the resource's hierarchy.")));
    }
    match Role::named(role).filter(|role| role.concerns(resource.service)) {
        Some(_) => Ok(()),
        None => Err(Error::invalid(format!("Role {role} is not supported for this resource."))),
    }
}

fn accept_condition(condition: &Expr, version: i32) -> Result<ConditionRecord> {
    if version < 3 {
        return Err(Error::invalid("A policy with conditional role bindings must have version 3."));
    }
    Err(Error::unimplemented(format!(
        "haar does not evaluate IAM conditions yet, so it refuses '{}'.",
        condition.title
    )))
}

fn accept_audit(config: &AuditConfig) -> Result<AuditRecord> {
    for member in config.audit_log_configs.iter().flat_map(|log| &log.exempted_members) {
        Member::parse(member)?;
    }
    let log =
        |log: &AuditLogConfig| AuditLogRecord { kind: log.log_type, exempted: log.exempted_members.clone() };
    Ok(AuditRecord {
        service: config.service.clone(),
        logs: config.audit_log_configs.iter().map(log).collect(),
    })
}

fn shown_audit(record: &AuditRecord) -> AuditConfig {
    let log =
        |log: &AuditLogRecord| AuditLogConfig { log_type: log.kind, exempted_members: log.exempted.clone() };
    AuditConfig { service: record.service.clone(), audit_log_configs: record.logs.iter().map(log).collect() }
}

fn is_permission(permission: &str) -> bool {
    let parts = permission.split('.').count();
    parts >= 3
        && permission.len() <= 256
        && permission.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
        && permission.split('.').all(|part| !part.is_empty())
}

fn concurrent(given: &[u8], current: &[u8]) -> Error {
    Error::aborted(format!(
        "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff. \
         The request's ETag '{}' did not match the current policy's ETag '{}'.",
        octal(given),
        octal(current)
    ))
}

/// Bytes as Google's message shows them: what is not printable as three octal digits.
fn octal(bytes: &[u8]) -> String {
    let show = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\{byte:03o}"),
    };
    bytes.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_permission_looks_like() {
        assert!(is_permission("secretmanager.versions.access"));
        assert!(is_permission("iam.googleapis.com/workloadIdentityPools.create"));
        for bad in ["", "*", "secretmanager.*", "a.b", "a..b", "storage.buckets.get "] {
            assert!(!is_permission(bad), "{bad}");
        }
    }

    #[test]
    fn roles_are_refused_where_they_cannot_be_granted() {
        let secret = Resource::new("secretmanager.googleapis.com", "projects/p/secrets/s");
        assert!(check_role("roles/secretmanager.secretAccessor", &secret).is_ok());
        for role in ["roles/foo", "roles/run.admin", "viewer", ""] {
            let message = format!("Role {role} is not supported for this resource.");
            assert_eq!(check_role(role, &secret).unwrap_err().message(), message);
        }
    }
}
