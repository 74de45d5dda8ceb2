//! What Cloud Run has and this version of haar has not: refused by its name, for a setting that is dropped, or kept and
//! shown as if it was obeyed, is found out in production.
//!
//! The refusals are `INVALID_ARGUMENT`, which `gcloud` shows as they are: what it is told with `UNIMPLEMENTED` it blames
//! on the network. Settings that ask for what is so anyway (`false`, nothing) pass.

use std::collections::BTreeMap;

use apis::google::{cloud::run::v2, discovery::run::v1 as knative};
use kernel::{Error, Result};

const VPC: &str = "VPC access is not served here yet: a workload reaches what the machine reaches";
const KEYS: &str = "Customer-managed encryption keys are not served here yet";
const GPUS: &str = "GPUs are not served here";
const MESHES: &str = "Service meshes are not served here";
const IAP: &str = "Identity-Aware Proxy is not served here yet: who may call is the invoker role's to say";
const HEALTH: &str = "A revision takes traffic here only when it is healthy";
const SANDBOXES: &str = "Sandboxes within an instance are not served here";
const BUILDS: &str = "Builds of a service's source are not served here yet";
const REGIONS: &str = "Services in several regions at once are not served here";

/// What is asked for, by the name of its field, and why it is refused.
type Asked<'a> = (&'a str, bool, &'static str);

/// Refuses the first of these that is asked for.
fn refuse<const N: usize>(asked: [Asked<'_>; N]) -> Result<()> {
    match asked.into_iter().find(|(_, is_asked, _)| *is_asked) {
        Some((field, _, why)) => Err(Error::bad_field(field, format!("{why}; remove {field}."))),
        None => Ok(()),
    }
}

/// Whether an annotation asks for something.
fn says(annotations: &BTreeMap<String, String>, key: &str) -> bool {
    annotations.get(key).is_some_and(|value| !value.is_empty() && !value.eq_ignore_ascii_case("false"))
}

/// What a manifest says of the service.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the annotation.
pub(super) fn in_manifest(annotations: &BTreeMap<String, String>) -> Result<()> {
    let key = "run.googleapis.com/iap-enabled";
    refuse([(key, says(annotations, key), IAP)])
}

/// What a manifest says of instances: of services, jobs and worker pools.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the annotation or the field.
pub(super) fn in_manifests_template(
    annotations: &BTreeMap<String, String>,
    spec: &knative::RevisionSpec,
) -> Result<()> {
    let annotation = |key: &'static str, why| (key, says(annotations, key), why);
    refuse([
        annotation("run.googleapis.com/vpc-access-connector", VPC),
        annotation("run.googleapis.com/network-interfaces", VPC),
        annotation("run.googleapis.com/encryption-key", KEYS),
        annotation("run.googleapis.com/mesh", MESHES),
        annotation("run.googleapis.com/health-check-disabled", HEALTH),
        ("nodeSelector", !spec.node_selector.is_empty(), GPUS),
        ("runtimeClassName", spec.runtime_class_name.is_some(), SANDBOXES),
        ("sandboxes", spec.sandboxes.is_some(), SANDBOXES),
    ])?;
    spec.containers.iter().try_for_each(|container| {
        limits(container.resources.iter().flat_map(|resources| resources.limits.keys()))?;
        refuse([("sandboxLauncher", container.sandbox_launcher == Some(true), SANDBOXES)])
    })
}

/// What a service's message says beside its template.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field.
pub(super) fn in_service(service: &v2::Service) -> Result<()> {
    refuse([
        ("iap_enabled", service.iap_enabled, IAP),
        ("multi_region_settings", service.multi_region_settings.is_some(), REGIONS),
        ("build_config", service.build_config.is_some(), BUILDS),
    ])
}

/// What a revision's template says: of services, jobs and worker pools.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field.
pub(super) fn in_template(template: &v2::RevisionTemplate) -> Result<()> {
    refuse([
        ("template.vpc_access", template.vpc_access.is_some(), VPC),
        ("template.encryption_key", !template.encryption_key.is_empty(), KEYS),
        ("template.service_mesh", template.service_mesh.is_some(), MESHES),
        ("template.health_check_disabled", template.health_check_disabled, HEALTH),
        ("template.node_selector", template.node_selector.is_some(), GPUS),
    ])?;
    template.containers.iter().try_for_each(|container| {
        limits(container.resources.iter().flat_map(|resources| resources.limits.keys()))?;
        refuse([("source_code", container.source_code.is_some(), BUILDS)])
    })
}

/// What else than CPU and memory a container wants of the machine.
fn limits<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<()> {
    match names.find(|name| !matches!(name.as_str(), "cpu" | "memory")) {
        Some(name) if name == "nvidia.com/gpu" => refuse([("resources.limits[nvidia.com/gpu]", true, GPUS)]),
        Some(name) => {
            let field = format!("resources.limits[{name}]");
            let why = format!("{field}: only cpu and memory can be limited.");
            Err(Error::bad_field(field, why))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template_with(key: &str, value: &str) -> Result<()> {
        let annotations = [(key.to_owned(), value.to_owned())].into();
        in_manifests_template(&annotations, &knative::RevisionSpec::default())
    }

    #[test]
    fn what_is_refused_is_named() {
        for (key, value) in [
            ("run.googleapis.com/vpc-access-connector", "tides"),
            ("run.googleapis.com/network-interfaces", "[{}]"),
            ("run.googleapis.com/encryption-key", "projects/p/locations/l/keyRings/r/cryptoKeys/k"),
            ("run.googleapis.com/mesh", "projects/p/locations/global/meshes/m"),
            ("run.googleapis.com/health-check-disabled", "True"),
        ] {
            let error = template_with(key, value).expect_err(key);
            assert!(error.message().ends_with(&format!("; remove {key}.")), "{error:?}");
            template_with(key, "").expect("nothing is asked for");
        }
        template_with("run.googleapis.com/health-check-disabled", "False").expect("it is so");
        in_manifest(&[("run.googleapis.com/iap-enabled".to_owned(), "true".to_owned())].into())
            .expect_err("nobody would be asked who they are");
    }

    #[test]
    fn only_cpu_and_memory_are_limited() {
        let all = ["cpu", "memory"].map(str::to_owned);
        limits(all.iter()).expect("both are served");
        let gpu = limits([String::from("nvidia.com/gpu")].iter()).expect_err("no GPUs");
        assert!(gpu.message().starts_with(GPUS), "{gpu:?}");
        let other = limits([String::from("ephemeral-storage")].iter()).expect_err("not known");
        assert!(other.message().contains("only cpu and memory"), "{other:?}");
    }
}
