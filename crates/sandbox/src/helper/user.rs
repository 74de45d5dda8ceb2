//! Who the program runs as: the image's own `/etc/passwd` and `/etc/group`, read after it has become the root.

use std::io::Read;

use crate::error::{Error, Result};

/// The most bytes read of a file of the image.
const MAX_FILE: u64 = 1 << 20;
/// The most supplementary groups a user is given.
const MAX_GROUPS: usize = 64;
/// The highest id that exists inside.
const MAX_ID: u32 = 65_535;

/// A resolved user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Further groups.
    pub(super) groups: Vec<u32>,
}

/// Resolves `user[:group]` by the files at their usual places.
pub(super) fn find(wanted: &str) -> Result<User> {
    resolve(wanted, &read("/etc/passwd"), &read("/etc/group"))
}

/// An image without the file has no names, which is well for numbers.
fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path)
        && file.metadata().is_ok_and(|m| m.is_file())
    {
        let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Resolves `user[:group]` by the texts of the two files.
fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<User> {
    let (user, named_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = find_user(user, passwd);
    let uid = entry.as_ref().map(|e| e.uid).or_else(|| id(user));
    let uid = uid.ok_or_else(|| Error::invalid(format!("the image has no user {user:?}")))?;
    let (gid, groups) = match (named_group, &entry) {
        // A group that is named replaces all others.
        (Some(name), _) => (find_group(name, group)?, Vec::new()),
        (None, Some(entry)) => (entry.gid, groups_of(&entry.name, group)),
        (None, None) => (0, Vec::new()),
    };
    if uid > MAX_ID || gid > MAX_ID {
        return Err(Error::invalid(format!(
            "user {wanted:?} is beyond {MAX_ID}, the highest id of an instance"
        )));
    }
    Ok(User { uid, gid, groups })
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
}

fn find_user(wanted: &str, passwd: &str) -> Option<Entry> {
    let number = id(wanted);
    passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        let uid = parts.nth(1).and_then(id)?;
        let gid = parts.next().and_then(id)?;
        (name == wanted || Some(uid) == number).then(|| Entry { name: name.into(), uid, gid })
    })
}

fn find_group(wanted: &str, group: &str) -> Result<u32> {
    let named = group.lines().find_map(|line| {
        let mut parts = line.split(':');
        (parts.next()? == wanted).then(|| parts.nth(1).and_then(id))?
    });
    named.or_else(|| id(wanted)).ok_or_else(|| Error::invalid(format!("the image has no group {wanted:?}")))
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let member = |line: &str| {
        let mut parts = line.split(':').skip(2);
        let gid = parts.next().and_then(id)?;
        parts.next()?.split(',').any(|m| m == user).then_some(gid)
    };
    group.lines().filter_map(member).filter(|gid| *gid <= MAX_ID).take(MAX_GROUPS).collect()
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/var/www:\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nssl:x:110:web,other\n";

    fn user(uid: u32, gid: u32, groups: &[u32]) -> User {
        User { uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn names_and_numbers_are_resolved_as_the_image_has_them() {
        let resolve = |wanted| resolve(wanted, PASSWD, GROUP);
        assert_eq!(resolve("").unwrap(), user(0, 0, &[]));
        assert_eq!(resolve("web").unwrap(), user(33, 33, &[110]));
        assert_eq!(resolve("33").unwrap(), user(33, 33, &[110]));
        assert_eq!(resolve("web:ssl").unwrap(), user(33, 110, &[]));
        assert_eq!(resolve("1000").unwrap(), user(1000, 0, &[]));
        assert_eq!(resolve("1000:1001").unwrap(), user(1000, 1001, &[]));
        assert!(resolve("nobody").unwrap_err().message.contains("no user \"nobody\""));
        assert!(resolve("web:none").unwrap_err().message.contains("no group \"none\""));
        assert!(resolve("70000").is_err());
    }

    proptest! {
        #[test]
        fn no_text_of_an_image_breaks_it(wanted in ".{0,20}", passwd in "[a-z0-9:,\n]{0,200}", group in "(?s).{0,200}") {
            if let Ok(user) = resolve(&wanted, &passwd, &group) {
                prop_assert!(user.uid <= MAX_ID && user.gid <= MAX_ID && user.groups.len() <= MAX_GROUPS);
            }
        }
    }
}
