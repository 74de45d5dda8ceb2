//! What is stored of projects.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{mirror::Record, names::ORGANIZATION, ports::Project, time::Micros};

/// Where projects lie, by id.
pub(crate) const PROJECTS: &str = "projects/";
/// Where folders lie, by number.
pub(crate) const FOLDERS: &str = "folders/";
/// Where numbers lie, so that none is given twice.
pub(crate) const NUMBERS: &str = "project-numbers/";

/// A project. Times are in microseconds since 1970.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProjectRecord {
    /// The id that people chose.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// The number that was assigned.
    #[prost(uint64, tag = "2")]
    pub(crate) number: u64,
    /// What it is called.
    #[prost(string, tag = "3")]
    pub(crate) display_name: String,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "4")]
    pub(crate) labels: BTreeMap<String, String>,
    /// What it belongs to, such as `folders/1`; empty for the organization.
    #[prost(string, tag = "5")]
    pub(crate) parent: String,
    /// When it was created.
    #[prost(uint64, tag = "6")]
    pub(crate) create_time: u64,
    /// When it was changed last.
    #[prost(uint64, tag = "7")]
    pub(crate) update_time: u64,
    /// When it was deleted, if it is.
    #[prost(uint64, optional, tag = "8")]
    pub(crate) delete_time: Option<u64>,
    /// The services that were switched off. All others are on.
    #[prost(string, repeated, tag = "9")]
    pub(crate) disabled: Vec<String>,
    /// It came by being used: nobody asked for it yet.
    #[prost(bool, tag = "10")]
    pub(crate) implicit: bool,
}

impl Record for ProjectRecord {
    const FORMAT: u8 = 1;
}

/// A folder: a place for projects and other folders. Times are in microseconds since 1970.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FolderRecord {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    /// What it is called.
    #[prost(string, tag = "2")]
    pub(crate) display_name: String,
    /// What it belongs to.
    #[prost(string, tag = "3")]
    pub(crate) parent: String,
    /// When it was created.
    #[prost(uint64, tag = "4")]
    pub(crate) create_time: u64,
    /// When it was changed last.
    #[prost(uint64, tag = "5")]
    pub(crate) update_time: u64,
    /// When it was deleted, if it is.
    #[prost(uint64, optional, tag = "6")]
    pub(crate) delete_time: Option<u64>,
}

impl Record for FolderRecord {
    const FORMAT: u8 = 1;
}

impl FolderRecord {
    /// Its name.
    pub(crate) fn name(&self) -> String {
        format!("folders/{}", self.number)
    }

    /// What has become of it, as Google's interfaces call it.
    pub(crate) fn state(&self) -> &'static str {
        if self.delete_time.is_none() { "ACTIVE" } else { "DELETE_REQUESTED" }
    }
}

/// Whether a project can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// It can.
    Active,
    /// It was deleted, and can be brought back.
    DeleteRequested,
}

impl Lifecycle {
    /// The name, as Google writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lifecycle::Active => "ACTIVE",
            Lifecycle::DeleteRequested => "DELETE_REQUESTED",
        }
    }
}

impl ProjectRecord {
    /// Whether it can be used.
    pub(crate) fn lifecycle(&self) -> Lifecycle {
        if self.delete_time.is_some() { Lifecycle::DeleteRequested } else { Lifecycle::Active }
    }

    /// What it belongs to.
    pub(crate) fn parent_name(&self) -> &str {
        if self.parent.is_empty() { ORGANIZATION } else { &self.parent }
    }

    /// Both of its names.
    pub(crate) fn names(&self) -> Project {
        Project { id: self.id.as_str().into(), number: self.number }
    }

    /// Switches services on or off. True when that changed anything.
    pub(crate) fn switch(&mut self, services: &[&str], to: Switch) -> bool {
        let before = self.disabled.len();
        let mut disabled: BTreeSet<String> = self.disabled.drain(..).collect();
        for service in services {
            match to {
                Switch::On => disabled.remove(*service),
                Switch::Off => disabled.insert((*service).to_owned()),
            };
        }
        self.disabled = disabled.into_iter().collect();
        self.disabled.len() != before
    }

    /// Notes that it was changed now.
    pub(crate) fn touch(&mut self, now: Micros) {
        self.update_time = now.0.max(self.update_time);
    }
}

/// Whether a service can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// It can.
    On,
    /// It cannot.
    Off,
}
