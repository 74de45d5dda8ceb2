//! The methods of `google.logging.v2.LoggingServiceV2`: validate, call, answer.
//!
//! Writing and listing name their projects entry by entry, so what they require is asked here; what the other
//! methods require stands beside them, and the gateway asks.

use std::sync::Arc;

use apis::google::logging::v2::{self as proto, logging_service_v2 as rpc};
use kernel::{
    Caller, Error, Method, Mount, Resource, Result, grant,
    paging::{self, Page},
};

use crate::{
    SERVICE,
    engine::Logging,
    filter::Filter,
    names,
    search::{Order, Position, Query},
};

mod write;

/// The sizes of pages of entries and of logs, as Google documents them.
const PAGES: paging::Limits = paging::Limits { usual: 50, most: 1000 };
/// The most parents in one listing.
const MAX_PARENTS: usize = 100;

/// The methods that Cloud Logging serves.
pub fn methods(logging: Arc<Logging>) -> Vec<Method> {
    Mount::new(logging)
        .unary(rpc::WRITE_LOG_ENTRIES, &[], write::write_log_entries)
        .unary(rpc::LIST_LOG_ENTRIES, &[], list_log_entries)
        .unary(rpc::LIST_LOGS, const { &[grant("logging.logs.list", "{parent}")] }, list_logs)
        .unary(rpc::DELETE_LOG, const { &[grant("logging.logs.delete", "{log_name}")] }, delete_log)
        .done()
}

async fn list_log_entries(
    logging: Arc<Logging>,
    caller: Caller,
    request: proto::ListLogEntriesRequest,
) -> Result<proto::ListLogEntriesResponse> {
    let proto::ListLogEntriesRequest { resource_names, filter, order_by, page_size, page_token } = &request;
    if resource_names.is_empty() || resource_names.len() > MAX_PARENTS {
        let text = format!("resource_names must have 1 to {MAX_PARENTS} names");
        return Err(Error::bad_field("resource_names", text));
    }
    let mut binding = vec![filter.as_str(), order_by.as_str()];
    binding.extend(resource_names.iter().map(String::as_str));
    let page = Page::new(PAGES, *page_size, page_token, &binding)?;
    let order = order(order_by)?;
    let filter = Filter::parse(filter)?;
    let projects = readable(&logging, &caller, resource_names, "logging.logEntries.list").await?;
    let after = position(page.after())?;
    let found = logging.search(Query { filter, projects, order, after, size: page.size() }).await?;
    let next_page_token = found.next.map(|next| page.token(&written(&next))).unwrap_or_default();
    Ok(proto::ListLogEntriesResponse { entries: found.entries, next_page_token })
}

fn order(order_by: &str) -> Result<Order> {
    match *order_by.split_whitespace().collect::<Vec<_>>() {
        [] | ["timestamp"] | ["timestamp", "asc"] => Ok(Order::OldestFirst),
        ["timestamp", "desc"] => Ok(Order::NewestFirst),
        _ => Err(Error::bad_field("order_by", format!("Unsupported order_by: '{order_by}'."))),
    }
}

/// The ids of the projects that are to be read, each once, all of which the caller may read.
async fn readable(
    logging: &Logging,
    caller: &Caller,
    parents: &[String],
    permission: &'static str,
) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for parent in parents {
        let named = names::parent(parent)?;
        let project = logging.project(named).await?;
        match parent.split_once('/').and_then(|(_, rest)| rest.split_once('/')) {
            None => caller.require(permission, &Resource::project(&project.id))?,
            Some((_, view)) => {
                let view = Resource::new(SERVICE, format!("projects/{}/{view}", project.id));
                caller.require("logging.views.access", &view)?;
            }
        }
        let id = project.id.to_string();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// A position as it stands in a page token.
fn written(Position { time, insert_id, project }: &Position) -> String {
    format!("{time} {project} {insert_id}")
}

fn position(after: &str) -> Result<Option<Position>> {
    if after.is_empty() {
        return Ok(None);
    }
    let mut parts = after.splitn(3, ' ');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (time, project, insert_id) = (part(), part(), part());
    let time = time.parse().map_err(|_| Error::bad_field("page_token", "page_token is not valid"))?;
    Ok(Some(Position { time, insert_id, project }))
}

async fn list_logs(
    logging: Arc<Logging>,
    caller: Caller,
    request: proto::ListLogsRequest,
) -> Result<proto::ListLogsResponse> {
    let proto::ListLogsRequest { parent, resource_names, page_size, page_token } = &request;
    let parents = if resource_names.is_empty() { std::slice::from_ref(parent) } else { &resource_names[..] };
    let binding: Vec<&str> = parents.iter().map(String::as_str).collect();
    let page = Page::new(PAGES, *page_size, page_token, &binding)?;
    let mut logs = Vec::new();
    for project in readable(&logging, &caller, parents, "logging.logs.list").await? {
        logs.extend(logging.logs(format!("projects/{project}/logs/")).await?);
    }
    logs.sort();
    let rest = logs.into_iter().filter(|log| log.as_str() > page.after()).take(page.size() + 1);
    let (log_names, next_page_token) = page.cut(rest.collect(), |log| log);
    Ok(proto::ListLogsResponse { log_names, next_page_token })
}

async fn delete_log(logging: Arc<Logging>, _: Caller, request: proto::DeleteLogRequest) -> Result<()> {
    let name = names::log(&request.log_name)?;
    let project = logging.project(name.project).await?;
    logging.delete(name.canonical(&project.id)).await
}
