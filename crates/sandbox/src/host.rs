//! What this host lets an instance be, found by doing it.
//!
//! Asking (versions, files, capabilities) is wrong in both directions: a kernel may let a namespace be made and then
//! deny it every capability, and a container may have rights that its files do not show. So a helper raises a keeper and
//! an init as for an instance, joins a layer, and is thrown away; the caller's own process is not touched, except that
//! on control groups of version 2 it moves into a leaf, as it must to limit anything.

use std::path::Path;

use crate::cgroup::{Cgroups, Groups};
use crate::error::{Error, Result, Step};
use crate::mapping::Mapping;
use crate::spec::{Limits, Network};
use crate::wire::{self, FromInit, ToInit, Walls};
use crate::wiring::Wiring;
use crate::zygote::{self, Ids, Zygote};

/// What instances can be on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Namespaces and limits, by root.
    Root {
        /// By which control groups.
        cgroups: Cgroups,
    },
    /// Namespaces.
    UserNamespaces {
        /// Whether there are limits too.
        limits: bool,
    },
    /// Plain processes: nothing keeps them from each other or from the host.
    Process,
}

/// Whether an instance's connections can be led elsewhere inside its own network (see [`wiring`](crate::wiring)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// They can.
    Works,
    /// They cannot, and why.
    Missing(String),
}

/// A host, as far as instances are concerned.
#[derive(Clone, Debug)]
pub struct Host {
    /// What instances can be.
    pub level: Level,
    /// The same for people, with the reason for what is missing.
    pub sentence: String,
    /// Whether instances can be wired.
    pub redirection: Redirection,
    pub(crate) mapping: Mapping,
    pub(crate) groups: Option<Groups>,
}

/// Finds out what is possible here. `layers` is an existing directory on the filesystem where layers will be: whether
/// their owners can be translated depends on it. `data_id` names the control groups (see
/// [`Config`](crate::Config::data_id)). Blocks for some milliseconds.
pub fn probe(data_id: &str, layers: &Path) -> Result<Host> {
    let groups = find_groups(data_id);
    let zygote = Zygote::spawn()?;
    let mut reasons = Vec::new();
    for mapping in Mapping::candidates() {
        match try_mapping(&zygote, &mapping, layers) {
            Ok(()) => {
                let redirection = try_wiring(&zygote, &mapping);
                return Ok(contained(mapping, groups, redirection, &reasons));
            }
            Err(error) => reasons.push(format!("{}: {error}", describe(&mapping))),
        }
    }
    Ok(plain(&format!("this machine allows no user namespaces ({})", reasons.join("; "))))
}

/// A host whose instances have no walls, and why.
pub(crate) fn plain(reason: &str) -> Host {
    let sentence = format!(
        "INSTANCES ARE NOT ISOLATED: they run as plain processes of this user, with nothing between them and this \
         machine, since {reason}."
    );
    let redirection = Redirection::Missing("instances have no network of their own".into());
    Host { level: Level::Process, sentence, redirection, mapping: Mapping::Single, groups: None }
}

fn describe(mapping: &Mapping) -> &'static str {
    match mapping {
        Mapping::Range => "a range of ids for each instance",
        Mapping::Same { .. } => "the host's ids",
        Mapping::Subordinate { .. } => "subordinate ids",
        Mapping::Single => "a single id",
    }
}

fn try_mapping(zygote: &Zygote, mapping: &Mapping, layers: &Path) -> Result<()> {
    let birth = zygote.fork(Walls::Namespaces(Network::Isolated), &Wiring::default(), None)?;
    let warm = birth.raise(Ids::New(mapping), None)?;
    if let Some(translation) = &warm.mapped.translation {
        translation.try_show(layers).step("translate owners")?;
    }
    wire::send(&warm.init, &ToInit::Try, &[]).step("helper")?;
    match zygote::next(&warm.init)? {
        (FromInit::Tried, _) => Ok(()),
        (FromInit::Failed(error), _) => Err(error),
        (other, _) => Err(zygote::unexpected(&other)),
    }
}

fn try_wiring(zygote: &Zygote, mapping: &Mapping) -> Redirection {
    let birth = zygote.fork(Walls::Namespaces(Network::Isolated), &Wiring::trial(), None);
    match birth.and_then(|birth| birth.raise(Ids::New(mapping), None)) {
        Ok(_) => Redirection::Works,
        Err(error) => Redirection::Missing(error.message),
    }
}

/// Control groups in which a limit can really be set.
fn find_groups(data_id: &str) -> Result<Groups> {
    let groups = Groups::find(data_id).step("control groups")?;
    let name = format!("{}-probe", std::process::id());
    let group = groups.make(&name).step("control groups")?;
    let limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(1000), pids: Some(64) };
    let limited = group.limit(&limits).step("limits").and_then(|()| group.procs().map(drop).step("joining"));
    group.remove().step("control groups")?;
    groups.leave();
    limited.map(|()| groups)
}

fn contained(mapping: Mapping, groups: Result<Groups>, redirection: Redirection, reasons: &[String]) -> Host {
    let level = match &groups {
        Ok(groups) if rustix::process::getuid().is_root() => Level::Root { cgroups: groups.kind() },
        groups => Level::UserNamespaces { limits: groups.is_ok() },
    };
    let mut sentence = opening(level);
    if let Err(Error { message, .. }) = &groups {
        sentence.push_str(&format!(" There are no limits, and idle instances keep their CPU: {message}."));
    }
    if mapping == Mapping::Single {
        sentence.push_str(" Every program in an instance runs as the same user.");
    }
    if let Redirection::Missing(why) = &redirection {
        sentence.push_str(&format!(" They have no way out to other networks: {why}."));
    }
    if !reasons.is_empty() {
        sentence.push_str(&format!(" What would be better did not work: {}.", reasons.join("; ")));
    }
    Host { level, sentence, redirection, mapping, groups: groups.ok() }
}

fn opening(level: Level) -> String {
    let groups = |cgroups| match cgroups {
        Cgroups::V1 => "version 1",
        Cgroups::Hybrid => "version 1, beside version 2",
        Cgroups::V2 => "version 2",
    };
    match level {
        Level::Root { cgroups } => {
            format!(
                "Instances have namespaces and limits, by root with control groups of {}.",
                groups(cgroups)
            )
        }
        Level::UserNamespaces { .. } => "Instances have namespaces of an ordinary user.".into(),
        Level::Process => "Instances run as plain processes.".into(),
    }
}
