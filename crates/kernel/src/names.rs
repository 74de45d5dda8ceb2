//! Names of resources, and what lies above them.
//!
//! Google names a resource relative to its service, such as `projects/p/secrets/s`, and in full as
//! `//secretmanager.googleapis.com/projects/p/secrets/s`. Policies are attached to full names; permission is
//! inherited from each ancestor, up to the project and what stands above it.

use std::fmt;

use crate::{Error, Result};

/// A resource as permission checks see it: which service it belongs to, and its relative name with the
/// project as an id, never as a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The service, such as `secretmanager.googleapis.com`.
    pub service: &'static str,
    /// The relative name, such as `projects/p/secrets/s`.
    pub name: String,
}

/// The service that projects, folders and organizations belong to.
pub const RESOURCE_MANAGER: &str = "cloudresourcemanager.googleapis.com";

/// The one organization there is. Every project and folder is in it.
pub const ORGANIZATION: &str = "organizations/440056207318";

/// The customer that the organization belongs to, as organization policies name it.
pub const CUSTOMER: &str = "C0haar000";

/// The organization's domain, and so what it is called: the addresses of its people end in it.
pub const DOMAIN: &str = "haar.localhost";

impl Resource {
    /// A resource of this service.
    pub fn new(service: &'static str, name: impl Into<String>) -> Self {
        Resource { service, name: name.into() }
    }

    /// The project itself.
    pub fn project(id: &str) -> Self {
        Resource { service: RESOURCE_MANAGER, name: format!("projects/{id}") }
    }

    /// The id of the project in the name, if it has one.
    pub fn project_id(&self) -> Option<&str> {
        self.name.strip_prefix("projects/").map(|rest| rest.split('/').next().unwrap_or(rest))
    }

    /// The full name, as audit logs and policies use it.
    pub fn full_name(&self) -> String {
        format!("//{}/{}", self.service, self.name)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Takes a name apart by a pattern of its collections: with `["projects", "secrets"]`, the name
/// `projects/p/secrets/s` gives `["p", "s"]`. `None` when a collection differs, an id is empty, or anything
/// is left over.
pub fn parse<'n, const N: usize>(name: &'n str, collections: [&str; N]) -> Option<[&'n str; N]> {
    let mut segments = name.split('/');
    let mut ids = [""; N];
    for (id, collection) in ids.iter_mut().zip(collections) {
        if segments.next()? != collection {
            return None;
        }
        *id = segments.next().filter(|id| !id.is_empty())?;
    }
    segments.next().is_none().then_some(ids)
}

/// The project, folder or organization that a name begins with: `projects/p` of `projects/p/secrets/s`. `None` where it
/// begins with none.
pub fn container(name: &str) -> Option<&str> {
    let kinds = ["projects/", "folders/", "organizations/"];
    let kind = kinds.into_iter().find(|kind| name.starts_with(kind))?;
    let id = name[kind.len()..].split('/').next().filter(|id| !id.is_empty())?;
    Some(&name[..kind.len() + id.len()])
}

/// Whether a name is that of a project, a folder or an organization.
pub fn is_container(name: &str) -> bool {
    container(name) == Some(name)
}

/// Takes a name apart behind its project: `projects/p/secrets/s` gives `p` and `/secrets/s`. `None` for what is in no
/// project.
pub fn in_project(name: &str) -> Option<(&str, &str)> {
    let inside = name.strip_prefix("projects/")?;
    Some(inside.split_at(inside.find('/').unwrap_or(inside.len())))
}

/// Checks a project id by Google's rule: 6 to 30 lowercase letters, digits and hyphens, a letter first, no
/// hyphen last (<https://cloud.google.com/resource-manager/docs/creating-managing-projects>). A legacy
/// `domain.com:` prefix is allowed.
pub fn check_project_id(id: &str) -> Result<()> {
    let bare = id.split_once(':').map_or(id, |(_, bare)| bare);
    let ok = (6..=30).contains(&bare.len())
        && bare.starts_with(|c: char| c.is_ascii_lowercase())
        && !bare.ends_with('-')
        && bare.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if ok {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "Project id '{id}' is not valid: use 6 to 30 lowercase letters, digits and hyphens, starting with a letter."
        )))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_begins_with_its_container() {
        assert_eq!(container("projects/p/locations/l/services/s"), Some("projects/p"));
        assert_eq!(container("organizations/1"), Some("organizations/1"));
        for none in ["projects/", "projects//secrets/s", "things/1", "projects", ""] {
            assert_eq!(container(none), None, "{none}");
        }
        assert!(is_container("folders/7") && !is_container("folders/7/x") && !is_container("folders/7/"));
    }

    #[test]
    fn a_name_goes_on_behind_its_project() {
        assert_eq!(in_project("projects/p/secrets/s"), Some(("p", "/secrets/s")));
        assert_eq!(in_project("projects/p"), Some(("p", "")));
        assert_eq!(in_project("folders/7"), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_apart_is_the_name(name in "(projects/|folders/)?\\PC{0,20}") {
            prop_assert!(container(&name).is_none_or(|container| name.starts_with(container)));
            if let Some((project, rest)) = in_project(&name) {
                prop_assert_eq!(["projects/", project, rest].concat(), name);
            }
        }
    }
}
