//! What a policy gives away that its author may not have meant: said in haar's log when it is set, for no answer of
//! Google's has room for it. On Google the same is found weeks later, by recommendations that narrow roles.
//!
//! Two things are looked at: a service account that becomes owner or editor, and an account that every branch of a
//! repository at GitHub may act as. Of other issuers it is not known what stands for a branch.

use kernel::{Resource, names::is_container};

use crate::{
    Iam, SERVICE,
    federation::{Name, ProviderRecord},
    least::Grant,
    members::Member,
    records::{BindingRecord, PolicyRecord},
    roles::Role,
};

/// Whose tokens say of which branch they are.
const GITHUB: &str = "https://token.actions.githubusercontent.com";
/// What says it, in a condition.
const SAYS_WHICH_BRANCH: [&str; 7] = [
    "assertion.ref",
    "attribute.ref",
    "assertion.sub",
    "google.subject",
    "environment",
    "workflow_ref",
    "branch",
];
/// The most roles that are named.
const MOST_NAMED: usize = 5;

impl Iam {
    /// Says of what was added to a policy what should be known of it.
    pub(crate) async fn remark(&self, resource: &Resource, before: &PolicyRecord, now: &PolicyRecord) {
        for (role, member) in added(before, now) {
            if let Some(account) = broad(resource, role, member) {
                let narrower = self.narrower(&account).await;
                tracing::warn!(
                    "{account} has {role} on {resource} now, and so has whoever gets into what runs as it. {narrower}"
                );
            }
            if self.is_every_branchs(resource, member) {
                tracing::warn!(
                    "{member} may act as {resource}, from any branch and any pull request. To let one branch: map \
                     attribute.ref to assertion.ref and bind .../attribute.ref/refs/heads/BRANCH, or name assertion.ref \
                     in the provider's condition."
                );
            }
        }
    }

    /// What an account would need instead of what it has, as far as is known.
    async fn narrower(&self, account: &str) -> String {
        let gives = self.least(account).await.map(|least| least.gives).unwrap_or_default();
        match &gives[..] {
            [] => {
                format!("Once it has run, 'haar iam least {account}' names the narrower roles that it needs.")
            }
            gives => {
                let named = |grant: &Grant| format!("{} on {}", grant.role, grant.resource);
                let named: Vec<String> = gives.iter().take(MOST_NAMED).map(named).collect();
                format!("What it used so far needs {}; see 'haar iam least {account}'.", named.join(", "))
            }
        }
    }

    /// Whether a member of a service account's policy stands for every branch of something at GitHub.
    fn is_every_branchs(&self, resource: &Resource, member: &str) -> bool {
        let is_account = resource.service == SERVICE && resource.name.contains("/serviceAccounts/");
        let Some(pool) = pool_of_all_branches(member).filter(|_| is_account) else { return false };
        let Some(pool) = Name::known(pool, &*self.projects) else { return false };
        self.federation.providers_of(&pool).iter().any(|provider| is_open(provider))
    }
}

/// The roles and members that a policy has now and had not before.
fn added<'n>(before: &PolicyRecord, now: &'n PolicyRecord) -> Vec<(&'n str, &'n str)> {
    let had = |role: &str, member: &str| {
        let same = before.bindings.iter().filter(|binding| binding.role == role);
        same.flat_map(|binding| &binding.members).any(|held| held.name == member)
    };
    let all = |binding: &'n BindingRecord| {
        binding.members.iter().map(|member| (binding.role.as_str(), member.name.as_str()))
    };
    now.bindings.iter().flat_map(all).filter(|(role, member)| !had(role, member)).collect()
}

/// The service account that a basic role which changes things is given to.
fn broad(resource: &Resource, role: &str, member: &str) -> Option<String> {
    let is_broad = Role::named(role)?.basic().is_some() && role != "roles/viewer";
    match Member::parse(member) {
        Ok(Member::ServiceAccount(email)) if is_broad && is_container(&resource.name) => Some(email),
        _ => None,
    }
}

/// The pool of a set of identities that says nothing of branches: all of the pool, or those of a repository, of its
/// owner, of whoever started the run.
fn pool_of_all_branches(member: &str) -> Option<&str> {
    let name = member.strip_prefix("principalSet://iam.googleapis.com/")?;
    let (pool, _) = name.split_once("/*").or_else(|| {
        let kinds = ["repository", "repository_id", "repository_owner", "repository_owner_id", "actor"];
        kinds.iter().find_map(|kind| name.split_once(&format!("/attribute.{kind}/")))
    })?;
    Some(pool)
}

/// Whether a provider lets in every branch.
fn is_open(provider: &ProviderRecord) -> bool {
    let is_github = provider.issuer.trim_end_matches('/') == GITHUB;
    is_github && !SAYS_WHICH_BRANCH.iter().any(|says| provider.condition.contains(says))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_of_a_branch_is_of_every_branch() {
        let pool = "projects/1/locations/global/workloadIdentityPools/github";
        let of = |rest: &str| {
            let member = format!("principalSet://iam.googleapis.com/{pool}/{rest}");
            pool_of_all_branches(&member).map(str::to_owned)
        };
        for all in ["*", "attribute.repository/haar/app", "attribute.actor/ada"] {
            assert_eq!(of(all).as_deref(), Some(pool), "{all}");
        }
        for one in ["attribute.ref/refs/heads/main", "attribute.environment/production", "group/x"] {
            assert_eq!(of(one), None, "{one}");
        }
        assert_eq!(pool_of_all_branches("user:ada@example.com"), None);
    }

    #[test]
    fn a_provider_is_closed_by_what_its_condition_names() {
        let provider = |condition: &str, issuer: &str| ProviderRecord {
            condition: condition.into(),
            issuer: issuer.into(),
            ..ProviderRecord::default()
        };
        assert!(is_open(&provider("assertion.repository == 'haar/app'", GITHUB)));
        assert!(!is_open(&provider("assertion.ref == 'refs/heads/main'", GITHUB)));
        assert!(!is_open(&provider("assertion.environment == 'production'", GITHUB)));
        assert!(!is_open(&provider("", "https://gitlab.com")));
    }

    #[test]
    fn only_machines_that_change_things_are_broad() {
        let project = Resource::project("demo-project");
        let account = "serviceAccount:app@demo-project.iam.gserviceaccount.com";
        assert!(broad(&project, "roles/editor", account).is_some());
        assert!(broad(&project, "roles/owner", account).is_some());
        assert!(broad(&project, "roles/viewer", account).is_none());
        assert!(broad(&project, "roles/run.admin", account).is_none());
        assert!(broad(&project, "roles/owner", "user:ada@example.com").is_none());
    }
}
