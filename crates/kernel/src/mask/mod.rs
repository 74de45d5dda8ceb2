//! Field masks: which fields of a resource a request changes (<https://google.aip.dev/134>,
//! <https://google.aip.dev/161>).
//!
//! Masks work on encoded messages, guided by the interface tables, so that one function serves every message:
//! a path says which records of the one message are replaced by those of the other, and nothing is lost that
//! the types do not know.
//!
//! - A path names a field, a field of a single message field (`template.scaling`), or one entry of a map with
//!   string keys (``labels.env``, ``labels.`a.b` ``). Names may be in `snake_case` or `lowerCamelCase`.
//! - A field that the mask names and the patch lacks is cleared; a repeated field is replaced as a whole.
//! - `*`, alone, replaces everything.
//! - No path at all means every field that the patch has: message fields are merged, all others replaced.
//!
//! ```
//! use apis::{google::cloud::secretmanager::v1::Secret, schema::Message};
//! let secret = Message::by_name("google.cloud.secretmanager.v1.Secret").unwrap();
//! let current = Secret { name: "n".into(), etag: "e".into(), ..Default::default() };
//! let patch = Secret { name: "x".into(), etag: "f".into(), ..Default::default() };
//! let merged = kernel::mask::merge(secret, &current, &patch, &["etag".to_owned()])?;
//! assert_eq!((&*merged.name, &*merged.etag), ("n", "f"));
//! # Ok::<_, kernel::Error>(())
//! ```
//!
//! Left out: masks for reading (`fields`), which the JSON codec applies, and `*` inside a path.

mod paths;
mod wire;

use std::collections::BTreeSet;

use apis::schema::{Cardinality, Field, Kind, Message};

use self::{
    paths::{Fields, Node},
    wire::Item,
};
use crate::{Code, Error, Result};

/// The path that replaces everything.
pub const ALL: &str = "*";

/// Messages are followed this deep where no path says how deep to go.
const DEPTH: usize = 32;

/// Applies a mask to encoded messages: `current` with the masked fields of `patch`.
///
/// # Errors
/// `INVALID_ARGUMENT` for a path that names nothing in the message, or goes into what has no fields.
pub fn update(message: Message, current: &[u8], patch: &[u8], paths: &[String]) -> Result<Vec<u8>> {
    match paths {
        [] => replace(message, current, patch, &populated(message, patch, DEPTH)?),
        [all] if all == ALL => Ok(patch.to_vec()),
        _ => replace(message, current, patch, &paths::resolve(message, paths)?),
    }
}

/// The same for typed messages.
///
/// # Errors
/// As [`update`].
pub fn merge<T: prost::Message + Default>(
    message: Message,
    current: &T,
    patch: &T,
    paths: &[String],
) -> Result<T> {
    let merged = update(message, &current.encode_to_vec(), &patch.encode_to_vec(), paths)?;
    T::decode(&*merged).map_err(|error| damaged().because(error))
}

/// Checks that a mask names only fields that can be changed: those in `allowed`, and what lies inside them. `*`
/// must be listed to be allowed. Gives the paths with their names in `snake_case`.
///
/// # Errors
/// `INVALID_ARGUMENT` for a path that names nothing in the message, or nothing that may be changed.
pub fn check(message: Message, paths: &[String], allowed: &[&str]) -> Result<Vec<String>> {
    let is_alone = paths.len() == 1;
    let check_one = |path: &String| {
        let path = if is_alone && path == ALL { path.clone() } else { paths::normal(message, path)? };
        let within = |allowed: &&str| {
            path.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if allowed.iter().any(within) { Ok(path) } else { Err(unchangeable(&path)) }
    };
    paths.iter().map(check_one).collect()
}

/// The mask that an absent one stands for: the fields that the patch has.
fn populated(message: Message, patch: &[u8], depth: usize) -> Result<Fields> {
    let mut fields = Fields::new();
    for item in wire::items(patch)? {
        let Some(field) = message.field(item.number) else { continue };
        let node = match inner(field) {
            Some(inner) if depth > 0 && !item.payload.is_empty() => {
                Node::Inside(populated(inner, &joined(patch, item.number)?, depth - 1)?)
            }
            _ => Node::Whole,
        };
        fields.insert(item.number, (field, node));
    }
    Ok(fields)
}

/// The message inside a field, if a path can go on there.
fn inner(field: Field) -> Option<Message> {
    match (field.cardinality(), field.kind()) {
        (Cardinality::Single | Cardinality::Optional, Kind::Message(message))
            if message.well_known().is_none() =>
        {
            Some(message)
        }
        _ => None,
    }
}

/// The current message, with these fields taken from the patch.
fn replace(message: Message, current: &[u8], patch: &[u8], fields: &Fields) -> Result<Vec<u8>> {
    let (kept, taken) = (wire::items(current)?, wire::items(patch)?);
    let displaced = displaced_oneofs(message, fields, &taken);
    let mut merged = Vec::with_capacity(current.len() + patch.len());
    for item in &kept {
        if !fields.contains_key(&item.number) && !displaced.contains(&item.number) {
            merged.extend_from_slice(item.raw);
        }
    }
    for (number, (field, node)) in fields {
        let (kept, taken) = (of(&kept, *number), of(&taken, *number));
        match node {
            Node::Whole => taken.iter().for_each(|item| merged.extend_from_slice(item.raw)),
            Node::Inside(fields) => replace_inside(*field, &kept, &taken, fields, &mut merged)?,
            Node::Keys(keys) => replace_keys(&kept, &taken, keys, &mut merged)?,
        }
    }
    Ok(merged)
}

/// The fields that give way because the patch sets another one of the same oneof.
fn displaced_oneofs(message: Message, fields: &Fields, taken: &[Item<'_>]) -> BTreeSet<u32> {
    let set = fields.values().filter(|(field, _)| taken.iter().any(|item| item.number == field.number()));
    let oneofs: BTreeSet<u16> = set.filter_map(|(field, _)| field.oneof()).collect();
    let members = message.fields().filter(|field| field.oneof().is_some_and(|oneof| oneofs.contains(&oneof)));
    members.map(Field::number).collect()
}

fn of<'i, 'b>(items: &'i [Item<'b>], number: u32) -> Vec<&'i Item<'b>> {
    items.iter().filter(|item| item.number == number).collect()
}

fn replace_inside(
    field: Field,
    kept: &[&Item<'_>],
    taken: &[&Item<'_>],
    fields: &Fields,
    merged: &mut Vec<u8>,
) -> Result<()> {
    let join = |items: &[&Item<'_>]| items.iter().flat_map(|item| item.payload).copied().collect::<Vec<u8>>();
    let Some(message) = inner(field) else { return Ok(()) };
    let inside = replace(message, &join(kept), &join(taken), fields)?;
    if !kept.is_empty() || !inside.is_empty() {
        wire::put_bytes(merged, field.number(), &inside);
    }
    Ok(())
}

fn replace_keys(
    kept: &[&Item<'_>],
    taken: &[&Item<'_>],
    keys: &BTreeSet<String>,
    merged: &mut Vec<u8>,
) -> Result<()> {
    for (items, is_patch) in [(kept, false), (taken, true)] {
        for item in items {
            if keys.contains(&map_key(item.payload)?) == is_patch {
                merged.extend_from_slice(item.raw);
            }
        }
    }
    Ok(())
}

/// The key of an encoded map entry; empty when it is left out.
fn map_key(entry: &[u8]) -> Result<String> {
    let items = wire::items(entry)?;
    let key = items.iter().rev().find(|item| item.number == 1).map_or(&[][..], |item| item.payload);
    String::from_utf8(key.to_vec()).map_err(|_| damaged())
}

/// All occurrences of a message field, one after the other, which decodes as their merge.
fn joined(message: &[u8], number: u32) -> Result<Vec<u8>> {
    let items = wire::items(message)?;
    Ok(items.iter().filter(|item| item.number == number).flat_map(|item| item.payload).copied().collect())
}

fn unchangeable(path: &str) -> Error {
    Error::bad_field("update_mask", format!("The field '{path}' in update_mask cannot be updated."))
}

fn damaged() -> Error {
    Error::new(Code::Internal, "A message could not be read.")
}

#[cfg(test)]
mod tests;
