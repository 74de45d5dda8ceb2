//! Groups: a small directory of addresses that stand for others.
//!
//! A group is an address with members: people, service accounts, other groups. Whoever is in a group that is in a
//! group is in both. What everybody is in is worked out when a group changes, so that a decision finds it with one
//! look-up and takes no lock.
//!
//! People change it through Cloud Identity's API (`api/groups.rs`), which also knows owners, managers and labels: they are
//! kept and mean nothing to a policy. A group that is granted something and does not exist is empty.
//!
//! Declined: memberships that expire, and dynamic groups, whose members a query over people would find: there is no
//! directory of people here.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use kernel::{
    Error, Result,
    mirror::{Named, Record},
    paging::Page,
    store::{Outcome, Txn},
};

use crate::{Iam, decide::lowercase, members::is_email, records::GroupRecord};

/// How many groups deep a membership reaches.
const MOST_DEPTH: usize = 10;
/// The most members of a group.
const MOST_MEMBERS: usize = 10_000;
/// How often a change is tried that others come before.
const ATTEMPTS: usize = 8;

/// Who is in which group, ready to be asked.
#[derive(Default)]
pub(crate) struct Directory {
    /// The members of each group: what the answers are made from.
    groups: Mutex<BTreeMap<String, Vec<String>>>,
    /// For each address, the groups that it is in at any depth.
    memberships: ArcSwap<HashMap<String, Arc<[String]>>>,
}

impl Directory {
    /// The groups that an address in lowercase is in.
    pub(crate) fn of(&self, email: &str) -> Arc<[String]> {
        self.memberships.load().get(email).cloned().unwrap_or_default()
    }

    /// Takes in what changed.
    pub(crate) fn put_all<'c>(&self, changes: impl Iterator<Item = (&'c str, Option<&'c GroupRecord>)>) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        for (email, record) in changes {
            match record {
                Some(record) => groups.insert(email.to_owned(), record.members.clone()),
                None => groups.remove(email),
            };
        }
        self.memberships.store(Arc::new(memberships(&groups)));
    }
}

fn memberships(groups: &BTreeMap<String, Vec<String>>) -> HashMap<String, Arc<[String]>> {
    let mut above: HashMap<&str, Vec<&str>> = HashMap::new();
    for (group, members) in groups {
        members.iter().for_each(|member| above.entry(member).or_default().push(group));
    }
    above.keys().map(|member| ((*member).to_owned(), all_above(member, &above))).collect()
}

/// The groups above a member, the nearest first.
fn all_above(member: &str, above: &HashMap<&str, Vec<&str>>) -> Arc<[String]> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut level = vec![member];
    for _ in 0..MOST_DEPTH {
        let next = level.iter().filter_map(|name| above.get(name)).flatten();
        level = next.filter(|group| seen.insert(**group)).copied().collect();
        found.extend(level.iter().map(|group| (*group).to_owned()));
    }
    found.into()
}

impl Iam {
    /// The groups that an address is in, at any depth, the nearest first.
    pub(crate) fn groups_above(&self, email: &str) -> Arc<[String]> {
        self.index.groups.of(&lowercase(email))
    }

    /// Whoever is in a group, at any depth, in the order of addresses, each with whether it is in it directly.
    pub(crate) fn members_below(&self, group: &str) -> BTreeMap<String, bool> {
        let mut found = BTreeMap::new();
        let mut level = vec![group.to_owned()];
        for depth in 0..MOST_DEPTH {
            let members = level.iter().filter_map(|name| self.groups.get(name));
            let members: Vec<String> = members.flat_map(|group| group.members.clone()).collect();
            level = members.into_iter().filter(|one| !found.contains_key(one)).collect();
            found.extend(level.iter().map(|one| (one.clone(), depth == 0)));
        }
        found
    }

    /// The group that is named by an id, with its address.
    pub(crate) fn group_by_id(&self, id: &str) -> Option<Named<GroupRecord>> {
        self.groups.scan("", "", 1, |email, group| group_id(email, group) == id).pop()
    }

    /// A page of the groups there are that are wanted, by address, and the token of the next.
    pub(crate) fn groups_page(
        &self,
        page: &Page,
        is_wanted: impl Fn(&str, &GroupRecord) -> bool,
    ) -> (Vec<Named<GroupRecord>>, String) {
        let found = self
            .groups
            .scan("", page.after(), page.size().saturating_add(1), |email, group| is_wanted(email, group));
        page.cut(found, |(email, _)| email)
    }

    /// Makes a group; `false` if there is one with this address.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn create_group(&self, email: &str, group: &GroupRecord) -> Result<bool> {
        let key = self.groups.key(email);
        let txn = Txn::new().check(&key, 0).put(&key, group.to_stored());
        Ok(matches!(self.groups.commit(txn).await?, Outcome::Committed(_)))
    }

    /// Deletes a group; `false` if there is none with this address.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn delete_group(&self, email: &str) -> Result<bool> {
        let is_there = self.groups.get(email).is_some();
        if is_there {
            self.groups.commit(Txn::new().delete(self.groups.key(email))).await?;
        }
        Ok(is_there)
    }

    /// Changes a group, again if somebody else changed it meanwhile; `None` if it is gone.
    ///
    /// # Errors
    /// What `change` says; `INVALID_ARGUMENT` for too many members; `ABORTED` when others keep being first.
    pub(crate) async fn change_group<T>(
        &self,
        email: &str,
        mut change: impl FnMut(&mut GroupRecord) -> Result<T>,
    ) -> Result<Option<T>> {
        for _ in 0..ATTEMPTS {
            let Some(found) = self.groups.get(email) else { return Ok(None) };
            let mut group = found.value.clone();
            let changed = change(&mut group)?;
            if group.members.len() > MOST_MEMBERS {
                return Err(Error::invalid(format!("A group has at most {MOST_MEMBERS} members.")));
            }
            group.updated = self.clock.unix();
            let key = self.groups.key(email);
            let txn = Txn::new().check(&key, found.revision).put(&key, group.to_stored());
            if let Outcome::Committed(_) = self.groups.commit(txn).await? {
                return Ok(Some(changed));
            }
        }
        Err(Error::aborted("There were concurrent changes to the group. Please retry."))
    }
}

/// What a group is named by.
pub(crate) fn group_id(email: &str, group: &GroupRecord) -> String {
    if !group.id.is_empty() {
        return group.id.clone();
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, email.as_bytes());
    id_of(digest.as_ref())
}

/// Fifteen letters and digits, as Google's ids of groups are.
pub(crate) fn id_of(random: &[u8]) -> String {
    const SIGNS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let signs = random.iter().take(14).map(|byte| char::from(SIGNS[usize::from(byte % 32)]));
    std::iter::once('0').chain(signs).collect()
}

pub(crate) fn address(email: &str) -> Result<String> {
    match is_email(email) {
        true => Ok(email.to_ascii_lowercase()),
        false => Err(Error::invalid(format!("'{email}' is not an e-mail address."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(groups: &[(&str, &[&str])]) -> Directory {
        let directory = Directory::default();
        let record = |members: &[&str]| GroupRecord {
            members: members.iter().map(|member| (*member).into()).collect(),
            ..GroupRecord::default()
        };
        let records: Vec<_> = groups.iter().map(|(email, members)| (*email, record(members))).collect();
        directory.put_all(records.iter().map(|(email, record)| (*email, Some(record))));
        directory
    }

    #[test]
    fn groups_in_groups_are_found_and_rings_end() {
        let directory = directory(&[
            ("crew@x.com", &["ada@x.com", "deck@x.com"]),
            ("deck@x.com", &["bob@x.com"]),
            ("all@x.com", &["crew@x.com"]),
            ("ring@x.com", &["all@x.com", "ring@x.com"]),
        ]);
        assert_eq!(&*directory.of("bob@x.com"), ["deck@x.com", "crew@x.com", "all@x.com", "ring@x.com"]);
        assert_eq!(&*directory.of("ada@x.com"), ["crew@x.com", "all@x.com", "ring@x.com"]);
        assert!(directory.of("eve@x.com").is_empty());
        directory.put_all([("deck@x.com", None)].into_iter());
        assert!(directory.of("bob@x.com").is_empty());
    }

    #[test]
    fn depth_has_an_end() {
        let names: Vec<String> = (0..=MOST_DEPTH + 1).map(|n| format!("g{n:02}@x.com")).collect();
        let members: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
        let chain: Vec<(&str, &[&str])> =
            names[1..].iter().zip(&members).map(|(group, member)| (group.as_str(), &member[..])).collect();
        assert_eq!(directory(&chain).of("g00@x.com").len(), MOST_DEPTH);
    }
}
