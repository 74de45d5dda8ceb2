//! Custom roles: sets of permissions that people name, in a project or an organization.
//!
//! A role that is deleted keeps its bindings and grants nothing. For 7 days it can be brought back, and for 30 more
//! its id stays taken. A disabled one grants nothing either. Decisions know a change at the next call.
//!
//! Sources: <https://cloud.google.com/iam/docs/creating-custom-roles>, <https://cloud.google.com/iam/quotas>, and for
//! the words of errors what people quote in public issues of Terraform's provider.

use std::sync::Arc;

use apis::google::iam::admin::v1::role::RoleLaunchStage;
use kernel::{
    Error, Resource, Result, etag,
    mirror::{Record, Versioned},
    names::RESOURCE_MANAGER,
    paging::Page,
    store::{Outcome, Txn},
};

use crate::{
    Iam,
    records::{ROLES, RoleRecord},
    roles::Permission,
};

/// How long a deleted role can be brought back, in seconds.
const UNDELETABLE: u64 = 7 * 24 * 3600;
/// How long the id of a deleted role is taken, in seconds.
const KEPT: u64 = 37 * 24 * 3600;
/// The most roles of a project or an organization.
const MOST_ROLES: usize = 300;
/// The most permissions of a role.
const MOST_PERMISSIONS: usize = 3000;
/// The longest title, in bytes.
const MOST_TITLE: usize = 100;
/// The longest description, in bytes.
const MOST_DESCRIPTION: usize = 300;
/// The most bytes of title, description and permissions together.
const MOST_BYTES: usize = 64 << 10;

/// A role with its name.
pub(crate) type NamedRole = (Arc<str>, Arc<Versioned<RoleRecord>>);

/// Whether a list has the roles that were deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// It has.
    Shown,
    /// It has not.
    Hidden,
}

impl Iam {
    /// The parent of custom roles under the name that they are stored under, a project by its id.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is neither project nor organization; as the project answers.
    pub(crate) async fn role_parent(&self, parent: &str) -> Result<String> {
        match parent.split_once('/') {
            Some(("projects", id)) if !id.contains('/') => {
                Ok(Resource::project(&self.projects.resolve(id).await?.id).name)
            }
            Some(("organizations", id)) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(parent.to_owned())
            }
            _ => Err(Error::bad_field("parent", format!("Invalid parent of a role: {parent}"))),
        }
    }

    /// The name that a custom role is stored under.
    ///
    /// # Errors
    /// As [`Iam::role_parent`].
    pub(crate) async fn role_name(&self, name: &str) -> Result<String> {
        let (parent, id) = name
            .split_once("/roles/")
            .ok_or_else(|| Error::bad_field("name", format!("Invalid role name: {name}")))?;
        Ok(format!("{}/roles/{id}", self.role_parent(parent).await?))
    }

    /// A custom role by its stored name, deleted or not.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn custom_role(&self, name: &str) -> Result<Arc<Versioned<RoleRecord>>> {
        let now = self.clock.unix();
        self.custom
            .get(name)
            .filter(|role| role.deleted == 0 || role.deleted + KEPT > now)
            .ok_or_else(|| Error::not_found(format!("The role named {name} was not found.")))
    }

    /// A page of the roles of a parent, and the token of the next.
    pub(crate) fn custom_roles(
        &self,
        parent: &str,
        page: &Page,
        deleted: Deleted,
    ) -> (Vec<NamedRole>, String) {
        let prefix = format!("{parent}/roles/");
        let wanted = |_: &str, role: &Versioned<RoleRecord>| deleted == Deleted::Shown || role.deleted == 0;
        let found = self.custom.scan(&prefix, page.after(), page.size().saturating_add(1), wanted);
        page.cut(found, |(name, _)| name)
    }

    /// Makes a custom role.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, `ALREADY_EXISTS`; `FAILED_PRECONDITION` while a deleted role has the id;
    /// `RESOURCE_EXHAUSTED` when there are too many.
    pub(crate) async fn create_role(
        &self,
        parent: &str,
        id: &str,
        role: RoleRecord,
    ) -> Result<Arc<Versioned<RoleRecord>>> {
        check_id(id)?;
        check(parent, &role)?;
        let name = format!("{parent}/roles/{id}");
        match self.custom_role(&name) {
            Ok(found) if found.deleted == 0 => return Err(exists(id, parent)),
            Ok(_) => {
                return Err(Error::precondition(format!(
                    "You can't create a role_id ({id}) which has been marked for deletion."
                )));
            }
            Err(_) => {}
        }
        if self.custom.range(&format!("{parent}/roles/"), "", MOST_ROLES).len() >= MOST_ROLES {
            return Err(Error::exhausted(format!(
                "Maximum number of roles reached. Maximum is: {MOST_ROLES}"
            )));
        }
        // What is left of one that was deleted long ago is replaced.
        let revision = self.custom.get(&name).map_or(0, |old| old.revision);
        match self.put_role(&name, revision, &role).await? {
            Some(role) => Ok(role),
            None => Err(exists(id, parent)),
        }
    }

    /// Changes a custom role.
    ///
    /// # Errors
    /// `NOT_FOUND`, `INVALID_ARGUMENT`; `ABORTED` on a stale etag or when another change won; what `change` says.
    pub(crate) async fn change_role(
        &self,
        name: &str,
        given_etag: &[u8],
        change: impl FnOnce(&mut RoleRecord, u64) -> Result<()>,
    ) -> Result<Arc<Versioned<RoleRecord>>> {
        let found = self.custom_role(name)?;
        if !etag::allows_bytes(given_etag, found.revision) {
            return Err(stale());
        }
        let mut role = found.value.clone();
        change(&mut role, self.clock.unix())?;
        check(name.split("/roles/").next().unwrap_or_default(), &role)?;
        self.put_role(name, found.revision, &role).await?.ok_or_else(stale)
    }

    /// Writes a role; `None` if it is not what it was any more.
    async fn put_role(
        &self,
        name: &str,
        revision: u64,
        role: &RoleRecord,
    ) -> Result<Option<Arc<Versioned<RoleRecord>>>> {
        let key = [ROLES, name].concat();
        match self.custom.commit(Txn::new().check(&key, revision).put(&key, role.to_stored())).await? {
            Outcome::Committed(_) => self.custom_role(name).map(Some),
            Outcome::Conflict(_) => Ok(None),
        }
    }

    /// Whether a custom role can be granted on a resource: it exists there, in the resource's project or above.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`.
    pub(crate) fn check_custom_role(&self, role: &str, resource: &Resource) -> Result<()> {
        let absent =
            || Err(Error::invalid(format!("Role ({role}) does not exist in the resource's hierarchy.")));
        let parent = role.split("/roles/").next().unwrap_or_default();
        let is_above = match parent.strip_prefix("projects/") {
            // A bucket's name does not say whose it is.
            Some(id) => resource.project_id().is_some_and(|project| project == id || project == "_"),
            None => true,
        };
        match self.custom_role(role) {
            Ok(_) if is_above => Ok(()),
            _ => absent(),
        }
    }

    /// What is deleted in a sweep: roles whose ids are free again.
    pub(crate) fn forgotten_roles(&self, now: u64) -> Txn {
        let gone = |_: &str, role: &Versioned<RoleRecord>| role.deleted != 0 && role.deleted + KEPT <= now;
        let found = self.custom.scan("", "", 64, gone);
        found.into_iter().fold(Txn::new(), |txn, (name, _)| txn.delete(self.custom.key(&name)))
    }
}

/// Marks a role as deleted.
///
/// # Errors
/// `FAILED_PRECONDITION` for one that is.
pub(crate) fn delete(role: &mut RoleRecord, now: u64) -> Result<()> {
    if role.deleted != 0 {
        return Err(Error::precondition("You can't delete a role that has been marked for deletion."));
    }
    role.deleted = now;
    Ok(())
}

/// Brings a deleted role back.
///
/// # Errors
/// `FAILED_PRECONDITION` for one that is not deleted, or was too long ago.
pub(crate) fn undelete(role: &mut RoleRecord, now: u64) -> Result<()> {
    match role.deleted {
        0 => Err(Error::precondition("You can't undelete a role that has not been deleted.")),
        deleted if deleted + UNDELETABLE <= now => {
            Err(Error::precondition("You can't undelete a role more than 7 days after it was deleted."))
        }
        _ => {
            role.deleted = 0;
            Ok(())
        }
    }
}

/// Whether a custom role of this parent may have a permission. What is about organizations and folders, and finding
/// projects, makes no sense within one.
pub(crate) fn is_supported(permission: Permission, parent: &str) -> bool {
    let name = permission.name();
    let is_above = ["resourcemanager.organizations.", "resourcemanager.folders."];
    !parent.starts_with("projects/")
        || !(is_above.iter().any(|prefix| name.starts_with(prefix))
            || matches!(name, "resourcemanager.projects.list" | "resourcemanager.projects.create"))
}

fn check_id(id: &str) -> Result<()> {
    let ok = (3..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
    match ok {
        true => Ok(()),
        false => Err(Error::bad_field(
            "role_id",
            format!("The role ID \"{id}\" does not match the regular expression [a-zA-Z0-9_.]{{3,64}}."),
        )),
    }
}

fn check(parent: &str, role: &RoleRecord) -> Result<()> {
    let invalid = |field: &str, what: String| Err(Error::bad_field(field, what));
    if role.title.len() > MOST_TITLE {
        return invalid("role.title", format!("The title of a role is longer than {MOST_TITLE} bytes."));
    }
    if role.description.len() > MOST_DESCRIPTION {
        return invalid(
            "role.description",
            format!("The description of a role is longer than {MOST_DESCRIPTION} bytes."),
        );
    }
    if RoleLaunchStage::try_from(role.stage).is_err() {
        return invalid("role.stage", format!("Invalid launch stage: {}.", role.stage));
    }
    if role.permissions.len() > MOST_PERMISSIONS {
        return invalid(
            "role.included_permissions",
            format!("A role has at most {MOST_PERMISSIONS} permissions."),
        );
    }
    let size =
        role.title.len() + role.description.len() + role.permissions.iter().map(String::len).sum::<usize>();
    if size > MOST_BYTES {
        return invalid("role", format!("A role is larger than {MOST_BYTES} bytes."));
    }
    let is_bad = |name: &&String| Permission::named(name).is_none_or(|known| !is_supported(known, parent));
    match role.permissions.iter().find(is_bad) {
        Some(bad) => Err(Error::invalid(format!("Permission {bad} is not valid."))),
        None => Ok(()),
    }
}

fn exists(id: &str, parent: &str) -> Error {
    Error::already_exists(format!("A role named {id} in {parent} already exists."))
}

fn stale() -> Error {
    Error::aborted("There were concurrent changes to the role. Please read it again and retry.")
}

/// What a parent's permissions are asked on.
pub(crate) fn resource_of(parent: &str) -> Resource {
    Resource::new(RESOURCE_MANAGER, parent)
}
