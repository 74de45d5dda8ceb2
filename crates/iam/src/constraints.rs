//! What organization policies forbid here: keys, accounts, and members from elsewhere.
//!
//! Who is from here: people and groups of the organization's domain, service accounts and pools of its projects. A
//! policy names them by the customer's id or by the set of the organization's principals. Nobody knows which customers
//! other domains belong to, so whoever is from elsewhere is in no list. What stands in a policy already may stay: only
//! what is added is asked.

use std::sync::Arc;

use kernel::{
    Error, Resource, Result,
    error::Detail,
    names::{CUSTOMER, DOMAIN},
    ports::Constraints,
};

use crate::{
    Iam, SERVICE,
    auth::project_of,
    members::Member,
    records::{AccountRecord, BindingRecord, PolicyRecord},
};

const MEMBERS: &str = "iam.allowedPolicyMemberDomains";
const LIFETIMES: &str = "iam.allowServiceAccountCredentialLifetimeExtension";

impl Iam {
    /// Says whom to ask about organization policies. Without it there are none. The first call counts.
    pub fn obey(&self, constraints: Arc<dyn Constraints>) {
        let _ = self.constraints.set(constraints);
    }

    /// Refuses to create a service account where that is forbidden.
    pub(crate) fn may_create_account(&self, project: &str, id: &str) -> Result<()> {
        let constraint = "iam.disableServiceAccountCreation";
        let text = "Service account creation is not allowed on this project.";
        let subject = format!("projects/{project}/serviceAccounts/?configvalue={}", escaped(id));
        self.unless_enforced(constraint, &Resource::project(project), text, subject)
    }

    /// Refuses to create a key of a service account where that is forbidden.
    pub(crate) fn may_create_key(&self, account: &AccountRecord) -> Result<()> {
        let text = "Key creation is not allowed on this service account.";
        self.unless_enforced("iam.disableServiceAccountKeyCreation", &of(account), text, subject(account))
    }

    /// Refuses to take in a key of a service account where that is forbidden.
    pub(crate) fn may_upload_key(&self, account: &AccountRecord) -> Result<()> {
        let constraint = "iam.disableServiceAccountKeyUpload";
        let text = format!(
            "Constraint `constraints/{constraint}` violated for service account {} attempting to upload public key.",
            of(account)
        );
        self.unless_enforced(constraint, &of(account), &text, subject(account))
    }

    /// Whether tokens of a service account may live longer than an hour.
    pub(crate) fn may_live_long(&self, project: &str, email: &str) -> bool {
        self.constraints
            .get()
            .is_some_and(|policies| policies.allows(LIFETIMES, &Resource::project(project), &[email]))
    }

    /// Refuses members that are added to a policy and are from elsewhere, where that is forbidden.
    pub(crate) fn check_added(
        &self,
        resource: &Resource,
        now: &PolicyRecord,
        next: &[BindingRecord],
    ) -> Result<()> {
        let Some(policies) = self.constraints.get() else { return Ok(()) };
        let is_there = |binding: &BindingRecord, member: &str| {
            let same = |one: &&BindingRecord| one.role == binding.role && one.condition == binding.condition;
            now.bindings.iter().filter(same).any(|one| one.members.iter().any(|held| held.name == member))
        };
        for binding in next {
            for member in &binding.members {
                let names = self.names_of(&member.name);
                let asked = !is_there(binding, &member.name);
                if asked && !names.is_some_and(|names| policies.allows(MEMBERS, resource, names)) {
                    return Err(from_elsewhere(resource, &member.name));
                }
            }
        }
        Ok(())
    }

    fn unless_enforced(
        &self,
        constraint: &str,
        resource: &Resource,
        text: &str,
        subject: String,
    ) -> Result<()> {
        match self.constraints.get().is_some_and(|policies| policies.enforces(constraint, resource)) {
            true => Err(Error::precondition(text).with(Detail::Precondition(vec![(
                format!("constraints/{constraint}"),
                subject,
                text.to_owned(),
            )]))),
            false => Ok(()),
        }
    }

    /// The names by which a policy may know where a member is from; `None` for a member that is none.
    fn names_of(&self, member: &str) -> Option<&'static [&'static str]> {
        let is_ours = match Member::parse(member).ok()? {
            Member::User(email) | Member::Group(email) => {
                email.rsplit_once('@').is_some_and(|(_, domain)| is_our_domain(domain))
            }
            Member::Domain(domain) => is_our_domain(&domain),
            Member::ServiceAccount(email) => self.is_our_account(&email),
            Member::Principal(name) | Member::PrincipalSet(name) => self.is_our_pool(&name),
            Member::Everyone | Member::Authenticated => false,
            // Whoever they are, they are in the project; and who is deleted is nobody.
            Member::ProjectRole(..) | Member::Deleted => true,
        };
        Some(if is_ours { &[CUSTOMER, ORGANIZATION_SET] } else { &[] })
    }

    /// Whether a service account is in one of our projects, or an agent of Google's for one of them.
    fn is_our_account(&self, email: &str) -> bool {
        let number = || {
            let digits: String =
                email.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            (digits.len() == 12 && email.ends_with(".gserviceaccount.com")).then_some(digits)
        };
        let known = |project: String| self.projects.known(&project).is_some();
        project_of(email).is_some_and(known) || number().is_some_and(known)
    }

    fn is_our_pool(&self, name: &str) -> bool {
        let project = name.split_once("/projects/").and_then(|(_, rest)| rest.split('/').next());
        project.is_some_and(|project| self.projects.known(project).is_some())
    }
}

/// The principals of the organization, as a policy names them.
const ORGANIZATION_SET: &str = "principalSet://iam.googleapis.com/organizations/440056207318";

fn is_our_domain(domain: &str) -> bool {
    domain == DOMAIN || domain.strip_suffix(DOMAIN).is_some_and(|below| below.ends_with('.'))
}

fn of(account: &AccountRecord) -> Resource {
    Resource::new(SERVICE, format!("projects/{}/serviceAccounts/{}", account.project, account.email))
}

fn subject(account: &AccountRecord) -> String {
    format!("{}?configvalue={}", of(account), escaped(&account.email))
}

fn escaped(text: &str) -> String {
    text.replace('@', "%40")
}

/// Cloud Run says it with more words than the others.
fn from_elsewhere(resource: &Resource, member: &str) -> Error {
    let who = member.split_once(':').map_or(member, |(_, who)| who);
    let more =
        if resource.service == "run.googleapis.com" { ", perhaps due to an organization policy" } else { "" };
    let container: Vec<&str> = resource.name.split('/').take(2).collect();
    Error::precondition(format!(
        "One or more users named in the policy do not belong to a permitted customer{more}."
    ))
    .with(Detail::Precondition(vec![(
        format!("constraints/{MEMBERS}"),
        format!("orgpolicy:{}?configvalue={}", container.join("/"), escaped(who)),
        format!("User {who} is not in permitted organization."),
    )]))
}

#[cfg(test)]
mod tests {
    use kernel::names::ORGANIZATION;

    use super::*;

    #[test]
    fn the_organization_is_the_one_there_is() {
        assert_eq!(ORGANIZATION_SET, format!("principalSet://iam.googleapis.com/{ORGANIZATION}"));
        assert!(is_our_domain("haar.localhost") && is_our_domain("eu.haar.localhost"));
        assert!(!is_our_domain("nothaar.localhost") && !is_our_domain("example.com"));
    }

    #[test]
    fn cloud_run_says_more() {
        let run = Resource::new("run.googleapis.com", "projects/p/locations/l/services/s");
        let error = from_elsewhere(&run, "allUsers");
        assert!(error.message().ends_with("permitted customer, perhaps due to an organization policy."));
        let error = from_elsewhere(&Resource::project("my-project"), "user:ada@example.com");
        assert!(error.message().ends_with("permitted customer."));
        let Detail::Precondition(violations) = &error.details()[0] else { panic!("{error}") };
        assert_eq!(violations[0].1, "orgpolicy:projects/my-project?configvalue=ada%40example.com");
    }
}
