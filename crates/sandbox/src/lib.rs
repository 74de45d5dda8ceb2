//! One running instance: root filesystem, namespaces, control groups, signals, output.
//!
//! A container runtime for programs that nobody has vetted, made to start one in a few milliseconds. [`Sandbox::open`]
//! finds out what the host allows and starts a helper ([`helper`]); [`Sandbox::start`] turns a [`Spec`] into an
//! [`Instance`]. The binary must call [`helper::entry`] first thing in `main`, because the helper is that same binary.
//!
//! # What holds a workload
//! Told as someone inside would try it; each has a test.
//! - *It is root.* Root of a user namespace with ids that exist nowhere else on the host, with a container's usual
//!   capabilities over its own things, without those for raw sockets and device nodes, and unable to gain more
//!   (`no_new_privs`, a bounding set). The module `mapping` says how layers that are root's on disk are shown to it.
//! - *It looks for the host's files.* Its mounts are its own; the host's root was detached before a path of the image or
//!   of a volume was looked up, so links lead nowhere.
//! - *It asks the kernel.* Calls that mount, trace, load, or reach other namespaces are refused by a filter, and what of
//!   `/proc` and `/sys` tells of the host is covered or for reading only.
//! - *It looks for other processes.* It sees its own. Its first process is ours, small, not traceable, and has given up
//!   every privilege; what else serves it is outside its process namespace.
//! - *It eats.* Memory (files in memory included), processor time and processes are limited by control groups that it
//!   was in before its first allocation; where there are none, the number of processes still is.
//! - *It takes what the machine shares.* Of watches and terminals, which the kernel counts by the user that runs haar, it
//!   has its share and no more, and what waits in TCP's buffers is memory of its own.
//! - *It stays.* Its end is the end of every process in it, and so is haar's, however it comes.
//!
//! # What this declines to be
//! An OCI runtime: there is no bundle, no state directory, no hooks; what was started ends with who started it. It does
//! not pull or unpack images, and it knows no network but an instance's own: sockets go in and out as descriptors
//! ([`Instance::connect`], [`wiring`]), and who takes a connection out to the world is its user.

pub mod capture;
mod cgroup;
mod error;
pub mod helper;
pub mod host;
mod instance;
mod mapping;
mod owners;
pub mod pages;
mod prepare;
mod runtime;
pub mod spec;
mod sys;
mod wire;
pub mod wiring;
mod zygote;

pub use cgroup::{Cgroups, Usage};
pub use error::{Error, Kind, Result};
pub use host::{Host, Level, Redirection};
pub use instance::{Ending, Exit, Instance, Listener};
pub use runtime::{Config, Isolation, Sandbox, sweep};
pub use spec::Spec;
pub use wiring::Wiring;
