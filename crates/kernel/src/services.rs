//! Google's services: what each is called. One list, for those that a project can enable and for what people are told
//! when one is not.
//!
//! Enabled says what it says on Google: calls are not refused for want of it. Whether haar serves a method is
//! another matter, and is answered by the method.

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
}
