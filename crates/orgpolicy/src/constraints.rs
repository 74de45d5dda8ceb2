//! The constraints there are.
//!
//! Each is obeyed by the product it is about; those of Cloud Storage are kept for it.
//! Source: <https://cloud.google.com/resource-manager/docs/organization-policy/org-policy-constraints>.

use kernel::names::ORGANIZATION;

/// What kind of rule a constraint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is enforced, or not.
    Boolean,
    /// It allows some values, or denies some.
    List {
        /// What holds where nobody set it.
        default: Default,
        /// Which values there are.
        values: Values,
    },
}

/// What a list constraint does where nobody set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Default {
    /// Every value is allowed.
    Allow,
    /// None is.
    Deny,
}

/// The values that a list constraint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Customers of Google, by id, and organizations, by the set of their principals.
    Customers,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Addresses of service accounts.
    ServiceAccounts,
}

/// A constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Constraint {
    /// Its name, without `constraints/`.
    pub(crate) name: &'static str,
    /// What it is called.
    pub(crate) display_name: &'static str,
    /// What it does.
    pub(crate) description: &'static str,
    /// What kind of rule it is.
    pub(crate) kind: Kind,
}

const INGRESS: Values = Values::OneOf(&["all", "internal", "internal-and-cloud-load-balancing"]);

/// All of them, by name.
pub(crate) const ALL: [Constraint; 9] = [
    list(
        "iam.allowServiceAccountCredentialLifetimeExtension",
        "Allow extending lifetime of OAuth 2.0 access tokens to up to 12 hours",
        "Service accounts whose access tokens may live for up to 12 hours.",
        Default::Deny,
        Values::ServiceAccounts,
    ),
    list(
        "iam.allowedPolicyMemberDomains",
        "Domain restricted sharing",
        "The customers whose identities may be added to IAM policies.",
        Default::Allow,
        Values::Customers,
    ),
    boolean(
        "iam.disableServiceAccountCreation",
        "Disable service account creation",
        "No service accounts are created where this is enforced.",
    ),
    boolean(
        "iam.disableServiceAccountKeyCreation",
        "Disable service account key creation",
        "No keys of service accounts are created where this is enforced.",
    ),
    boolean(
        "iam.disableServiceAccountKeyUpload",
        "Disable Service Account Key Upload",
        "No public keys are uploaded to service accounts where this is enforced.",
    ),
    list(
        "run.allowedIngress",
        "Allowed ingress settings (Cloud Run)",
        "The ingress settings that Cloud Run services may have.",
        Default::Allow,
        INGRESS,
    ),
    boolean(
        "sql.restrictPublicIp",
        "Restrict Public IP access on Cloud SQL instances",
        "Cloud SQL instances have no public address where this is enforced.",
    ),
    boolean(
        "storage.publicAccessPrevention",
        "Enforce Public Access Prevention",
        "Nothing in Cloud Storage is public where this is enforced.",
    ),
    boolean(
        "storage.uniformBucketLevelAccess",
        "Enforce uniform bucket-level access",
        "Buckets use uniform bucket-level access where this is enforced.",
    ),
];

const fn boolean(name: &'static str, display_name: &'static str, description: &'static str) -> Constraint {
    Constraint { name, display_name, description, kind: Kind::Boolean }
}

const fn list(
    name: &'static str,
    display_name: &'static str,
    description: &'static str,
    default: Default,
    values: Values,
) -> Constraint {
    Constraint { name, display_name, description, kind: Kind::List { default, values } }
}

impl Constraint {
    /// The constraint of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Constraint> {
        ALL.iter().find(|constraint| constraint.name == name)
    }
}

impl Values {
    /// The value that a policy means, without the `is:` that may stand before it. `None` for what is none.
    pub(crate) fn meant(self, text: &str) -> Option<&str> {
        let value = text.strip_prefix("is:").unwrap_or(text);
        let is_value = match self {
            Values::OneOf(values) => values.contains(&value),
            Values::Customers => is_customer(value) || is_organization(value),
            Values::ServiceAccounts => is_service_account(value),
        };
        is_value.then_some(value)
    }
}

/// The name by which a policy allows whoever is in our organization, besides the customer's id.
pub(crate) fn is_organization(value: &str) -> bool {
    value.strip_prefix("principalSet://iam.googleapis.com/").is_some_and(|name| {
        name == ORGANIZATION || name.strip_prefix("organizations/").is_some_and(is_number)
    })
}

fn is_customer(value: &str) -> bool {
    value.len() == 9
        && value
            .strip_prefix('C')
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
}

fn is_service_account(value: &str) -> bool {
    value.len() <= 254
        && value.bytes().all(|byte| byte.is_ascii_graphic())
        && value
            .split_once('@')
            .is_some_and(|(name, domain)| !name.is_empty() && domain.ends_with(".gserviceaccount.com"))
}

fn is_number(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use kernel::names::CUSTOMER;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn constraints_stand_by_name() {
        assert!(ALL.is_sorted_by_key(|constraint| constraint.name));
        assert_eq!(Constraint::named("run.allowedIngress").map(|one| one.name), Some("run.allowedIngress"));
        assert_eq!(Constraint::named("constraints/run.allowedIngress"), None);
    }

    #[test]
    fn values_are_what_their_constraint_knows() {
        assert_eq!(INGRESS.meant("is:internal"), Some("internal"));
        assert_eq!(INGRESS.meant("in:internal"), None, "there are no groups of values");
        assert_eq!(INGRESS.meant("everything"), None);
        assert_eq!(Values::Customers.meant(CUSTOMER), Some(CUSTOMER));
        assert_eq!(Values::Customers.meant("is:C03xgje4y"), Some("C03xgje4y"));
        for bad in ["example.com", "C0", "c03xgje4y", "C03XGJE4Y", "under:organizations/1", ""] {
            assert_eq!(Values::Customers.meant(bad), None, "{bad}");
        }
        let ours = format!("principalSet://iam.googleapis.com/{ORGANIZATION}");
        assert_eq!(Values::Customers.meant(&ours), Some(&*ours));
        let account = "a@my-project.iam.gserviceaccount.com";
        assert_eq!(Values::ServiceAccounts.meant(account), Some(account));
        assert_eq!(Values::ServiceAccounts.meant("ada@example.com"), None);
    }

    proptest! {
        #[test]
        fn no_value_panics_and_all_are_parts_of_what_was_given(text in "(is:|in:|under:)?(C[0-9a-z]{7,9}|\\PC{0,20})") {
            for values in [INGRESS, Values::Customers, Values::ServiceAccounts] {
                if let Some(value) = values.meant(&text) {
                    let marked = format!("is:{value}");
                    prop_assert!(text == value || text == marked);
                }
            }
        }
    }
}
