//! Takes in the entries of clients: fills in what they leave out, and refuses what cannot be an entry.

use std::{collections::HashMap, sync::Arc};

use apis::google::logging::v2 as proto;
use kernel::{Caller, Error, Resource, Result, ports::Project};
use prost::Message;

use crate::{
    engine::Logging,
    names,
    record::{self, Pending},
};

/// The most bytes of an entry.
const LONGEST: usize = 256 << 10;
/// Entries older than this are taken and not kept, as Google does past the retention of the default bucket.
const OLDEST: i64 = 30 * 24 * 3600 * 1_000_000_000;
/// So are those further ahead.
const AHEAD: i64 = 24 * 3600 * 1_000_000_000;

pub(super) async fn write_log_entries(
    logging: Arc<Logging>,
    caller: Caller,
    mut request: proto::WriteLogEntriesRequest,
) -> Result<proto::WriteLogEntriesResponse> {
    let entries = std::mem::take(&mut request.entries);
    let mut projects = HashMap::new();
    let (mut pending, mut refused) = (Vec::with_capacity(entries.len()), None);
    for (number, mut entry) in entries.into_iter().enumerate() {
        if entry.log_name.is_empty() {
            entry.log_name.clone_from(&request.log_name);
        }
        let project = project(&logging, &caller, &entry.log_name, &mut projects).await?;
        match complete(&logging, &request, entry, &project) {
            Ok(entry) => pending.extend(entry),
            Err(error) => refused = refused.or(Some((number, error))),
        }
    }
    if request.dry_run || refused.is_some() && !request.partial_success {
        pending.clear();
    }
    if !pending.is_empty() {
        logging.write(pending).await?;
    }
    match refused {
        None => Ok(proto::WriteLogEntriesResponse {}),
        Some((_, error)) => Err(error),
    }
}

/// The project of a log, in which the caller may write. Each is asked for once.
async fn project(
    logging: &Logging,
    caller: &Caller,
    log: &str,
    known: &mut HashMap<String, Project>,
) -> Result<Project> {
    if log.is_empty() {
        return Err(Error::bad_field("log_name", "Each log entry must have a log name."));
    }
    let name = names::log(log)?;
    if let Some(project) = known.get(name.project) {
        return Ok(project.clone());
    }
    let project = logging.project(name.project).await?;
    caller.require("logging.logEntries.create", &Resource::project(&project.id))?;
    known.insert(name.project.to_owned(), project.clone());
    Ok(project)
}

/// Fills in what an entry leaves out. `None` for one that is out of the range of time that is kept.
fn complete(
    logging: &Logging,
    request: &proto::WriteLogEntriesRequest,
    mut entry: proto::LogEntry,
    project: &Project,
) -> Result<Option<Pending>> {
    entry.log_name = names::log(&entry.log_name)?.canonical(&project.id);
    let mut resource = entry.resource.take().or_else(|| request.resource.clone()).unwrap_or_default();
    if resource.r#type.is_empty() {
        return Err(Error::bad_field("resource", "Each log entry must have a resource with a type."));
    }
    let id = resource.labels.entry("project_id".into()).or_default();
    if id.is_empty() {
        *id = project.id.to_string();
    }
    entry.resource = Some(resource);
    for (name, value) in &request.labels {
        entry.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if entry.insert_id.is_empty() {
        entry.insert_id = logging.insert_id();
    }
    let size = entry.encoded_len();
    if size > LONGEST {
        return Err(Error::invalid(format!(
            "Log entry with size {:.1}K exceeds maximum size of 256.0K",
            size as f64 / 1024.0
        )));
    }
    let now = logging.now();
    if let Some(time) = &entry.timestamp {
        if !(0..1_000_000_000).contains(&time.nanos) {
            return Err(Error::bad_field("timestamp", "The timestamp is out of range."));
        }
        let time = record::nanos(time);
        if time < now.saturating_sub(OLDEST) || time > now.saturating_add(AHEAD) {
            return Ok(None);
        }
    }
    Ok(Some(record::split(entry, now)))
}
