//! Who calls, and what they are allowed to do.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use crate::{
    Resource, Result,
    error::{Detail, Error},
    ports::Authority,
};

/// Who a call is made as, once its credentials have been verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A person, by e-mail address.
    User(Arc<str>),
    /// A service account, by e-mail address.
    ServiceAccount(Arc<str>),
    /// An identity from a workload identity pool.
    Federated(Federation),
    /// Nobody: no credentials were given.
    Anonymous,
}

impl Principal {
    /// The principal as it stands in a policy's members; `None` for nobody.
    pub fn member(&self) -> Option<String> {
        match self {
            Principal::User(email) => Some(format!("user:{email}")),
            Principal::ServiceAccount(email) => Some(format!("serviceAccount:{email}")),
            Principal::Federated(name) => Some(name.to_string()),
            Principal::Anonymous => None,
        }
    }

    /// The e-mail address, where there is one.
    pub fn email(&self) -> Option<&str> {
        match self {
            Principal::User(email) | Principal::ServiceAccount(email) => Some(email),
            _ => None,
        }
    }
}

/// An identity from a workload identity pool: its name, and the sets of its pool that it is in. Reads as its name,
/// such as `principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/s`. Cheap to
/// clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Federation(Arc<Federated>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Federated {
    name: Box<str>,
    sets: Box<[Box<str>]>,
}

impl Federation {
    /// An identity, and the sets it is in by what stands after the pool in their names: `group/g`, `attribute.a/v`.
    pub fn new(name: impl Into<Box<str>>, sets: impl IntoIterator<Item = Box<str>>) -> Self {
        Federation(Arc::new(Federated { name: name.into(), sets: sets.into_iter().collect() }))
    }

    /// The sets that it is in, by what stands after the pool in their names.
    pub fn sets(&self) -> &[Box<str>] {
        &self.0.sets
    }

    /// The name of its pool, without a scheme: `//iam.googleapis.com/…/workloadIdentityPools/p`.
    pub fn pool(&self) -> &str {
        let name = self.strip_prefix("principal:").unwrap_or(self);
        name.split_once("/subject/").map_or(name, |(pool, _)| pool)
    }

    /// Whether it is in a set, as a policy names it: `principalSet://…`, or its whole pool by `/*` at the end.
    pub fn is_in(&self, set: &str) -> bool {
        let inside = set.strip_prefix("principalSet:").and_then(|set| set.strip_prefix(self.pool()));
        match inside.and_then(|inside| inside.strip_prefix('/')) {
            Some("*") => true,
            Some(inside) => self.sets().iter().any(|one| **one == *inside),
            None => false,
        }
    }
}

impl std::ops::Deref for Federation {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.name
    }
}

impl AsRef<str> for Federation {
    fn as_ref(&self) -> &str {
        self
    }
}

impl From<String> for Federation {
    fn from(name: String) -> Self {
        Federation::new(name, [])
    }
}

/// The caller of one request: a principal, what is known of the request, and the authority that decides.
/// Cheap to clone.
#[derive(Clone)]
pub struct Caller(Arc<Inner>);

struct Inner {
    principal: Principal,
    request: RequestInfo,
    authority: Arc<dyn Authority>,
}

/// What is known of a request besides its message.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// When it arrived.
    pub time: SystemTime,
    /// Where it came from, if over a network.
    pub peer: Option<IpAddr>,
    /// The host it was sent to, such as `us-central1-run.googleapis.com`, in lowercase and without a port.
    pub host: Box<str>,
    /// The client's `User-Agent`.
    pub user_agent: Box<str>,
}

impl Caller {
    /// A caller whose credentials have been verified.
    pub fn new(principal: Principal, request: RequestInfo, authority: Arc<dyn Authority>) -> Self {
        Caller(Arc::new(Inner { principal, request, authority }))
    }

    /// Who calls.
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// What is known of the request.
    pub fn request(&self) -> &RequestInfo {
        &self.0.request
    }

    /// Whether the caller has a permission on a resource, by its policy or an ancestor's.
    pub fn may(&self, permission: &str, resource: &Resource) -> bool {
        self.0.authority.allows(&self.0.principal, permission, resource, &self.0.request)
    }

    /// Refuses a caller who lacks a permission, in Google's words.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `PERMISSION_DENIED` naming permission and resource for everybody else.
    pub fn require(&self, permission: &str, resource: &Resource) -> Result<()> {
        if self.may(permission, resource) { Ok(()) } else { Err(self.refusal(permission, resource)) }
    }

    /// The error for a permission that is missing.
    pub fn refusal(&self, permission: &str, resource: &Resource) -> Error {
        if self.0.principal == Principal::Anonymous {
            return missing_credentials();
        }
        let message = denial(permission, resource);
        Error::denied(message).with(Detail::Info {
            reason: "IAM_PERMISSION_DENIED",
            domain: "iam.googleapis.com",
            metadata: vec![("permission", permission.to_owned()), ("resource", resource.name.clone())],
        })
    }
}

/// Google's sentence for a permission that is missing, which differs from product to product; as people quote it in
/// public issues, for instance of `python-secret-manager` and `deploy-cloudrun`.
fn denial(permission: &str, resource: &Resource) -> String {
    let name = &resource.name;
    match permission.split('.').next().unwrap_or_default() {
        "iam" if permission == "iam.serviceaccounts.actAs" => {
            let account = name.rsplit('/').next().unwrap_or(name);
            format!("Permission '{permission}' denied on service account {account} (or it may not exist).")
        }
        "secretmanager" => {
            format!("Permission '{permission}' denied for resource '{name}' (or it may not exist).")
        }
        "run" => {
            format!("Permission '{permission}' denied on resource '{name}' (or resource may not exist).")
        }
        _ => {
            format!(
                "Permission '{permission}' denied on resource '//{}/{name}' (or it may not exist).",
                resource.service
            )
        }
    }
}

/// What Google answers to a call without credentials.
pub fn missing_credentials() -> Error {
    Error::unauthenticated(
        "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or \
         other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
    )
    .with(Detail::Info { reason: "CREDENTIALS_MISSING", domain: "googleapis.com", metadata: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_federated_identity_is_in_its_sets_and_in_its_pool() {
        let pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p";
        let who = Federation::new(
            format!("principal:{pool}/subject/a/subject/b"),
            ["group/g".into(), "attribute.ref/refs/heads/main".into()],
        );
        assert_eq!(who.pool(), pool);
        for set in ["/*", "/group/g", "/attribute.ref/refs/heads/main"] {
            assert!(who.is_in(&format!("principalSet:{pool}{set}")), "{set}");
        }
        for set in ["2/*", "/group/*", "/attribute.ref/refs/heads", "/attribute.ref/refs/heads/main/x", ""] {
            assert!(!who.is_in(&format!("principalSet:{pool}{set}")), "{set}");
        }
    }
}
