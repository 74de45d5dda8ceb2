//! A Cloud Logging in a directory of its own, with two projects.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use apis::{
    Rpc,
    google::{
        api::MonitoredResource,
        logging::v2::{self as proto, log_entry::Payload, logging_service_v2 as rpc},
    },
};
use kernel::{
    BoxFuture, Caller, Code, Error, Method, Principal, Resource, Result,
    call::RequestInfo,
    clock::Clock,
    ports::{Authority, LogSource, Owner, Project, Projects},
};
use logging::{Logging, Options};
use prost::Message;
use tempfile::TempDir;

pub(crate) const P: &str = "projects/haar-test";
pub(crate) const LOG: &str = "projects/haar-test/logs/app";

/// Midnight before 2026.
pub(crate) const START: u64 = 1_767_225_600;

pub(crate) struct World {
    dir: Option<TempDir>,
    pub(crate) clock: Clock,
    pub(crate) logging: Arc<Logging>,
    methods: Vec<Method>,
}

/// Settings for tests: nothing waits long, and any disk has room.
pub(crate) fn options() -> Options {
    Options { reserve_bytes: 0, gather: Duration::from_millis(1), ..Options::default() }
}

impl World {
    pub(crate) fn new() -> World {
        World::with(options())
    }

    pub(crate) fn with(options: Options) -> World {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(START));
        World::open(tempfile::tempdir().unwrap(), clock, options)
    }

    pub(crate) fn open(dir: TempDir, clock: Clock, options: Options) -> World {
        let world = World::at(dir.path(), clock, options);
        World { dir: Some(dir), ..world }
    }

    /// One in a directory that somebody else looks after.
    pub(crate) fn at(dir: &Path, clock: Clock, options: Options) -> World {
        let projects = Arc::new(TwoProjects);
        let logging = Logging::open_with(&dir.join("logs"), clock.clone(), projects, options).unwrap();
        World { dir: None, clock, methods: ::logging::methods(logging.clone()), logging }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    /// Ends the process, as far as its data is concerned.
    pub(crate) fn close(self) -> (TempDir, Clock) {
        let World { dir, clock, logging, methods } = self;
        drop((logging, methods));
        (dir.unwrap(), clock)
    }

    /// Calls a method with an encoded request, as the gateway does.
    pub(crate) async fn call_as<Q: Message, S: Message + Default>(
        &self,
        allow: Allow,
        rpc: Rpc<Q, S>,
        request: Q,
    ) -> Result<S> {
        let method = self.methods.iter().find(|method| method.id == rpc.id()).expect("a served method");
        let answer = (method.handler)(caller(allow), request.encode_to_vec().into()).await?;
        Ok(S::decode(&answer[..]).unwrap())
    }

    pub(crate) async fn call<Q: Message, S: Message + Default>(
        &self,
        rpc: Rpc<Q, S>,
        request: Q,
    ) -> Result<S> {
        self.call_as(Allow::Everything, rpc, request).await
    }

    pub(crate) async fn write(&self, entries: Vec<proto::LogEntry>) -> Result<()> {
        let resource = Some(global());
        let request = proto::WriteLogEntriesRequest {
            log_name: LOG.into(),
            resource,
            entries,
            ..proto::WriteLogEntriesRequest::default()
        };
        self.call(rpc::WRITE_LOG_ENTRIES, request).await.map(|_| ())
    }

    pub(crate) async fn list(&self, request: proto::ListLogEntriesRequest) -> proto::ListLogEntriesResponse {
        self.call(rpc::LIST_LOG_ENTRIES, request).await.unwrap()
    }

    /// The texts of the entries that a filter lets through, the oldest first.
    pub(crate) async fn texts(&self, filter: &str) -> Vec<String> {
        let request = proto::ListLogEntriesRequest { page_size: 1000, ..listing(filter) };
        self.list(request).await.entries.iter().map(text).collect()
    }

    pub(crate) async fn logs(&self) -> Vec<String> {
        let request = proto::ListLogsRequest { parent: P.into(), ..proto::ListLogsRequest::default() };
        self.call(rpc::LIST_LOGS, request).await.unwrap().log_names
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

pub(crate) fn listing(filter: &str) -> proto::ListLogEntriesRequest {
    proto::ListLogEntriesRequest {
        resource_names: vec![P.into()],
        filter: filter.into(),
        ..proto::ListLogEntriesRequest::default()
    }
}

pub(crate) fn global() -> MonitoredResource {
    MonitoredResource { r#type: "global".into(), ..MonitoredResource::default() }
}

/// An entry with a text.
pub(crate) fn said(text: &str) -> proto::LogEntry {
    proto::LogEntry { payload: Some(Payload::TextPayload(text.into())), ..proto::LogEntry::default() }
}

/// An entry with a text, so many seconds after the start.
pub(crate) fn said_at(seconds: u64, text: &str) -> proto::LogEntry {
    let timestamp = Some(prost_types::Timestamp { seconds: (START + seconds) as i64, nanos: 0 });
    proto::LogEntry { timestamp, ..said(text) }
}

pub(crate) fn text(entry: &proto::LogEntry) -> String {
    match &entry.payload {
        Some(Payload::TextPayload(text)) => text.clone(),
        other => panic!("no text: {other:?}"),
    }
}

pub(crate) fn source(revision: &str) -> LogSource {
    LogSource {
        project: "haar-test".into(),
        region: "us-central1".into(),
        owner: Owner::Revision { service: "shop".into(), revision: revision.into() },
        instance: "0a1b2c".into(),
        container: "".into(),
    }
}

/// What was refused: its code and what it says.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T>) -> (Code, String) {
    let error = answer.expect_err("a refusal");
    (error.code(), error.message().to_owned())
}

/// What a caller may do.
#[derive(Clone, Copy)]
pub(crate) enum Allow {
    Everything,
    /// One permission on one resource.
    Only(&'static str, &'static str),
}

impl Authority for Allow {
    fn allows(&self, _: &Principal, permission: &str, resource: &Resource, _: &RequestInfo) -> bool {
        match self {
            Allow::Everything => true,
            Allow::Only(allowed, on) => permission == *allowed && resource.name == *on,
        }
    }
}

fn caller(allow: Allow) -> Caller {
    let request = RequestInfo {
        time: SystemTime::now(),
        peer: None,
        host: "logging.googleapis.com".into(),
        user_agent: "test".into(),
    };
    Caller::new(Principal::User("ada@example.com".into()), request, Arc::new(allow))
}

/// Two projects, and no more.
pub(crate) struct TwoProjects;

impl Projects for TwoProjects {
    fn resolve<'a>(&'a self, id_or_number: &'a str) -> BoxFuture<'a, Result<Project>> {
        let known = self.known(id_or_number);
        Box::pin(async move { known.ok_or_else(|| Error::not_found("Project not found.")) })
    }

    fn known(&self, id_or_number: &str) -> Option<Project> {
        match id_or_number {
            "haar-test" | "123456789012" => Some(Project { id: "haar-test".into(), number: 123_456_789_012 }),
            "haar-other" => Some(Project { id: "haar-other".into(), number: 210_987_654_321 }),
            _ => None,
        }
    }

    fn enabled(&self, _: &str, _: &str) -> bool {
        true
    }
}
