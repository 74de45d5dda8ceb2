//! Google's services: what each is called. One list, for those that a project can enable and for what people are told
//! when one is not.
//!
//! Enabled says what it says on Google: calls are not refused for want of it. Whether haar serves a method is
//! another matter, and is answered by the method.

use crate::regions::is_region;

/// A service, by its name and its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, such as `run.googleapis.com`.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
}

const fn service(name: &'static str, title: &'static str) -> Service {
    Service { name, title }
}

/// All of them, by name.
pub const ALL: &[Service] = &[
    service("artifactregistry.googleapis.com", "Artifact Registry API"),
    service("cloudapis.googleapis.com", "Google Cloud APIs"),
    service("cloudbuild.googleapis.com", "Cloud Build API"),
    service("cloudidentity.googleapis.com", "Cloud Identity API"),
    service("cloudresourcemanager.googleapis.com", "Cloud Resource Manager API"),
    service("cloudscheduler.googleapis.com", "Cloud Scheduler API"),
    service("cloudtasks.googleapis.com", "Cloud Tasks API"),
    service("cloudtrace.googleapis.com", "Cloud Trace API"),
    service("compute.googleapis.com", "Compute Engine API"),
    service("containerregistry.googleapis.com", "Container Registry API"),
    service("dns.googleapis.com", "Cloud DNS API"),
    service("eventarc.googleapis.com", "Eventarc API"),
    service("firestore.googleapis.com", "Cloud Firestore API"),
    service("iam.googleapis.com", "Identity and Access Management (IAM) API"),
    service("iamcredentials.googleapis.com", "IAM Service Account Credentials API"),
    service("logging.googleapis.com", "Cloud Logging API"),
    service("monitoring.googleapis.com", "Cloud Monitoring API"),
    service("orgpolicy.googleapis.com", "Organization Policy API"),
    service("policytroubleshooter.googleapis.com", "Policy Troubleshooter API"),
    service("pubsub.googleapis.com", "Cloud Pub/Sub API"),
    service("redis.googleapis.com", "Google Cloud Memorystore for Redis API"),
    service("run.googleapis.com", "Cloud Run Admin API"),
    service("secretmanager.googleapis.com", "Secret Manager API"),
    service("servicenetworking.googleapis.com", "Service Networking API"),
    service("serviceusage.googleapis.com", "Service Usage API"),
    service("sql-component.googleapis.com", "Cloud SQL"),
    service("sqladmin.googleapis.com", "Cloud SQL Admin API"),
    service("storage-api.googleapis.com", "Google Cloud Storage JSON API"),
    service("storage-component.googleapis.com", "Cloud Storage"),
    service("storage.googleapis.com", "Cloud Storage API"),
    service("sts.googleapis.com", "Security Token Service API"),
    service("vpcaccess.googleapis.com", "Serverless VPC Access API"),
];

/// The service of this name; `None` for one that is not known here.
pub fn find(name: &str) -> Option<Service> {
    ALL.binary_search_by(|service| service.name.cmp(name)).ok().map(|at| ALL[at])
}

/// What Google's hosts end with.
pub const DOMAIN: &str = ".googleapis.com";

/// The service behind a host, and the region that the host names; `None` where the host alone does not say.
pub fn of_host(host: &str) -> Option<(Service, Option<&str>)> {
    at_host(host, |label| {
        ALL.iter().find(|service| service.name.strip_suffix(DOMAIN) == Some(label)).copied()
    })
}

/// The same among other services, which are found by what stands before [`DOMAIN`] in their names. The host is in
/// lowercase and without a port.
///
/// A service has one host of its own and several more: with a region before it (`us-central1-run.googleapis.com`) or
/// within it (`secretmanager.us-central1.rep.googleapis.com`), `content-` for browsers, `mtls` for client certificates.
pub fn at_host<T>(host: &str, find: impl Fn(&str) -> Option<T>) -> Option<(T, Option<&str>)> {
    let label = host.strip_suffix(DOMAIN)?;
    let label = label.strip_prefix("content-").unwrap_or(label);
    let label = label.strip_suffix(".mtls").unwrap_or(label);
    if let Some(found) = find(label) {
        return Some((found, None));
    }
    let at = |name: &str, place| Some((find(name).filter(|_| is_place(place))?, Some(place)));
    if let Some((name, place)) = label.strip_suffix(".rep").and_then(|rest| rest.split_once('.')) {
        return at(name, place);
    }
    label.match_indices('-').find_map(|(dash, _)| at(&label[dash + 1..], &label[..dash]))
}

/// Whether hosts are named after it: a region or several.
fn is_place(text: &str) -> bool {
    is_region(text) || matches!(text, "us" | "eu" | "asia" | "global")
}

/// Whether a host is only the name that the methods of all services (operations, locations, policies) have in common.
pub fn is_shared(host: &str) -> bool {
    matches!(host, "" | "longrunning.googleapis.com" | "cloud.googleapis.com" | "iam-meta-api.googleapis.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_in_order_and_found() {
        assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert_eq!(find("run.googleapis.com").map(|service| service.title), Some("Cloud Run Admin API"));
        assert_eq!(find("nothing.googleapis.com"), None);
    }

    #[test]
    fn a_service_has_several_hosts() {
        let of = |host| of_host(host).map(|(service, region)| (service.name, region));
        let run = |region| Some(("run.googleapis.com", region));
        assert_eq!(of("run.googleapis.com"), run(None));
        assert_eq!(of("content-run.googleapis.com"), run(None));
        assert_eq!(of("content-run.mtls.googleapis.com"), run(None));
        assert_eq!(of("us-central1-run.googleapis.com"), run(Some("us-central1")));
        assert_eq!(of("run.europe-west1.rep.googleapis.com"), run(Some("europe-west1")));
        assert_eq!(of("us-run.googleapis.com"), run(Some("us")));
        assert_eq!(of("storage-api.googleapis.com"), Some(("storage-api.googleapis.com", None)));
        for none in [
            "evilrun.googleapis.com",
            "atlantis1-run.googleapis.com",
            "run.atlantis1.rep.googleapis.com",
            "run.googleapis.com.evil.com",
            "www.googleapis.com",
            "-.googleapis.com",
            ".googleapis.com",
            "127.0.0.1",
            "",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_host_makes_it_panic(host in "\\PC{0,40}(\\.rep)?(\\.googleapis\\.com)?") {
            let _ = of_host(&host);
        }
    }
}
