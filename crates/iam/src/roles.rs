//! Permissions and predefined roles, from one table of text.
//!
//! `roles.txt` says each thing once, in a form that people can check against Google's reference pages. Only its
//! permission names are taken in when the first decision is made; a role's selectors are worked out when the
//! role is first used, since a machine uses ten of them and not a hundred and fifty. A permission is then a small
//! number and a role a set of bits.
//!
//! Custom roles are not here: they are sets of the same kind, made from stored records.

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock},
};

/// A permission that the table knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission(u16);

impl Permission {
    /// The permission of this name, such as `secretmanager.versions.access`.
    pub fn named(name: &str) -> Option<Permission> {
        TABLE.index.get(name).copied().map(Permission)
    }

    /// Every permission, in the order of the table.
    pub fn all() -> impl Iterator<Item = Permission> {
        (0..TABLE.permissions.len() as u16).map(Permission)
    }

    /// Whether it is about resources of a service such as `secretmanager.googleapis.com`; all are about projects.
    pub fn concerns(self, service: &str) -> bool {
        match prefix(service) {
            "cloudresourcemanager" => true,
            prefix => self.name().split('.').next() == Some(prefix),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        TABLE.permissions[self.0 as usize].name
    }
}

const WORDS: usize = 16;

/// A set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PermissionSet([u64; WORDS]);

impl PermissionSet {
    /// Whether the permission is in the set.
    pub fn contains(&self, Permission(index): Permission) -> bool {
        self.0[index as usize / 64] >> (index % 64) & 1 == 1
    }

    /// Adds all of another set.
    pub fn add(&mut self, other: &PermissionSet) {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
    }

    /// How many permissions are in it.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds one permission.
    pub fn insert(&mut self, Permission(index): Permission) {
        self.put(index as usize, true);
    }

    /// The permissions of these names; those that the table does not know are left out.
    pub fn named(names: &[String]) -> PermissionSet {
        let mut set = PermissionSet::default();
        names
            .iter()
            .filter_map(|name| Permission::named(name))
            .for_each(|known| set.put(known.0 as usize, true));
        set
    }

    /// The permissions in it, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = Permission> + '_ {
        Permission::all().filter(|permission| self.contains(*permission))
    }

    fn put(&mut self, index: usize, there: bool) {
        let bit = 1 << (index % 64);
        if there {
            self.0[index / 64] |= bit;
        } else {
            self.0[index / 64] &= !bit;
        }
    }
}

/// A predefined role.
pub struct Role {
    /// Its name, such as `roles/run.invoker`.
    pub name: String,
    /// Its title, such as `Cloud Run Invoker`.
    pub title: &'static str,
    selectors: &'static str,
    set: OnceLock<PermissionSet>,
}

impl Role {
    /// The role of this name, with its `roles/` prefix.
    pub fn named(name: &str) -> Option<&'static Role> {
        Some(&TABLE.roles[*TABLE.role_index.get(name.strip_prefix("roles/")?)?])
    }

    /// Every role, in the order of the table.
    pub fn all() -> &'static [Role] {
        &TABLE.roles
    }

    /// What it allows.
    pub fn permissions(&self) -> &PermissionSet {
        self.set.get_or_init(|| match self.basic() {
            Some(basic) => TABLE.set(|permission| basic.holds(permission.class)),
            None => TABLE.select(self.selectors),
        })
    }

    /// Which basic role it is, if it is one.
    pub fn basic(&self) -> Option<Basic> {
        match self.name.as_str() {
            "roles/owner" => Some(Basic::Owner),
            "roles/editor" => Some(Basic::Editor),
            "roles/viewer" => Some(Basic::Viewer),
            _ => None,
        }
    }

    /// Whether any permission in it belongs to a service such as `secretmanager.googleapis.com`. Google lets a
    /// role be granted only on resources that one of its permissions is about.
    pub fn concerns(&self, service: &str) -> bool {
        match prefix(service) {
            "cloudresourcemanager" => !self.name.starts_with("roles/storage.legacy"),
            _ => self.permissions().iter().any(|permission| permission.concerns(service)),
        }
    }
}

/// What the permissions of a service begin with.
fn prefix(service: &str) -> &str {
    match service.strip_suffix(".googleapis.com").unwrap_or(service) {
        "sqladmin" => "cloudsql",
        "iamcredentials" => "iam",
        other => other,
    }
}

/// The three basic roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basic {
    /// `roles/owner`.
    Owner,
    /// `roles/editor`.
    Editor,
    /// `roles/viewer`.
    Viewer,
}

impl Basic {
    fn holds(self, class: Class) -> bool {
        match self {
            Basic::Owner => class != Class::None,
            Basic::Editor => matches!(class, Class::Viewer | Class::Editor),
            Basic::Viewer => class == Class::Viewer,
        }
    }
}

/// The lowest basic role that holds a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Viewer,
    Editor,
    Owner,
    None,
}

impl Class {
    fn letter(letter: &str) -> Option<Class> {
        Some(match letter {
            "V" => Class::Viewer,
            "E" => Class::Editor,
            "O" => Class::Owner,
            "N" => Class::None,
            _ => return None,
        })
    }
}

struct Known {
    name: &'static str,
    class: Class,
}

struct Table {
    permissions: Vec<Known>,
    index: HashMap<&'static str, u16>,
    roles: Vec<Role>,
    role_index: HashMap<&'static str, usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(include_str!("roles.txt")));
const PROJECTS: &str = "resourcemanager.projects.{get,list}";

impl Table {
    fn parse(text: &'static str) -> Table {
        let mut table = Table {
            permissions: Vec::with_capacity(WORDS * 64),
            index: HashMap::with_capacity(WORDS * 64),
            roles: Vec::with_capacity(160),
            role_index: HashMap::with_capacity(160),
        };
        // All names in one piece of memory that is never given back: the table lives as long as the process.
        let mut service = "";
        let mut names = Names::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix("service ") {
                service = name;
            } else if let Some(role) = line.strip_prefix("role ") {
                table.role(role);
            } else {
                names.line(service, line);
            }
        }
        for (name, class) in names.finish() {
            table.index.insert(name, table.permissions.len() as u16);
            table.permissions.push(Known { name, class });
        }
        table
    }

    fn role(&mut self, line: &'static str) {
        let Some((name, (title, selectors))) =
            line.split_once(" = ").and_then(|(name, rest)| Some((name, rest.split_once(" : ")?)))
        else {
            return;
        };
        self.role_index.insert(name, self.roles.len());
        self.roles.push(Role { name: format!("roles/{name}"), title, selectors, set: OnceLock::new() });
    }

    fn set(&self, wanted: impl Fn(&Known) -> bool) -> PermissionSet {
        let mut set = PermissionSet::default();
        self.permissions
            .iter()
            .enumerate()
            .filter(|(_, known)| wanted(known))
            .for_each(|(i, _)| set.put(i, true));
        set
    }

    fn select(&self, selectors: &str) -> PermissionSet {
        let mut set = PermissionSet::default();
        for word in selectors.split_ascii_whitespace() {
            let (word, there) = match word.strip_prefix('-') {
                Some(word) => (word, false),
                None => (word, true),
            };
            self.apply(&mut set, if word == "$P" { PROJECTS } else { word }, there);
        }
        set
    }

    fn apply(&self, set: &mut PermissionSet, selector: &str, there: bool) {
        let (pattern, classes) = selector.split_once(':').unwrap_or((selector, "VEON"));
        for pattern in expand(pattern) {
            if let Some(index) = self.index.get(pattern.as_str()) {
                set.put(*index as usize, there);
                continue;
            }
            for (index, known) in self.permissions.iter().enumerate() {
                if matches(&pattern, known.name) && allowed(classes, known.class) {
                    set.put(index, there);
                }
            }
        }
    }
}

/// The permission names of the table, gathered in one string.
#[derive(Default)]
struct Names {
    text: String,
    parts: Vec<(usize, Class)>,
}

impl Names {
    fn line(&mut self, service: &str, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let resource = words.next().unwrap_or_default();
        let joint = if service.ends_with('/') { "" } else { "." };
        let mut class = Class::None;
        for word in words {
            match Class::letter(word) {
                Some(letter) => class = letter,
                None => {
                    for part in [service, joint, resource, ".", word] {
                        self.text.push_str(part);
                    }
                    self.parts.push((self.text.len(), class));
                }
            }
        }
    }

    fn finish(self) -> impl Iterator<Item = (&'static str, Class)> {
        let text: &'static str = Box::leak(self.text.into_boxed_str());
        let mut start = 0;
        self.parts
            .into_iter()
            .map(move |(end, class)| (&text[std::mem::replace(&mut start, end)..end], class))
    }
}

fn allowed(classes: &str, class: Class) -> bool {
    let letter = match class {
        Class::Viewer => 'V',
        Class::Editor => 'E',
        Class::Owner => 'O',
        Class::None => 'N',
    };
    classes.contains(letter)
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix("**"), pattern.strip_suffix('*')) {
        (Some(suffix), _) => name.ends_with(suffix),
        (None, Some(prefix)) => name.starts_with(prefix),
        (None, None) => false,
    }
}

fn expand(pattern: &str) -> Vec<String> {
    let Some((before, (among, after))) =
        pattern.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return vec![pattern.to_owned()];
    };
    among.split(',').map(|choice| format!("{before}{choice}{after}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(role: &str, permission: &str) -> bool {
        Role::named(role).unwrap().permissions().contains(Permission::named(permission).unwrap())
    }

    #[test]
    fn every_selector_of_the_table_selects_something() {
        assert!(TABLE.permissions.len() <= WORDS * 64, "PermissionSet is too small");
        assert_eq!(TABLE.index.len(), TABLE.permissions.len(), "a permission stands twice");
        assert_eq!(TABLE.role_index.len(), TABLE.roles.len(), "a role stands twice");
        for role in Role::all().iter().filter(|role| role.basic().is_none()) {
            assert_ne!(role.permissions(), &PermissionSet::default(), "{} is empty", role.name);
            for word in role.selectors.split_ascii_whitespace().filter(|word| *word != "$P") {
                for pattern in expand(word.trim_start_matches('-').split(':').next().unwrap()) {
                    let any =
                        TABLE.permissions.iter().any(|p| p.name == pattern || matches(&pattern, p.name));
                    assert!(any, "{}: {pattern} selects nothing", role.name);
                }
            }
        }
    }

    #[test]
    fn roles_hold_what_googles_reference_says() {
        let cases = [
            ("roles/owner", "secretmanager.versions.access", true),
            ("roles/editor", "secretmanager.versions.access", false),
            ("roles/editor", "secretmanager.versions.add", true),
            ("roles/viewer", "secretmanager.secrets.list", true),
            ("roles/owner", "iam.serviceAccounts.getAccessToken", false),
            ("roles/editor", "iam.serviceAccounts.actAs", true),
            ("roles/editor", "resourcemanager.projects.setIamPolicy", false),
            ("roles/secretmanager.secretAccessor", "secretmanager.versions.access", true),
            ("roles/secretmanager.secretAccessor", "secretmanager.secrets.get", false),
            ("roles/run.developer", "run.services.setIamPolicy", false),
            ("roles/run.invoker", "run.routes.invoke", true),
            ("roles/iam.securityReviewer", "run.services.getIamPolicy", true),
            ("roles/iam.workloadIdentityPoolAdmin", "iam.googleapis.com/workloadIdentityPools.create", true),
            ("roles/cloudbuild.builds.builder", "artifactregistry.repositories.uploadArtifacts", true),
        ];
        for (role, permission, expected) in cases {
            assert_eq!(has(role, permission), expected, "{role} and {permission}");
        }
    }

    #[test]
    fn a_role_can_be_granted_where_its_permissions_are_about() {
        let concerns = |role, service| Role::named(role).unwrap().concerns(service);
        assert!(concerns("roles/secretmanager.viewer", "secretmanager.googleapis.com"));
        assert!(!concerns("roles/run.admin", "secretmanager.googleapis.com"));
        assert!(concerns("roles/iam.workloadIdentityUser", "iam.googleapis.com"));
        assert!(!concerns("roles/storage.legacyBucketReader", "cloudresourcemanager.googleapis.com"));
        assert!(concerns("roles/storage.legacyBucketReader", "storage.googleapis.com"));
    }
}
