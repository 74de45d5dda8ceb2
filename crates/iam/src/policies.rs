//! Policies as clients see them: read, replaced as a whole, asked about.
//!
//! A replacement is checked member by member and role by role before anything is written, and is written only if
//! the policy is still the one that the caller read. Service accounts of ours are stored with their unique id:
//! when one is deleted its bindings say so, and another under the same address gets nothing.
//!
//! **Versions.** A policy has version 3 when a binding has a condition, and 1 otherwise, whatever was sent. Who asks for
//! a version below 3 sees conditional bindings under a role with a mark (`roles/viewer_withcond_…`) and without their
//! condition. Sent back like that, such a binding stays what it was; leaving one out that way is refused, unless the
//! etag is left out too, which overwrites (<https://cloud.google.com/iam/docs/policies#versions>).

use std::collections::{BTreeMap, BTreeSet};

use apis::google::iam::v1::{AuditConfig, AuditLogConfig, Binding, Policy, SetIamPolicyRequest};
use kernel::{
    BoxFuture, Caller, Error, Resource, Result, etag,
    mirror::{Record, Versioned},
    names::{RESOURCE_MANAGER, in_project},
    ports::Policies,
    store::{Key, Outcome, Txn},
};

use crate::{
    Iam, conditions,
    decide::stored_name,
    members::Member,
    records::{AuditLogRecord, AuditRecord, BindingRecord, ConditionRecord, MemberRecord, PolicyRecord},
    roles::Role,
};

/// The most members that a policy may have, counted once for each binding they are in
/// (<https://cloud.google.com/iam/quotas>).
const MOST_MEMBERS: usize = 1500;
/// The most groups among them.
const MOST_GROUPS: usize = 250;
/// The most conditional bindings of one role to one member.
const MOST_ALTERNATIVES: usize = 20;
/// Where Google's errors send people.
const VERSIONS: &str =
    "For more information, please refer to https://cloud.google.com/iam/help/allow-policies/versions.";
/// The most permissions that may be asked about at once.
const MOST_PERMISSIONS: usize = 100;

impl Policies for Iam {
    fn get(&self, resource: &Resource, requested_version: i32) -> Result<Policy> {
        check_version(requested_version, "Requested")?;
        let stored = self.stored_policy(resource);
        Ok(self.shown(stored.as_deref(), resource, requested_version))
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
                let (who, time) = (caller.principal(), caller.request().time);
                let has = |permission: &String| self.may(who, permission, resource, time);
                Ok(permissions.into_iter().filter(has).collect())
            }
        }
    }

    fn key(&self, resource: &Resource) -> Key {
        self.policies.key(&self.policy_name(resource))
    }

    fn catch_up(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.policies.catch_up())
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

    fn shown(&self, stored: Option<&Versioned<PolicyRecord>>, resource: &Resource, version: i32) -> Policy {
        match stored {
            Some(stored) => Policy {
                version: if stored.has_conditions() && version >= 3 { 3 } else { 1 },
                bindings: stored
                    .bindings
                    .iter()
                    .map(|binding| self.shown_binding(binding, version))
                    .collect(),
                audit_configs: stored.audit.iter().map(shown_audit).collect(),
                etag: etag::bytes(stored.revision).into(),
            },
            None if is_project(resource) => self.default_policy(),
            None => Policy { etag: etag::bytes(0).into(), ..Policy::default() },
        }
    }

    fn shown_binding(&self, binding: &BindingRecord, version: i32) -> Binding {
        let members = binding.members.iter().map(|member| self.shown_member(member)).collect();
        match &binding.condition {
            Some(condition) if version < 3 => {
                Binding { role: conditions::marked(&binding.role, condition), members, condition: None }
            }
            condition => Binding {
                role: binding.role.clone(),
                members,
                condition: condition.as_ref().map(conditions::shown),
            },
        }
    }

    pub(crate) fn shown_member(&self, member: &MemberRecord) -> String {
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
        let before = record.clone();
        if mask.bindings {
            check_versions(&policy, &record)?;
            let bindings = self.accept(resource, &policy, &record).await?;
            self.check_added(resource, &record, &bindings)?;
            record.bindings = bindings;
            record.version = if record.has_conditions() { 3 } else { 1 };
        }
        if mask.audit {
            record.audit = policy.audit_configs.iter().map(accept_audit).collect::<Result<_>>()?;
        }
        let key = self.key(resource);
        match self.policies.commit(Txn::new().check(&key, revision).put(&key, record.to_stored())).await? {
            Outcome::Committed(_) => {
                self.remark(resource, &before, &record).await;
                Ok(self.shown(self.stored_policy(resource).as_deref(), resource, policy.version))
            }
            Outcome::Conflict(_) => {
                let now = self.stored_policy(resource).map_or(0, |stored| stored.revision);
                Err(concurrent(&policy.etag, &etag::bytes(now)))
            }
        }
    }

    pub(crate) fn record_of_default(&self, resource: &Resource) -> PolicyRecord {
        let bindings = if is_project(resource) { self.default_policy().bindings } else { Vec::new() };
        let member = |name| MemberRecord { name, unique_id: String::new() };
        let binding = |binding: Binding| BindingRecord {
            role: binding.role,
            members: binding.members.into_iter().map(member).collect(),
            condition: None,
        };
        PolicyRecord { bindings: bindings.into_iter().map(binding).collect(), ..PolicyRecord::default() }
    }

    /// Checks bindings and brings them into the stored form: one for each role and condition, members in order.
    async fn accept(
        &self,
        resource: &Resource,
        policy: &Policy,
        now: &PolicyRecord,
    ) -> Result<Vec<BindingRecord>> {
        check_members(policy)?;
        let mut merged: BTreeMap<(String, Option<ConditionRecord>), BTreeSet<MemberRecord>> = BTreeMap::new();
        for binding in &policy.bindings {
            let (role, condition) = accept_role(binding, now)?;
            self.check_role(&role, resource)?;
            if condition.is_some() {
                check_conditional(&role, binding)?;
            }
            let members = merged.entry((role, condition)).or_default();
            for member in &binding.members {
                members.insert(self.accept_member(member, resource).await?);
            }
        }
        let kept = merged.into_iter().filter(|(_, members)| !members.is_empty());
        let bindings: Vec<BindingRecord> = kept
            .map(|((role, condition), members)| BindingRecord {
                role,
                members: members.into_iter().collect(),
                condition,
            })
            .collect();
        check_alternatives(&bindings)?;
        Ok(bindings)
    }

    /// Whether a role can be granted on a resource.
    fn check_role(&self, role: &str, resource: &Resource) -> Result<()> {
        if role.starts_with("projects/") || role.starts_with("organizations/") {
            return self.check_custom_role(role, resource);
        }
        match Role::named(role).filter(|role| role.concerns(resource.service)) {
            Some(_) => Ok(()),
            None => Err(Error::invalid(format!("Role {role} is not supported for this resource."))),
        }
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
            Member::Everyone | Member::Authenticated if resource.service == RESOURCE_MANAGER => {
                Err(Error::invalid(format!(
                    "Member {member} is invalid due to membership type restrictions on the resource."
                )))
            }
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
    resource.service == RESOURCE_MANAGER && matches!(in_project(&resource.name), Some((_, "")))
}

fn check_version(version: i32, whose: &str) -> Result<()> {
    match version {
        0 | 1 | 3 => Ok(()),
        _ => Err(Error::invalid(format!(
            "{whose} policy version ({version}) is not valid: it must be 0, 1 or 3."
        ))),
    }
}

/// Whether a policy of this version may replace what is there.
fn check_versions(policy: &Policy, now: &PolicyRecord) -> Result<()> {
    let has_conditions = policy.bindings.iter().any(|binding| binding.condition.is_some());
    let has_marks = policy.bindings.iter().any(|binding| conditions::is_marked(&binding.role));
    if has_conditions && has_marks {
        return Err(Error::invalid(format!(
            "Policy cannot contain both conditions and condition hashes. Please update your client to request version \
             3 policy. {VERSIONS}"
        )));
    }
    if has_conditions && policy.version < 3 {
        return Err(Error::invalid(format!(
            "A policy with conditional role bindings must have version 3, not {}. {VERSIONS}",
            policy.version
        )));
    }
    let keeps = |binding: &&BindingRecord| {
        let mark = binding.condition.as_ref().map(|condition| conditions::marked(&binding.role, condition));
        mark.is_none_or(|mark| policy.bindings.iter().any(|given| given.role == mark))
    };
    if policy.version < 3 && !policy.etag.is_empty() && !now.bindings.iter().all(|binding| keeps(&binding)) {
        return Err(Error::invalid(format!(
            "Specified policy version ({}) cannot be less than the existing policy version (3). {VERSIONS}",
            policy.version
        )));
    }
    Ok(())
}

fn check_members(policy: &Policy) -> Result<()> {
    let count: usize = policy.bindings.iter().map(|binding| binding.members.len()).sum();
    if count > MOST_MEMBERS {
        return Err(Error::invalid(format!(
            "The number of members in the policy ({count}) is larger than the maximum allowed size {MOST_MEMBERS}."
        )));
    }
    let groups = policy.bindings.iter().flat_map(|binding| &binding.members);
    let groups = groups.filter(|member| member.starts_with("group:")).count();
    if groups > MOST_GROUPS {
        return Err(Error::invalid(format!(
            "The number of groups in the policy ({groups}) is larger than the maximum allowed size {MOST_GROUPS}."
        )));
    }
    Ok(())
}

/// The role and the condition of a binding. A role with a mark stands for a conditional binding that is there.
fn accept_role(binding: &Binding, now: &PolicyRecord) -> Result<(String, Option<ConditionRecord>)> {
    if let Some(condition) = &binding.condition {
        return Ok((binding.role.clone(), Some(conditions::accept(condition)?)));
    }
    if !conditions::is_marked(&binding.role) {
        return Ok((binding.role.clone(), None));
    }
    let marked = now.bindings.iter().find_map(|known| {
        let condition = known.condition.as_ref()?;
        (conditions::marked(&known.role, condition) == binding.role)
            .then(|| (known.role.clone(), Some(condition.clone())))
    });
    marked.ok_or_else(|| {
        Error::invalid(format!(
            "Role {} names a condition that the policy does not have. {VERSIONS}",
            binding.role
        ))
    })
}

/// What a conditional binding must not be.
fn check_conditional(role: &str, binding: &Binding) -> Result<()> {
    if Role::named(role).is_some_and(|role| role.basic().is_some()) {
        return Err(Error::invalid(format!("Conditions can't be set on primitive roles: {role}.")));
    }
    match binding
        .members
        .iter()
        .find(|member| matches!(member.as_str(), "allUsers" | "allAuthenticatedUsers"))
    {
        Some(member) => Err(Error::invalid(format!("Conditions can't be set on bindings for {member}."))),
        None => Ok(()),
    }
}

/// One member may have one role under twenty different conditions.
fn check_alternatives(bindings: &[BindingRecord]) -> Result<()> {
    let mut counts: BTreeMap<(&str, &MemberRecord), usize> = BTreeMap::new();
    for binding in bindings.iter().filter(|binding| binding.condition.is_some()) {
        for member in &binding.members {
            let count = counts.entry((&binding.role, member)).or_default();
            *count += 1;
            if *count > MOST_ALTERNATIVES {
                return Err(Error::invalid(format!(
                    "Member {} has role {} under more than {MOST_ALTERNATIVES} different conditions.",
                    member.name, binding.role
                )));
            }
        }
    }
    Ok(())
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

pub(crate) fn is_permission(permission: &str) -> bool {
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
}
