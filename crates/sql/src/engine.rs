//! What Cloud SQL does: instances and what is in them.
//!
//! An instance's record is in the store, its databases and users are in its cluster. Making and deleting an instance
//! are operations whose steps may each be done twice, so that a restart goes on with them; everything else is done
//! when its operation is given out.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use kernel::{
    Resource, Result,
    clock::Clock,
    collection::{Collection, Held, Wording},
    operations::Operations,
    ports::{Constraints, Databases, Project, Projects},
    store::Store,
};

use crate::{
    SERVICE, names,
    postgres::{Admin, Config, Host, Server, Stop},
    record::{self, InstanceRecord, State},
    refuse,
};

mod contents;
mod instances;
mod jobs;
mod settings;

pub(crate) use instances::{Change, NewInstance};
pub(crate) use jobs::Job;

/// Cloud SQL. Made by [`Sql::open`]; served by [`methods`](crate::methods).
pub struct Sql {
    instances: Collection<InstanceRecord>,
    operations: Operations,
    projects: Arc<dyn Projects>,
    constraints: OnceLock<Arc<dyn Constraints>>,
    clock: Clock,
    host: Arc<Host>,
    /// The servers, by their instance's uid.
    servers: Mutex<HashMap<String, Arc<Server>>>,
}

/// An instance, for people.
#[derive(Clone, Debug)]
pub struct InstanceStatus {
    /// The id of its project.
    pub project: String,
    /// Its id.
    pub name: String,
    /// What workloads know it by, `P:R:I`.
    pub connection_name: String,
    /// What it was asked to be, such as `POSTGRES_16`.
    pub version: String,
    /// How far it is, in Cloud SQL's words.
    pub state: &'static str,
    /// The directory of its socket.
    pub socket: PathBuf,
}

/// An instance that exists.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its stored name, `projects/P/instances/I`.
    pub(crate) name: String,
    /// What is known of it.
    pub(crate) record: Held<InstanceRecord>,
}

impl Sql {
    /// Starts Cloud SQL on a store: goes on with what a restart has interrupted, adopts the servers that still run,
    /// and starts those that do not, without waiting for them.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` for directories that cannot be used, and whatever the store answers.
    pub async fn open(
        config: Config,
        store: Arc<dyn Store>,
        clock: Clock,
        projects: Arc<dyn Projects>,
        operations: Operations,
    ) -> Result<Arc<Self>> {
        let instances = Collection::open(store.clone(), record::INSTANCES, wording()).await?;
        let remembered = Collection::open(store, record::SERVERS, Wording::of("Server")).await?;
        let host = Arc::new(Host::new(config, remembered));
        let servers = Mutex::default();
        let sql = Arc::new(Sql {
            instances,
            operations,
            projects,
            constraints: OnceLock::new(),
            clock,
            host,
            servers,
        });
        for (_, held) in sql.instances.mirror().list() {
            if held.state() == State::Runnable {
                sql.server(&held).start_later();
            }
        }
        sql.resume();
        Ok(sql)
    }

    /// Says whom to ask about organization policies. Without it there are none. The first call counts.
    pub fn obey(&self, constraints: Arc<dyn Constraints>) {
        let _ = self.constraints.set(constraints);
    }

    /// Stops every server in order; they stay stopped until Cloud SQL is opened again.
    pub async fn shut_down(&self) {
        self.host.close();
        let running: Vec<Held<InstanceRecord>> =
            self.instances.mirror().list().into_iter().map(|(_, held)| held).collect();
        let mut stopping = tokio::task::JoinSet::new();
        for held in running {
            let server = self.server(&held);
            stopping.spawn(async move { server.stop(Stop::Orderly).await });
        }
        while stopping.join_next().await.is_some() {}
    }

    /// The instances there are, for people.
    pub fn status(&self) -> Vec<InstanceStatus> {
        let status = |(name, held): (Arc<str>, Held<InstanceRecord>)| {
            let (project, instance) = names::parts(&name);
            InstanceStatus {
                project: project.to_owned(),
                name: instance.to_owned(),
                connection_name: names::connection(&name, &held.region),
                version: names::version(held.major).as_str_name().to_owned(),
                state: held.state().name(),
                socket: self.server(&held).cluster().socket_directory().to_owned(),
            }
        };
        self.instances.mirror().list().into_iter().map(status).collect()
    }

    /// The project that a caller names by id or number.
    pub(crate) async fn project(&self, id_or_number: &str) -> Result<Project> {
        match self.projects.known(id_or_number) {
            Some(project) => Ok(project),
            None => self.projects.resolve(id_or_number).await,
        }
    }

    /// An instance.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn instance(&self, project: &str, id: &str) -> Result<Found> {
        let project = self.project(project).await?;
        let name = names::instance(&project.id, id);
        let record = self.instances.get(&name)?;
        Ok(Found { name, record })
    }

    /// A connection to an instance that runs.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` while it does not run yet, or does not run any more.
    async fn admin(&self, found: &Found) -> Result<Admin> {
        if found.record.state() != State::Runnable {
            return Err(refuse::not_running());
        }
        Admin::connect(self.server(&found.record).cluster()).await
    }

    /// The server of an instance: one for each, so that it is never started twice.
    fn server(&self, record: &InstanceRecord) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = || settings::flags(&settings::decode(&record.settings));
        let make = || Server::new(self.host.clone(), &record.uid, record.major, flags());
        servers.entry(record.uid.clone()).or_insert_with(make).clone()
    }

    fn forget_server(&self, uid: &str) {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

impl Databases for Sql {
    fn socket_dir(&self, connection_name: &str) -> Option<PathBuf> {
        let (name, region) = names::of_connection(connection_name)?;
        let held = self.instances.find(&name).filter(|held| held.region == region)?;
        let is_there = held.state() == State::Runnable;
        is_there.then(|| self.server(&held).cluster().socket_directory().to_owned())
    }

    fn resource(&self, connection_name: &str) -> Option<Resource> {
        let (name, _) = names::of_connection(connection_name)?;
        Some(Resource::new(SERVICE, name))
    }
}

fn wording() -> Wording {
    Wording::of("Instance")
        .not_found(|_, _| refuse::no_instance())
        .exists(|_, _| refuse::instance_exists())
        .stale(|_, _| refuse::busy())
}
