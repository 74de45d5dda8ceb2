//! What service accounts use of what they may: which permission on which resource, when last and how often.
//!
//! Each decision that allows something to a service account is noted here, on the way of the call. What was noted before
//! costs a hash, one look-up without a lock and a counter; what is left out costs another look-up, and only what is taken
//! in waits for a lock. Names are cut to the level that a role can be granted on, so a thousand versions of a secret are
//! one entry. The record is bounded, an account to [`MOST_OF_ACCOUNT`] entries and all of them to [`MOST`], and a name to
//! [`LONGEST`]; that something is left out is remembered as long as what was used is.
//!
//! It is kept in memory and written now and then ([`Iam::write_usage`]): a restart forgets nothing, a kill what was noted
//! since the last time. What was not used for [`KEPT`] is forgotten.
//!
//! Declined: people (nobody narrows their roles by a week's work) and refusals (they say what is missing, not what is
//! needed).

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use kernel::{Result, mirror::Record, store::Txn};
use prost::Message;
use tokio::sync::OnceCell;

use crate::{Iam, records::USED};

/// The most entries of all accounts together.
const MOST: usize = 8192;
/// The most entries of one account: what is written of it fits in one record.
const MOST_OF_ACCOUNT: usize = 1024;
/// The longest name of a resource that is noted, in bytes.
const LONGEST: usize = 384;
/// How long something is remembered that is not used again, in seconds: as long as Google's recommendations look back.
const KEPT: u64 = 90 * 24 * 3600;
/// How many accounts are read at a time.
const PAGE: usize = 64;

/// What below a project, a folder or an organization a role can be granted on, by service. A database instance has no
/// policy of its own, but conditions know its name.
const LEVELS: [(&str, &[&str]); 7] = [
    ("secretmanager.googleapis.com", &["secrets"]),
    ("run.googleapis.com", &["services", "jobs", "workerPools"]),
    ("iam.googleapis.com", &["serviceAccounts"]),
    ("storage.googleapis.com", &["buckets"]),
    ("artifactregistry.googleapis.com", &["repositories"]),
    ("pubsub.googleapis.com", &["topics", "subscriptions"]),
    ("sqladmin.googleapis.com", &["instances"]),
];

/// The part of a name up to what a role can be granted on: the secret of a version, the project of a location.
pub(crate) fn level<'n>(service: &str, name: &'n str) -> &'n str {
    let kinds = LEVELS.iter().find(|(known, _)| *known == service).map_or(&[][..], |(_, kinds)| *kinds);
    let mut ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
    let (mut start, mut container) = (0, name.len());
    while let (Some(kind), Some(id)) = (ends.next(), ends.next()) {
        if start == 0 {
            container = id;
        }
        if kinds.contains(&&name[start..kind]) {
            return &name[..id];
        }
        start = id + 1;
    }
    &name[..container]
}

/// Something that an account used.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UseRecord {
    /// The permission.
    #[prost(string, tag = "1")]
    pub permission: String,
    /// The service of the resource.
    #[prost(string, tag = "2")]
    pub service: String,
    /// The resource, cut to the level that a role can be granted on.
    #[prost(string, tag = "3")]
    pub name: String,
    /// When first, in seconds.
    #[prost(uint64, tag = "4")]
    pub first: u64,
    /// When last, in seconds.
    #[prost(uint64, tag = "5")]
    pub last: u64,
    /// How often.
    #[prost(uint64, tag = "6")]
    pub count: u64,
}

/// What an account used.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UsedRecord {
    /// Each permission on each resource once.
    #[prost(message, repeated, tag = "1")]
    pub uses: Vec<UseRecord>,
    /// When something was last left out, in seconds; 0 if nothing was.
    #[prost(uint64, tag = "2")]
    pub left_out: u64,
}

impl Record for UsedRecord {
    const FORMAT: u8 = 1;
}

/// The record.
#[derive(Default)]
pub(crate) struct Usage {
    /// By the hash of what [`Seen`] says; two of the same 64 bits would count as one.
    seen: papaya::HashMap<u64, Arc<Seen>, BuildHasherDefault<Hashed>>,
    hasher: RandomState,
    /// Held while something new is taken in.
    accounts: Mutex<HashMap<Box<str>, Account>>,
    /// The accounts of which nothing new is taken in, until there is room again.
    full: papaya::HashMap<Box<str>, ()>,
    /// When something was last left out of an account, in seconds.
    left_out: papaya::HashMap<Box<str>, AtomicU64>,
    read: OnceCell<()>,
}

struct Seen {
    account: Box<str>,
    permission: Box<str>,
    service: Box<str>,
    name: Box<str>,
    first: AtomicU64,
    last: AtomicU64,
    count: AtomicU64,
}

/// What is known of one account's entries.
#[derive(Default)]
struct Account {
    entries: usize,
    /// What was last written of it.
    written: Written,
}

/// How much of an account is written.
#[derive(Default, PartialEq)]
enum Written {
    #[default]
    Nothing,
    /// What was used this often, and when something was last left out.
    Until(u64, u64),
    /// Another thing than what is known now.
    Other,
}

/// A key that is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Usage {
    /// Notes that an account used a permission on a resource.
    pub(crate) fn note(&self, account: &str, permission: &str, (service, name): (&str, &str), now: u64) {
        let name = level(service, name);
        let key = self.hasher.hash_one((account, permission, service, name));
        match self.seen.pin().get(&key) {
            Some(seen) => seen.again(now),
            None if self.full.pin().contains_key(account) => self.leave_out(account, now),
            None => self.take_in(
                key,
                account,
                UseRecord {
                    permission: permission.to_owned(),
                    service: service.to_owned(),
                    name: name.to_owned(),
                    first: now,
                    last: now,
                    count: 1,
                },
            ),
        }
    }

    /// Adds what was used to what is known.
    fn take_in(&self, key: u64, account: &str, used: UseRecord) {
        if account.len() + used.permission.len() + used.name.len() > LONGEST {
            return self.leave_out(account, used.last);
        }
        let mut accounts = self.accounts();
        let seen = self.seen.pin();
        if let Some(known) = seen.get(&key) {
            known.first.fetch_min(used.first, Ordering::Relaxed);
            known.last.fetch_max(used.last, Ordering::Relaxed);
            known.count.fetch_add(used.count, Ordering::Relaxed);
            return;
        }
        let is_full = seen.len() >= MOST;
        let its = accounts.entry(account.into()).or_default();
        if is_full || its.entries >= MOST_OF_ACCOUNT {
            drop(accounts);
            self.full.pin().insert(account.into(), ());
            return self.leave_out(account, used.last);
        }
        its.entries += 1;
        seen.insert(key, Arc::new(Seen::new(account, used)));
    }

    /// Remembers that something of an account is not here.
    fn leave_out(&self, account: &str, now: u64) {
        let left_out = self.left_out.pin();
        match left_out.get(account) {
            Some(last) => drop(last.fetch_max(now, Ordering::Relaxed)),
            None => {
                self.accounts().entry(account.into()).or_default();
                let last = left_out.get_or_insert_with(account.into(), AtomicU64::default);
                last.fetch_max(now, Ordering::Relaxed);
            }
        }
    }

    /// When something of an account was last left out that would still be remembered; 0 for never.
    fn last_left_out(&self, account: &str, now: u64) -> u64 {
        let last = self.left_out.pin().get(account).map_or(0, |last| last.load(Ordering::Relaxed));
        if last + KEPT > now { last } else { 0 }
    }

    /// What an account used, in the order of resources and permissions, and whether something was left out.
    fn of(&self, account: &str, now: u64) -> (Vec<UseRecord>, bool) {
        let mut uses: Vec<UseRecord> = self
            .seen
            .pin()
            .values()
            .filter(|seen| *seen.account == *account)
            .map(|seen| seen.to_record())
            .collect();
        uses.sort_by(|a, b| (&a.service, &a.name, &a.permission).cmp(&(&b.service, &b.name, &b.permission)));
        (uses, self.last_left_out(account, now) > 0)
    }

    /// Forgets what is unwanted of an account, or of all.
    fn forget(&self, is_unwanted: impl Fn(&Seen) -> bool) {
        let mut accounts = self.accounts();
        let seen = self.seen.pin();
        for (key, one) in seen.iter().filter(|(_, one)| is_unwanted(one)) {
            seen.remove(key);
            self.full.pin().clear();
            if let Some(its) = accounts.get_mut(&one.account) {
                its.entries -= 1;
                // Whatever is left is to be written.
                its.written = Written::Other;
            }
        }
    }

    /// Forgets all of an account.
    fn forget_all(&self, account: &str) {
        self.forget(|seen| *seen.account == *account);
        self.left_out.pin().remove(account);
    }

    /// What was to be written of an account was not: it is tried again.
    fn not_written(&self, account: &str) {
        if let Some(its) = self.accounts().get_mut(account) {
            its.written = Written::Other;
        }
    }

    /// The accounts of which something was noted since they were written, each with what is to be written.
    fn changed(&self, now: u64) -> Vec<(Box<str>, UsedRecord)> {
        let mut by_account: HashMap<Box<str>, Vec<UseRecord>> = HashMap::new();
        for seen in self.seen.pin().values() {
            by_account.entry(seen.account.clone()).or_default().push(seen.to_record());
        }
        let mut accounts = self.accounts();
        let mut changed = Vec::new();
        for (account, its) in accounts.iter_mut() {
            let uses = by_account.remove(account).unwrap_or_default();
            let left_out = self.last_left_out(account, now);
            let until = Written::Until(uses.iter().map(|used| used.count).sum(), left_out);
            if its.written != until {
                its.written = until;
                changed.push((account.clone(), UsedRecord { uses, left_out }));
            }
        }
        changed
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<Box<str>, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn new(account: &str, used: UseRecord) -> Self {
        Seen {
            account: account.into(),
            permission: used.permission.into(),
            service: used.service.into(),
            name: used.name.into(),
            first: used.first.into(),
            last: used.last.into(),
            count: used.count.into(),
        }
    }

    fn again(&self, now: u64) {
        if self.last.load(Ordering::Relaxed) < now {
            self.last.store(now, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn to_record(&self) -> UseRecord {
        UseRecord {
            permission: self.permission.to_string(),
            service: self.service.to_string(),
            name: self.name.to_string(),
            first: self.first.load(Ordering::Relaxed),
            last: self.last.load(Ordering::Relaxed),
            count: self.count.load(Ordering::Relaxed),
        }
    }
}

impl Iam {
    /// Writes down what service accounts used since the last time, and forgets what they do not use any more. Worth
    /// calling every minute, and before the store is closed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn write_usage(&self) -> Result<()> {
        self.read_usage().await?;
        let now = self.clock.unix();
        self.usage.forget(|seen| seen.last.load(Ordering::Relaxed) + KEPT <= now);
        for (account, used) in self.usage.changed(now) {
            let key = [USED, &*account].concat();
            let txn = match used == UsedRecord::default() {
                true => Txn::new().delete(key),
                false => Txn::new().put(key, used.to_stored()),
            };
            if let Err(error) = self.store.txn(txn).await {
                self.usage.not_written(&account);
                return Err(error);
            }
        }
        Ok(())
    }

    /// What an account used, and whether something was left out.
    ///
    /// # Errors
    /// Those of the store, from which an earlier haar's record is read the first time.
    pub(crate) async fn used_by(&self, account: &str) -> Result<(Vec<UseRecord>, bool)> {
        self.read_usage().await?;
        Ok(self.usage.of(account, self.clock.unix()))
    }

    /// Forgets what an account used that is no more.
    pub(crate) fn forget_usage(&self, account: &str) {
        self.usage.forget_all(account);
    }

    /// Takes in what an earlier haar wrote. Done late, because no start waits for it.
    async fn read_usage(&self) -> Result<()> {
        self.usage.read.get_or_try_init(|| self.read_all_usage()).await.copied()
    }

    async fn read_all_usage(&self) -> Result<()> {
        // Nothing is taken in before all is read: what fails is tried again, and would count twice.
        for (account, used) in self.stored_usage().await? {
            self.take_in_usage(&account, used);
        }
        Ok(())
    }

    async fn stored_usage(&self) -> Result<Vec<(String, UsedRecord)>> {
        let (mut after, mut all) = (String::new(), Vec::new());
        loop {
            let (page, _) = self.store.range(USED, &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after.clone_from(&last.key);
            for entry in &page {
                let account = entry.key.strip_prefix(USED).unwrap_or(&entry.key);
                // An account that was deleted left nothing to narrow.
                if self.accounts.get(account).is_some() {
                    all.push((account.to_owned(), UsedRecord::from_stored(&entry.value)?));
                }
            }
        }
    }

    fn take_in_usage(&self, account: &str, used: UsedRecord) {
        let usage = &self.usage;
        if used.left_out > 0 {
            usage.leave_out(account, used.left_out);
        }
        for one in used.uses {
            let key = usage.hasher.hash_one((account, &*one.permission, &*one.service, &*one.name));
            usage.take_in(key, account, one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_a_role_can_be_granted() {
        let (secrets, run) = ("secretmanager.googleapis.com", "run.googleapis.com");
        for (service, name, expected) in [
            (secrets, "projects/p/secrets/s/versions/latest", "projects/p/secrets/s"),
            (secrets, "projects/p/locations/l/secrets/s/versions/1", "projects/p/locations/l/secrets/s"),
            (secrets, "projects/p/locations/l", "projects/p"),
            (run, "projects/p/locations/l/services/s/revisions/r", "projects/p/locations/l/services/s"),
            ("storage.googleapis.com", "projects/_/buckets/b/objects/secrets/x", "projects/_/buckets/b"),
            ("logging.googleapis.com", "projects/p/logs/x", "projects/p"),
            ("cloudresourcemanager.googleapis.com", "folders/1", "folders/1"),
            ("x", "projects/p/", "projects/p"),
            ("x", "projects", "projects"),
            ("x", "", ""),
        ] {
            assert_eq!(level(service, name), expected, "{name}");
        }
    }

    #[test]
    fn what_is_used_is_counted_and_bounded() {
        let usage = Usage::default();
        let note = |account: &str, name: &str, now| {
            usage.note(account, "secretmanager.versions.access", ("secretmanager.googleapis.com", name), now)
        };
        for now in 10..13 {
            note("a", "projects/p/secrets/s/versions/1", now);
        }
        note("a", "projects/p/secrets/s/versions/2", 11);
        let (uses, is_full) = usage.of("a", 13);
        assert_eq!((uses.len(), uses[0].first, uses[0].last, uses[0].count, is_full), (1, 10, 12, 4, false));

        assert_eq!(usage.changed(13).len(), 1);
        assert!(usage.changed(13).is_empty(), "nothing is written twice");
        for n in 0..MOST_OF_ACCOUNT {
            note("a", &format!("projects/p/secrets/n{n}"), 13);
        }
        let (uses, is_full) = usage.of("a", 13);
        assert!(uses.len() == MOST_OF_ACCOUNT && is_full);
        assert!(UsedRecord { uses, left_out: 13 }.encoded_len() < kernel::store::MAX_VALUE / 2);
        usage.forget(|seen| seen.last.load(Ordering::Relaxed) < 13);
        assert_eq!(usage.of("a", 13).0.len(), MOST_OF_ACCOUNT - 1);
        note("a", "projects/p/secrets/again", 14);
        let (uses, is_partial) = usage.of("a", 14);
        assert_eq!(uses.len(), MOST_OF_ACCOUNT, "there is room again");
        assert!(is_partial, "and yet not all is known");
        usage.forget_all("a");
        assert_eq!(usage.changed(14), [("a".into(), UsedRecord::default())]);
        assert!(!usage.of("a", 14).1);
    }

    #[test]
    fn what_is_left_out_for_its_length_is_remembered_as_long_as_what_is_used() {
        let usage = Usage::default();
        let name = ["projects/p/secrets/", &*"s".repeat(LONGEST)].concat();
        let resource = ("secretmanager.googleapis.com", &*name);
        usage.note("a", "secretmanager.versions.access", resource, 10);
        assert_eq!(usage.of("a", 10), (Vec::new(), true));
        assert_eq!(usage.of("b", 10), (Vec::new(), false));
        let record = UsedRecord { uses: Vec::new(), left_out: 10 };
        assert_eq!(usage.changed(10), [("a".into(), record)]);
        assert!(usage.changed(11).is_empty());
        assert_eq!(usage.of("a", 10 + KEPT), (Vec::new(), false));
        assert_eq!(
            usage.changed(10 + KEPT),
            [("a".into(), UsedRecord::default())],
            "nothing is left to write"
        );
    }

    /// What a call pays: printed with `--nocapture`, held by no bound because machines differ.
    #[test]
    fn noting_again_is_cheap() {
        let usage = Usage::default();
        let resource = ("secretmanager.googleapis.com", "projects/haar-local/secrets/tide/versions/latest");
        let account = "reader@haar-local.iam.gserviceaccount.com";
        let begun = std::time::Instant::now();
        const ROUNDS: u32 = 100_000;
        for _ in 0..ROUNDS {
            usage.note(account, "secretmanager.versions.access", std::hint::black_box(resource), 1);
        }
        println!("{:?} for each note", begun.elapsed() / ROUNDS);
        assert_eq!(usage.of(account, 1).0[0].count, u64::from(ROUNDS));
    }
}
