//! What Cloud Run accepts: defaults, limits, names.
//!
//! Sources: <https://cloud.google.com/run/docs/configuring/services/memory-limits>, `…/cpu`, `…/concurrency`,
//! `…/request-timeout`, `…/healthchecks`, <https://cloud.google.com/run/docs/container-contract>.

mod containers;
mod probes;
mod resources;
mod volumes;

pub(crate) use containers::ordered;
pub(crate) use probes::check_no_readiness;
pub(crate) use volumes::complete as complete_volumes;

use aws_lc_rs::rand;
use kernel::{
    Error, Result,
    error::{Detail, Violation},
    regions::is_region,
};

use crate::{
    change::{Desired, Place},
    record::{Container, Kind, Template},
    words,
};

/// Unless said otherwise.
pub(crate) const DEFAULT_MAX_INSTANCES: u32 = 100;
const DEFAULT_TIMEOUT: u32 = 300;
const DEFAULT_CONCURRENCY: u32 = 80;
const DEFAULT_PORT: u16 = 8080;
const MAX_TIMEOUT: u32 = 3600;
const MAX_CONCURRENCY: u32 = 1000;
const MIB: u64 = 1 << 20;
/// Where containers are in the Knative form.
const CONTAINERS: &str = "spec.template.spec.containers";
/// Variables that the platform sets (<https://cloud.google.com/run/docs/container-contract#env-vars>).
const RESERVED: [&str; 4] = ["PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"];
/// The same of worker pools.
const RESERVED_FOR_POOLS: [&str; 2] = ["CLOUD_RUN_WORKER_POOL", "CLOUD_RUN_WORKER_POOL_REVISION"];
/// The second generation of execution environments, as v2 numbers it.
pub(crate) const SECOND_GENERATION: i32 = 2;

/// The name of the volume with Cloud SQL's sockets, and of no other.
pub(crate) const CLOUD_SQL_VOLUME: &str = "cloudsql";

/// Fills in what was left out, as Cloud Run does.
pub(crate) fn complete(kind: Kind, template: &mut Template, project_number: u64) {
    if template.service_account.is_empty() {
        template.service_account = format!("{project_number}-compute@developer.gserviceaccount.com");
    }
    match kind {
        Kind::Service => complete_service(template),
        Kind::WorkerPool => complete_worker_pool(template),
    }
    complete_volumes(template);
}

fn complete_service(template: &mut Template) {
    if template.timeout_seconds == 0 {
        template.timeout_seconds = DEFAULT_TIMEOUT;
    }
    // Both forms show these, and what comes back of them must mean the same template.
    let scaling = template.scaling.get_or_insert_default();
    scaling.max.get_or_insert(DEFAULT_MAX_INSTANCES);
    scaling.min = scaling.min.filter(|min| *min != 0);
    let only = template.containers.len() == 1;
    for container in &mut template.containers {
        if container.port == 0 && only {
            container.port = DEFAULT_PORT.into();
            let name = &container.port_name;
            container.port_name = if name.is_empty() { "http1".into() } else { name.clone() };
        }
        complete_container(container);
    }
    if template.concurrency == 0 {
        let cpus = ingress_container(template).map_or(1, |container| cpu(&container.cpu).div_ceil(1000));
        template.concurrency = (DEFAULT_CONCURRENCY * cpus.max(1)).min(MAX_CONCURRENCY);
    }
}

/// What is about requests is dropped; instances have their CPU all the time, in the second generation.
fn complete_worker_pool(template: &mut Template) {
    template.scaling = None;
    template.timeout_seconds = 0;
    template.concurrency = 0;
    template.session_affinity = false;
    template.execution_environment = SECOND_GENERATION;
    for container in &mut template.containers {
        container.cpu_idle = false;
        complete_container(container);
    }
}

fn complete_container(container: &mut Container) {
    if container.cpu.is_empty() {
        container.cpu = "1000m".into();
    }
    if container.memory.is_empty() {
        container.memory = "512Mi".into();
    }
    probes::complete(container);
}

/// Refuses what Cloud Run refuses, naming every field that is wrong.
pub(crate) fn check(place: &Place, desired: &Desired) -> Result<()> {
    let mut faults = Faults::default();
    check_region(&place.region)?;
    check_name(&place.name, &mut faults);
    check_template(place, &desired.template, &mut faults);
    check_service_scaling(desired, &mut faults);
    check_traffic(place.kind, desired, &mut faults);
    faults.into_result()
}

/// Refuses what is no region.
///
/// # Errors
/// `NOT_FOUND`.
pub(crate) fn check_region(region: &str) -> Result<()> {
    if is_region(region) { Ok(()) } else { Err(words::no_such_region(region)) }
}

/// The bounds of the service as a whole.
fn check_service_scaling(desired: &Desired, faults: &mut Faults) {
    let scaling = desired.scaling.unwrap_or_default();
    if let (Some(min), Some(max)) = (scaling.min, scaling.max.filter(|max| *max != 0)) {
        faults.check(min <= max, "metadata.annotations[run.googleapis.com/minScale]", || {
            format!("The min instances ({min}) must not be greater than the max instances ({max}).")
        });
    }
}

/// Fields that are wrong, by path.
#[derive(Default)]
pub(crate) struct Faults(Vec<Violation>);

impl Faults {
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into() });
    }

    pub(crate) fn check(&mut self, holds: bool, field: &str, description: impl FnOnce() -> String) {
        if !holds {
            self.add(field, description());
        }
    }

    pub(crate) fn into_result(self) -> Result<()> {
        let Some(first) = self.0.first() else { return Ok(()) };
        let text = format!("{}: {}", first.field, first.description);
        Err(Error::invalid(text).with(Detail::BadRequest(self.0)))
    }
}

pub(crate) fn check_name(name: &str, faults: &mut Faults) {
    let ok = is_label(name) && name.len() <= 49;
    faults.check(ok, "metadata.name", || {
        "only lowercase, digits, and hyphens; must begin with letter, and cannot end with hyphen; must be less than 50 \
         characters"
            .into()
    });
}

fn check_template(place: &Place, template: &Template, faults: &mut Faults) {
    let own = format!("{}-", place.name);
    let revision = &template.revision;
    faults.check(revision.is_empty() || (revision.starts_with(&own) && is_label(revision) && revision.len() <= 63), "spec.template.metadata.name", || {
        format!("Revision name must be prefixed by the name of the enclosing Configuration or Service with trailing -: '{revision}'.")
    });
    match place.kind {
        Kind::Service => {
            check_requests(template, faults);
            check_containers(CONTAINERS, template, &RESERVED, faults);
        }
        Kind::WorkerPool => {
            containers::check_portless(CONTAINERS, &template.containers, faults);
            check_no_readiness(CONTAINERS, template, faults);
            check_containers(CONTAINERS, template, &RESERVED_FOR_POOLS, faults);
        }
    }
}

/// Refuses what is wrong about how requests are taken.
fn check_requests(template: &Template, faults: &mut Faults) {
    containers::check_port(CONTAINERS, &template.containers, faults);
    faults.check(
        (1..=MAX_TIMEOUT).contains(&template.timeout_seconds),
        "spec.template.spec.timeout_seconds",
        || format!("Timeout seconds must be between 1 and {MAX_TIMEOUT}."),
    );
    faults.check(
        (1..=MAX_CONCURRENCY).contains(&template.concurrency),
        "spec.template.spec.container_concurrency",
        || format!("container concurrency must be between 1 and {MAX_CONCURRENCY}."),
    );
    if let Some(scaling) = &template.scaling {
        let (min, max) = (scaling.min.unwrap_or(0), scaling.max.unwrap_or(DEFAULT_MAX_INSTANCES));
        faults.check(
            scaling.max != Some(0),
            "spec.template.metadata.annotations[autoscaling.knative.dev/maxScale]",
            || "The max instances must be greater than zero.".into(),
        );
        faults.check(
            min <= max,
            "spec.template.metadata.annotations[autoscaling.knative.dev/minScale]",
            || format!("The min instances ({min}) must not be greater than the max instances ({max})."),
        );
    }
}

/// Refuses what is wrong about containers and volumes, and variables that the platform sets. `path` is where the
/// containers are in the manifest.
pub(crate) fn check_containers(path: &str, template: &Template, reserved: &[&str], faults: &mut Faults) {
    volumes::check(template, faults);
    match template.containers.as_slice() {
        [] => faults.add(path, "should have exactly 1 container"),
        [_] => {}
        several => containers::check(path, several, faults),
    }
    for (index, container) in template.containers.iter().enumerate() {
        let path = format!("{path}[{index}]");
        check_container(&path, container, faults);
        check_reserved(&format!("{path}.env"), container, reserved, faults);
    }
    resources::check_instance(path, template, faults);
}

/// Gives containers without a name the one that Cloud Run gives them.
pub(crate) fn name_containers(template: &mut Template, service: &str) {
    containers::name(template, service);
}

fn check_container(path: &str, container: &Container, faults: &mut Faults) {
    let at = |field: &str| format!("{path}.{field}");
    faults.check(!container.image.is_empty(), &at("image"), || "must not be empty".into());
    faults.check(container.port <= 65535, &at("ports[0].container_port"), || {
        "must be between 1 and 65535".into()
    });
    faults.check(matches!(container.port_name.as_str(), "" | "http1" | "h2c"), &at("ports[0].name"), || {
        "must be one of: empty, http1 or h2c".into()
    });
    for (index, variable) in container.env.iter().enumerate() {
        let field = at(&format!("env[{index}].name"));
        faults.check(!variable.name.is_empty() && !variable.name.contains(['=', '\0']), &field, || {
            "must be a variable's name".into()
        });
    }
    resources::check_container(path, container, faults);
    probes::check(path, container, faults);
}

/// Refuses variables that the platform sets.
fn check_reserved(path: &str, container: &Container, reserved: &[&str], faults: &mut Faults) {
    let names = container.env.iter().map(|variable| variable.name.as_str());
    let taken: Vec<&str> = names.filter(|name| reserved.contains(name)).collect();
    faults.check(taken.is_empty(), path, || {
        format!(
            "The following reserved env names were provided: {}. These values are automatically set by the system.",
            taken.join(", ")
        )
    });
}

fn check_traffic(kind: Kind, desired: &Desired, faults: &mut Faults) {
    let sum: u32 = desired.traffic.iter().map(|target| target.percent).fold(0, u32::saturating_add);
    let (field, what) = match kind {
        Kind::Service => ("spec.traffic", "Traffic targets"),
        Kind::WorkerPool => ("spec.instance_splits", "Instance splits"),
    };
    faults.check(desired.traffic.is_empty() || sum == 100, field, || {
        format!("{what} must sum to 100; the given ones sum to {sum}.")
    });
    let mut tags: Vec<&str> =
        desired.traffic.iter().map(|target| target.tag.as_str()).filter(|tag| !tag.is_empty()).collect();
    faults.check(tags.iter().all(|tag| is_label(tag) && tag.len() <= 46), "spec.traffic.tag", || {
        "A tag uses lowercase letters, digits and hyphens and begins with a letter.".into()
    });
    tags.sort_unstable();
    faults.check(tags.windows(2).all(|pair| pair[0] != pair[1]), "spec.traffic.tag", || {
        "A tag can name only one revision.".into()
    });
}

/// The container that requests go to; a worker pool has none.
pub(crate) fn ingress_container(template: &Template) -> Option<&Container> {
    template.containers.iter().find(|container| container.port != 0)
}

/// The port that requests go to.
pub(crate) fn port(container: &Container) -> u16 {
    u16::try_from(container.port).ok().filter(|port| *port != 0).unwrap_or(DEFAULT_PORT)
}

/// A checked quantity of CPU in thousandths.
pub(crate) fn cpu(text: &str) -> u32 {
    resources::parse_cpu(text).unwrap_or(1000)
}

/// A checked quantity of memory in bytes.
pub(crate) fn memory(text: &str) -> u64 {
    resources::parse_memory(text).unwrap_or(512 * MIB)
}

pub(crate) fn is_label(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A random UUID, version 4.
pub(crate) fn new_uid() -> Result<String> {
    let mut bytes = random::<16>()?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex(&bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// The three letters at the end of a generated revision name.
pub(crate) fn suffix() -> Result<String> {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz";
    Ok(random::<3>()?.iter().map(|byte| LETTERS[usize::from(*byte) % LETTERS.len()] as char).collect())
}

/// The id of an instance, as long as Cloud Run's.
pub(crate) fn instance_id() -> Result<String> {
    Ok(hex(&random::<32>()?))
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::unavailable("The machine gives no random numbers."))?;
    Ok(bytes)
}

/// Bytes as digits, two each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrency_follows_the_number_of_processors() {
        let container = |cpu: &str| Container { image: "i".into(), cpu: cpu.into(), ..Container::default() };
        for (cpu, concurrency) in [("", 80), ("1", 80), ("2", 160), ("500m", 80), ("8", 640)] {
            let mut template = Template { containers: vec![container(cpu)], ..Template::default() };
            complete(Kind::Service, &mut template, 7);
            assert_eq!(template.concurrency, concurrency, "{cpu}");
            assert_eq!(template.service_account, "7-compute@developer.gserviceaccount.com");
        }
    }

    fn place(kind: Kind) -> Place {
        Place { kind, project: "p".into(), region: "us-central1".into(), name: "tide".into() }
    }

    #[test]
    fn a_worker_pool_has_no_requests_and_all_its_cpu() {
        let mut template = Template {
            containers: vec![Container { image: "i".into(), cpu_idle: true, ..Container::default() }],
            concurrency: 80,
            timeout_seconds: 300,
            ..Template::default()
        };
        complete(Kind::WorkerPool, &mut template, 7);
        let container = &template.containers[0];
        assert_eq!((template.concurrency, template.timeout_seconds, container.port), (0, 0, 0));
        assert!(!container.cpu_idle && template.scaling.is_none() && ingress_container(&template).is_none());
        let check = |template: &Template| {
            check(&place(Kind::WorkerPool), &Desired { template: template.clone(), ..Desired::default() })
        };
        check(&template).unwrap();
        let refuse = |spoil: fn(&mut Template), what: &str| {
            let mut template = template.clone();
            spoil(&mut template);
            let error = check(&template).unwrap_err();
            assert!(error.message().contains(what), "{error:?}");
        };
        refuse(|t| t.containers[0].port = 8080, "must not expose a port");
        refuse(|t| t.containers[0].memory = "256Mi".into(), "512Mi");
        refuse(|t| t.containers[0].cpu = "500m".into(), "Total cpu < 1");
        let variable = |name: &str| crate::record::EnvVar { name: name.into(), source: None };
        let mut taken = template.clone();
        taken.containers[0].env.push(variable("PORT"));
        check(&taken).unwrap();
        taken.containers[0].env.push(variable("CLOUD_RUN_WORKER_POOL"));
        let error = check(&taken).unwrap_err();
        assert!(error.message().contains("env names were provided: CLOUD_RUN_WORKER_POOL."), "{error:?}");
    }

    #[test]
    fn what_cloud_run_refuses_is_refused() {
        let place = place(Kind::Service);
        let good = || {
            let mut template = Template {
                containers: vec![Container { image: "i".into(), ..Container::default() }],
                ..Template::default()
            };
            complete(Kind::Service, &mut template, 7);
            Desired { template, ..Desired::default() }
        };
        assert!(check(&place, &good()).is_ok());
        assert!(check(&Place { region: "moon-east1".into(), ..place.clone() }, &good()).is_err());
        assert!(check(&Place { name: "Tide".into(), ..place.clone() }, &good()).is_err());
        let refuse = |spoil: fn(&mut Desired), what: &str| {
            let mut desired = good();
            spoil(&mut desired);
            let error = check(&place, &desired).unwrap_err();
            assert!(error.message().contains(what), "{error:?}");
        };
        refuse(|d| d.template.containers[0].memory = "64Mi".into(), "memory must be between 128Mi");
        refuse(|d| d.template.containers[0].cpu = "3".into(), "cpu");
        refuse(
            |d| (d.template.containers[0].cpu, d.template.containers[0].memory) = ("8".into(), "1Gi".into()),
            "between 4Gi",
        );
        refuse(|d| d.template.timeout_seconds = 3601, "Timeout");
        refuse(|d| d.template.concurrency = 1001, "concurrency");
        refuse(|d| d.template.revision = "other-1".into(), "prefixed");
        refuse(|d| d.template.containers.clear(), "exactly 1 container");
        refuse(
            |d| d.traffic = vec![crate::record::Traffic { percent: 99, ..Default::default() }],
            "sum to 100",
        );
    }
}
