//! The members of a policy: who a role can be granted to.
//!
//! A member is text with a prefix. Here it is taken apart once, when a policy is set or compiled, so that a
//! decision compares addresses and nothing else. E-mail addresses are the same in any case of their letters.
//!
//! Source: <https://cloud.google.com/iam/docs/principal-identifiers>.

use kernel::{Error, Result};

use crate::roles::Basic;

/// One member of a binding, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// `allUsers`: anybody, credentials or not.
    Everyone,
    /// `allAuthenticatedUsers`: anybody with a Google identity.
    Authenticated,
    /// `user:`, lowercase.
    User(String),
    /// `serviceAccount:`, lowercase.
    ServiceAccount(String),
    /// `group:`, lowercase.
    Group(String),
    /// `domain:`, lowercase.
    Domain(String),
    /// `principal://…`: one federated identity.
    Principal(String),
    /// `principalSet://…`: a set of federated identities.
    PrincipalSet(String),
    /// `projectOwner:`, `projectEditor:`, `projectViewer:`: whoever has the basic role on the project. Only the
    /// policies of buckets and datasets know them.
    ProjectRole(Basic, String),
    /// `deleted:…?uid=…`: whoever this was can never be anybody again.
    Deleted,
}

/// The longest member that is taken, in bytes: an address of 254 and what may stand around it, or the name of a
/// set of federated identities with a long attribute value.
const MAX_MEMBER: usize = 2048;

impl Member {
    /// Takes a member apart.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, in Google's words, when its kind or its form is wrong.
    pub(crate) fn parse(member: &str) -> Result<Member> {
        match member {
            "allUsers" => return Ok(Member::Everyone),
            "allAuthenticatedUsers" => return Ok(Member::Authenticated),
            _ if member.len() > MAX_MEMBER => return Err(Error::invalid("Policy member is too long.")),
            _ => {}
        }
        let Some((kind, value)) = member.split_once(':') else {
            return Err(unknown_kind(member));
        };
        match kind {
            "user" => email("User", value).map(Member::User),
            "serviceAccount" if is_pool(value) => Ok(Member::ServiceAccount(value.to_owned())),
            "serviceAccount" => email("Service account", value).map(Member::ServiceAccount),
            "group" => email("Group", value).map(Member::Group),
            "domain" if is_domain(value) => Ok(Member::Domain(value.to_ascii_lowercase())),
            "domain" => Err(Error::invalid(format!("Domain {value} does not exist."))),
            "principal" => federated(member, value).map(Member::Principal),
            "principalSet" => federated(member, value).map(Member::PrincipalSet),
            "projectOwner" => {
                project(member, value).map(|project| Member::ProjectRole(Basic::Owner, project))
            }
            "projectEditor" => {
                project(member, value).map(|project| Member::ProjectRole(Basic::Editor, project))
            }
            "projectViewer" => {
                project(member, value).map(|project| Member::ProjectRole(Basic::Viewer, project))
            }
            "deleted" => deleted(member, value).map(|()| Member::Deleted),
            _ => Err(unknown_kind(member)),
        }
    }
}

/// Whether this is an e-mail address as far as a policy cares: something, an at sign, and a domain.
pub(crate) fn is_email(address: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !b"@:?,;<>()[]\\\"{}".contains(&b);
    address.len() <= 254
        && address
            .split_once('@')
            .is_some_and(|(name, domain)| !name.is_empty() && name.bytes().all(plain) && is_domain(domain))
}

fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    domain.len() <= 253 && domain.contains('.') && domain.split('.').all(label)
}

/// GKE's form of a service account: `PROJECT.svc.id.goog[NAMESPACE/NAME]`.
fn is_pool(value: &str) -> bool {
    value.split_once('[').is_some_and(|(pool, rest)| pool.ends_with(".svc.id.goog") && rest.ends_with(']'))
}

fn email(kind: &str, value: &str) -> Result<String> {
    match is_email(value) {
        true => Ok(value.to_ascii_lowercase()),
        false => Err(Error::invalid(format!("{kind} {value} does not exist."))),
    }
}

fn federated(member: &str, value: &str) -> Result<String> {
    let rest = value.strip_prefix("//");
    let known = rest.is_some_and(|rest| {
        rest.starts_with("iam.googleapis.com/")
            || rest.starts_with("goog/")
            || rest.starts_with("cloudresourcemanager.googleapis.com/")
    });
    match known && member.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(member.to_owned()),
        false => Err(Error::invalid(format!("Invalid principal identifier: {member}"))),
    }
}

/// The project of a convenience value.
fn project(member: &str, value: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b);
    match !value.is_empty() && value.len() <= 128 && value.bytes().all(plain) {
        true => Ok(value.to_owned()),
        false => Err(Error::invalid(format!("Invalid project in member {member}."))),
    }
}

/// `deleted:user:ADDRESS?uid=DIGITS` and the like for service accounts and groups, and federated identities, which
/// have no number.
fn deleted(member: &str, value: &str) -> Result<()> {
    if value.starts_with("principal:") {
        return Member::parse(value).map(drop);
    }
    let parts = value
        .split_once("?uid=")
        .filter(|(_, uid)| (1..=40).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_digit()));
    match parts.map(|(who, _)| (who, Member::parse(who))) {
        Some((_, Ok(Member::User(_) | Member::ServiceAccount(_) | Member::Group(_)))) => Ok(()),
        Some((_, Err(error))) => Err(error),
        _ => Err(unknown_kind(member)),
    }
}

fn unknown_kind(member: &str) -> Error {
    Error::invalid(format!(
        "The member {member} is of an unknown type. Please set a valid type prefix for the member."
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_member_makes_it_panic(member in any::<String>()) {
            let _ = Member::parse(&member);
        }

        #[test]
        fn nor_do_the_parts_of_one(parts in proptest::collection::vec(proptest::sample::select(vec![
            "user:", "serviceAccount:", "group:", "domain:", "deleted:", "principal:", "principalSet:", "projectOwner:",
            "//iam.googleapis.com/", "?uid=", "1", "@", "x.com", "ada", ".svc.id.goog[", "]", ":", "/", "*", "é", " ",
        ]), 0..12)) {
            let member = parts.concat();
            if let Ok(Member::User(email) | Member::ServiceAccount(email) | Member::Group(email)) = Member::parse(&member) {
                // What was accepted is accepted again, in the form in which it is compared.
                prop_assert_eq!(Member::parse(&format!("user:{email}")).is_ok(), is_email(&email));
            }
        }
    }

    #[test]
    fn each_kind_is_known_and_addresses_lose_their_case() {
        assert_eq!(Member::parse("user:Ada@Example.COM").unwrap(), Member::User("ada@example.com".into()));
        assert_eq!(Member::parse("allUsers").unwrap(), Member::Everyone);
        assert_eq!(Member::parse("domain:Example.com").unwrap(), Member::Domain("example.com".into()));
        assert_eq!(Member::parse("deleted:serviceAccount:a@b.c?uid=1").unwrap(), Member::Deleted);
        assert!(matches!(
            Member::parse(
                "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/*"
            ),
            Ok(Member::PrincipalSet(_))
        ));
    }

    #[test]
    fn what_is_malformed_is_refused_in_googles_words() {
        for (member, message) in [
            (
                "ada@example.com",
                "The member ada@example.com is of an unknown type. Please set a valid type prefix for the member.",
            ),
            (
                "person:ada@example.com",
                "The member person:ada@example.com is of an unknown type. Please set a valid type prefix for the member.",
            ),
            ("user:ada", "User ada does not exist."),
            ("user:a b@example.com", "User a b@example.com does not exist."),
            ("serviceAccount:x@", "Service account x@ does not exist."),
            (
                "allusers",
                "The member allusers is of an unknown type. Please set a valid type prefix for the member.",
            ),
        ] {
            assert_eq!(Member::parse(member).unwrap_err().message(), message);
        }
    }
}
