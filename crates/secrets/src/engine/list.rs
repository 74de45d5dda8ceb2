//! Listing secrets and versions: newest first, filtered, page by page.

use kernel::{
    Result,
    filter::{Filter, Filterable, Kind, Value},
    paging::{Limits, Page},
    ports::Project,
    time::Micros,
};

use super::{FoundSecret, FoundVersion, Secrets};
use crate::{
    names::{Place, SecretPath},
    record::{self, Settings, State},
};

/// Page sizes: the reference caps them at 25,000 and leaves the usual one to the server.
const LIMITS: Limits = Limits { usual: 25_000, most: 25_000 };

/// A page of a listing.
pub(crate) struct Listed<T> {
    /// What is on it.
    pub(crate) items: Vec<T>,
    /// The token of the next page; empty on the last one.
    pub(crate) next_page_token: String,
    /// How many there are in all; 0 where a filter was given.
    pub(crate) total: usize,
}

/// What a caller asks of a listing.
pub(crate) struct Query<'q> {
    /// What is listed.
    pub(crate) parent: &'q str,
    /// How many at a time; 0 for the usual.
    pub(crate) page_size: i32,
    /// Where to go on.
    pub(crate) page_token: &'q str,
    /// Which ones.
    pub(crate) filter: &'q str,
}

impl Secrets {
    /// The secrets of a project, or of a region of it, newest first.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page or a filter that is not valid.
    pub(crate) fn list_secrets(
        &self,
        project: &Project,
        place: Place<'_>,
        query: &Query<'_>,
    ) -> Result<Listed<FoundSecret>> {
        let prefix = place.secrets(project.number);
        let now = self.now();
        let living = self.secrets.mirror().scan(&prefix, "", usize::MAX, |_, secret| !secret.expired(now));
        let secrets = living.into_iter().map(|(name, record)| FoundSecret { name: name.to_string(), record });
        listed(secrets.collect(), query, |secret| {
            format!("{:020}{}", u64::MAX - secret.record.create_time, secret.id())
        })
    }

    /// The versions of a secret, newest first.
    ///
    /// # Errors
    /// `NOT_FOUND` for the secret; `INVALID_ARGUMENT` for a page or a filter that is not valid.
    pub(crate) async fn list_versions(
        &self,
        path: &SecretPath<'_>,
        query: &Query<'_>,
    ) -> Result<Listed<FoundVersion>> {
        let secret = self.secret(path).await?;
        let now = self.now();
        self.versions.mirror().wait_for(secret.record.revision).await?;
        let held = self.versions.mirror().range(&record::versions_of(secret.record.uid), "", usize::MAX);
        let versions = held.into_iter().filter_map(|(id, record)| {
            let number = record::number_in(&id)?;
            Some(VersionNow { found: FoundVersion { secret: secret.clone(), number, record }, now })
        });
        let page =
            listed(versions.collect(), query, |version| format!("{:020}", u64::MAX - version.found.number))?;
        let items = page.items.into_iter().map(|version| version.found).collect();
        Ok(Listed { items, next_page_token: page.next_page_token, total: page.total })
    }
}

/// Filters, orders by `position` and cuts to the page.
fn listed<T: Filterable>(
    mut items: Vec<T>,
    query: &Query<'_>,
    position: impl Fn(&T) -> String,
) -> Result<Listed<T>> {
    let filter = Filter::parse::<T>(query.filter)?;
    let page = Page::new(LIMITS, query.page_size, query.page_token, &[query.parent, query.filter])?;
    let total = if query.filter.is_empty() { items.len() } else { 0 };
    items.retain(|item| filter.matches(item));
    let mut placed: Vec<(String, T)> = items.into_iter().map(|item| (position(&item), item)).collect();
    placed.retain(|(position, _)| position.as_str() > page.after());
    placed.sort_by(|(one, _), (other, _)| one.cmp(other));
    placed.truncate(page.size() + 1);
    let (placed, next_page_token) = page.cut(placed, |(position, _)| position);
    Ok(Listed { items: placed.into_iter().map(|(_, item)| item).collect(), next_page_token, total })
}

/// A version at the moment it is listed, which decides its state.
struct VersionNow {
    found: FoundVersion,
    now: Micros,
}

impl Filterable for FoundSecret {
    fn kind(path: &[&str]) -> Option<Kind> {
        Some(match path {
            ["name"] => Kind::Name,
            ["etag"] | ["topics"] | ["topics", "name"] => Kind::Text,
            ["labels", _] | ["annotations", _] | ["version_aliases", _] => Kind::Text,
            ["create_time"] | ["expire_time"] | ["rotation", "next_rotation_time"] => Kind::Time,
            ["rotation", "rotation_period"] | ["version_destroy_ttl"] => Kind::Duration,
            ["replication", "user_managed", "replicas", "location"] => Kind::Text,
            ["replication", "user_managed" | "userManaged", ..]
            | ["replication"]
            | ["replication", "automatic"] => Kind::Presence,
            ["labels"] | ["annotations"] | ["version_aliases"] | ["rotation"] => Kind::Presence,
            _ => return None,
        })
    }

    fn any(&self, path: &[&str], see: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        let settings = &self.record.settings;
        match path {
            ["name"] => any_name(self, "", see),
            ["id"] => see(Value::Text(self.id())),
            ["etag"] => see(Value::Text(&self.record.secret_etag())),
            ["topics", ..] => settings.topics.iter().any(|topic| see(Value::Text(topic))),
            ["create_time"] => see(Value::Time(Micros(self.record.create_time))),
            ["expire_time"] => settings.expires.is_some_and(|at| see(Value::Time(Micros(at)))),
            ["version_destroy_ttl"] => {
                settings.destroy_delay.is_some_and(|ttl| see(Value::Time(Micros(ttl))))
            }
            ["rotation", ..] => any_rotation(settings, path, see),
            ["replication", ..] => any_replica(settings, path, see),
            _ => any_entry(settings, path, see),
        }
    }
}

impl Filterable for VersionNow {
    fn kind(path: &[&str]) -> Option<Kind> {
        Some(match path {
            ["name"] => Kind::Name,
            ["state"] | ["etag"] => Kind::Text,
            ["create_time"] | ["destroy_time"] | ["scheduled_destroy_time"] => Kind::Time,
            _ => return None,
        })
    }

    fn any(&self, path: &[&str], see: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        let FoundVersion { secret, number, record } = &self.found;
        let state = record.state_at(self.now);
        let is_destroyed = state == State::Destroyed;
        match path {
            ["name"] => any_name(secret, &format!("/versions/{number}"), see),
            ["id"] => see(Value::Text(&number.to_string())),
            ["state"] => see(Value::Text(state.name())),
            ["etag"] => see(Value::Text(&record.etag())),
            ["create_time"] => see(Value::Time(Micros(record.create_time))),
            ["destroy_time"] if is_destroyed => {
                record.destroyed.or(record.destroy_at).is_some_and(|at| see(Value::Time(Micros(at))))
            }
            ["scheduled_destroy_time"] if !is_destroyed => {
                record.destroy_at.is_some_and(|at| see(Value::Time(Micros(at))))
            }
            _ => false,
        }
    }
}

/// A name is found with the project's number and with its id.
fn any_name(secret: &FoundSecret, rest: &str, see: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    let by_number = format!("{}{rest}", secret.name);
    let by_id = [&*secret.record.name_of(secret.id()), rest].concat();
    see(Value::Text(&by_number)) || see(Value::Text(&by_id))
}

fn any_rotation(settings: &Settings, path: &[&str], see: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    let Some(rotation) = settings.rotation else { return false };
    match path {
        ["rotation"] => see(Value::Present),
        ["rotation", "next_rotation_time"] => rotation.next.is_some_and(|at| see(Value::Time(Micros(at)))),
        _ => rotation.period.is_some_and(|period| see(Value::Time(Micros(period)))),
    }
}

fn any_replica(settings: &Settings, path: &[&str], see: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    match path {
        ["replication"] => see(Value::Present),
        ["replication", "automatic"] => settings.replicas.is_empty() && see(Value::Present),
        [.., "location"] => settings.replicas.iter().any(|location| see(Value::Text(location))),
        // There are no customer-managed keys to be found.
        ["replication", _] | ["replication", _, "replicas"] => {
            !settings.replicas.is_empty() && see(Value::Present)
        }
        _ => false,
    }
}

fn any_entry(settings: &Settings, path: &[&str], see: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    match path {
        ["labels"] => !settings.labels.is_empty() && see(Value::Present),
        ["labels", key] => settings.labels.get(*key).is_some_and(|value| see(Value::Text(value))),
        ["annotations"] => !settings.annotations.is_empty() && see(Value::Present),
        ["annotations", key] => settings.annotations.get(*key).is_some_and(|value| see(Value::Text(value))),
        ["version_aliases"] => !settings.aliases.is_empty() && see(Value::Present),
        ["version_aliases", key] => {
            settings.aliases.get(*key).is_some_and(|number| see(Value::Text(&number.to_string())))
        }
        _ => false,
    }
}
