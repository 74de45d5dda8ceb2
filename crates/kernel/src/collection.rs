//! Resources of one kind: created, read, changed, deleted and listed as Google's standard methods do.
//!
//! A [`Mirror`] with the rules on top: what exists is not created again, a change is checked against the etag
//! and never lost to a concurrent one, a listing has pages. A name is the resource's own (`projects/p/secrets/s`);
//! the key is the collection's prefix and that name.
//!
//! ```
//! # use std::sync::Arc;
//! # use kernel::{collection::{Collection, Wording}, mirror::Record, paging::{Limits, Page}, store::Store};
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Secret { #[prost(string, tag = "1")] topic: String }
//! impl Record for Secret { const FORMAT: u8 = 1; }
//!
//! # async fn example(store: Arc<dyn Store>) -> kernel::Result<()> {
//! let secrets = Collection::<Secret>::open(store, "secrets/", Wording::of("Secret")).await?;
//! let made = secrets.create("projects/p/secrets/s", Secret { topic: "a".into() }).await?;
//! let changed = secrets.update("projects/p/secrets/s", &made.etag(), |secret| {
//!     secret.topic = "b".into();
//!     Ok(())
//! }).await?;
//! let page = Page::new(Limits { usual: 25, most: 100 }, 0, "", &["projects/p"])?;
//! let (found, next_page_token) = secrets.list("projects/p/secrets/", &page, |_, _| true);
//! secrets.delete("projects/p/secrets/s", &changed.etag()).await?;
//! # Ok(()) }
//! ```
//!
//! Each writing method has a twin that takes a [`Txn`] along, for what must happen with it or not at all: the
//! policy that goes with a deleted resource, the operation that starts with a created one.
//!
//! Left out: soft deletion and expiry, which differ from product to product and are fields of their records.

use std::sync::Arc;

use crate::{
    Error, Result, etag,
    mirror::{Mirror, Named, Record, Versioned},
    paging::Page,
    store::{Outcome, Store, Txn},
};

/// How often a change is tried again when others keep getting in between.
const ATTEMPTS: usize = 100;

/// What a product says when something cannot be done: each takes the name. Google's words differ from product
/// to product.
#[derive(Clone, Debug)]
pub struct Wording {
    kind: &'static str,
    not_found: fn(&str, &str) -> Error,
    exists: fn(&str, &str) -> Error,
    stale: fn(&str, &str) -> Error,
}

impl Wording {
    /// The words that most of Google's services use, around the kind of resource, such as `Secret`.
    pub fn of(kind: &'static str) -> Self {
        Wording {
            kind,
            not_found: |kind, name| Error::not_found(format!("{kind} [{name}] not found.")),
            exists: |kind, name| Error::already_exists(format!("{kind} [{name}] already exists.")),
            stale: |_, _| {
                Error::aborted(
                    "There were concurrent changes to the resource, or the etag is stale: read it again and retry.",
                )
            },
        }
    }

    /// Other words for what does not exist; called with the kind and the name.
    pub fn not_found(self, not_found: fn(&str, &str) -> Error) -> Self {
        Wording { not_found, ..self }
    }

    /// Other words for what exists already.
    pub fn exists(self, exists: fn(&str, &str) -> Error) -> Self {
        Wording { exists, ..self }
    }

    /// Other words for an etag that does not match.
    pub fn stale(self, stale: fn(&str, &str) -> Error) -> Self {
        Wording { stale, ..self }
    }
}

impl<T> Versioned<T> {
    /// The etag, with its quotes.
    pub fn etag(&self) -> String {
        etag::quoted(self.revision)
    }
}

/// The resources of one kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Collection<T: Record> {
    mirror: Mirror<T>,
    wording: Wording,
}

/// A resource as it is kept in memory.
pub type Held<T> = Arc<Versioned<T>>;

impl<T: Record> Collection<T> {
    /// Opens the collection under a prefix of the store, such as `secrets/`.
    ///
    /// # Errors
    /// Those of [`Mirror::open`].
    pub async fn open(store: Arc<dyn Store>, prefix: &str, wording: Wording) -> Result<Self> {
        Ok(Self::over(Mirror::open(store, prefix).await?, wording))
    }

    /// The collection over a mirror that is open already.
    pub fn over(mirror: Mirror<T>, wording: Wording) -> Self {
        Collection { mirror, wording }
    }

    /// The mirror underneath.
    pub fn mirror(&self) -> &Mirror<T> {
        &self.mirror
    }

    /// The key of a resource.
    pub fn key(&self, name: &str) -> String {
        self.mirror.key(name)
    }

    /// The resource with this name, from memory.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn get(&self, name: &str) -> Result<Held<T>> {
        self.find(name).ok_or_else(|| (self.wording.not_found)(self.wording.kind, name))
    }

    /// The same, or nothing.
    pub fn find(&self, name: &str) -> Option<Held<T>> {
        self.mirror.get(name)
    }

    /// A page of the wanted resources whose names start with `prefix` (`projects/p/secrets/`), in order, and the
    /// token of the next page, empty after the last one.
    pub fn list(
        &self,
        prefix: &str,
        page: &Page,
        is_wanted: impl FnMut(&str, &Versioned<T>) -> bool,
    ) -> (Vec<Named<T>>, String) {
        let found = self.mirror.scan(prefix, page.after(), page.size().saturating_add(1), is_wanted);
        page.cut(found, |(name, _)| name)
    }

    /// Creates a resource.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, and those of the store.
    pub async fn create(&self, name: &str, value: T) -> Result<Held<T>> {
        self.create_with(name, value, Txn::new()).await
    }

    /// The same, together with other changes.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`; `ABORTED` when a condition of `also` does not hold.
    pub async fn create_with(&self, name: &str, value: T, also: Txn) -> Result<Held<T>> {
        let key = self.key(name);
        let txn = Txn::new().check(&*key, 0).put(&*key, value.to_stored()).and(also);
        match self.mirror.commit(txn).await? {
            Outcome::Committed(revision) => Ok(Arc::new(Versioned { value, revision, created: revision })),
            Outcome::Conflict(0) => Err((self.wording.exists)(self.wording.kind, name)),
            Outcome::Conflict(_) => Err((self.wording.stale)(self.wording.kind, name)),
        }
    }

    /// Changes a resource. `change` is called on a copy of the current state, again if somebody else changed
    /// that meanwhile and no etag forbids it; what it returns as an error ends the attempt.
    ///
    /// # Errors
    /// `NOT_FOUND`; `ABORTED` (or the product's own words) for an etag that does not match; what `change` says.
    pub async fn update(
        &self,
        name: &str,
        etag: &str,
        mut change: impl FnMut(&mut T) -> Result<()>,
    ) -> Result<Held<T>> {
        let change = |value: &mut T| change(value).map(|()| Txn::new());
        self.update_with(name, etag, change).await
    }

    /// The same, together with other changes, which `change` gives.
    ///
    /// # Errors
    /// As [`Collection::update`]; `ABORTED` when a condition of the other changes keeps failing.
    pub async fn update_with(
        &self,
        name: &str,
        etag: &str,
        mut change: impl FnMut(&mut T) -> Result<Txn>,
    ) -> Result<Held<T>> {
        let key = self.key(name);
        for _ in 0..ATTEMPTS {
            let current = self.current(name, etag)?;
            let mut value = current.value.clone();
            let also = change(&mut value)?;
            let txn = Txn::new().check(&*key, current.revision).put(&*key, value.to_stored()).and(also);
            match self.mirror.commit(txn).await? {
                Outcome::Committed(revision) => {
                    return Ok(Arc::new(Versioned { value, revision, created: current.created }));
                }
                Outcome::Conflict(_) => {}
            }
        }
        Err((self.wording.stale)(self.wording.kind, name))
    }

    /// Deletes a resource, and gives what it was.
    ///
    /// # Errors
    /// `NOT_FOUND`; `ABORTED` (or the product's own words) for an etag that does not match.
    pub async fn delete(&self, name: &str, etag: &str) -> Result<Held<T>> {
        self.delete_with(name, etag, |_| Ok(Txn::new())).await
    }

    /// The same, together with other changes, which `also` gives from the state that is deleted.
    ///
    /// # Errors
    /// As [`Collection::delete`], and what `also` says.
    pub async fn delete_with(
        &self,
        name: &str,
        etag: &str,
        mut also: impl FnMut(&Versioned<T>) -> Result<Txn>,
    ) -> Result<Held<T>> {
        let key = self.key(name);
        for _ in 0..ATTEMPTS {
            let current = self.current(name, etag)?;
            let txn = Txn::new().check(&*key, current.revision).delete(&*key).and(also(&current)?);
            match self.mirror.commit(txn).await? {
                Outcome::Committed(_) => return Ok(current),
                Outcome::Conflict(_) => {}
            }
        }
        Err((self.wording.stale)(self.wording.kind, name))
    }

    /// The state that a change starts from.
    fn current(&self, name: &str, etag: &str) -> Result<Held<T>> {
        let current = self.get(name)?;
        if etag::allows(etag, &current.etag()) {
            Ok(current)
        } else {
            Err((self.wording.stale)(self.wording.kind, name))
        }
    }
}
