//! What Google answers for an API that was not enabled in a project.

use crate::{Error, error::Detail, ports::Project};

/// `PERMISSION_DENIED` with the reason `SERVICE_DISABLED`, and where the API would be enabled.
pub fn service_disabled(service: &'static str, project: &Project) -> Error {
    let number = project.number;
    let title = title(service);
    let url = format!("https://console.developers.google.com/apis/api/{service}/overview?project={number}");
    let message = format!(
        "{title} has not been used in project {number} before or it is disabled. Enable it by visiting {url} then \
         retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems \
         and retry."
    );
    let metadata = vec![
        ("service", service.to_owned()),
        ("serviceTitle", title.to_owned()),
        ("consumer", format!("projects/{number}")),
        ("containerInfo", number.to_string()),
        ("activationUrl", url.clone()),
    ];
    Error::denied(message.clone())
        .with(Detail::Info { reason: "SERVICE_DISABLED", domain: "googleapis.com", metadata })
        .with(Detail::Localized(message))
        .with(Detail::Help(vec![("Google developers console API activation".to_owned(), url)]))
}

/// The name of an API for people, as its interface definition has it.
fn title(service: &'static str) -> &'static str {
    match service {
        "artifactregistry.googleapis.com" => "Artifact Registry API",
        "cloudbuild.googleapis.com" => "Cloud Build API",
        "cloudresourcemanager.googleapis.com" => "Cloud Resource Manager API",
        "iam.googleapis.com" => "Identity and Access Management (IAM) API",
        "iamcredentials.googleapis.com" => "IAM Service Account Credentials API",
        "logging.googleapis.com" => "Cloud Logging API",
        "monitoring.googleapis.com" => "Cloud Monitoring API",
        "run.googleapis.com" => "Cloud Run Admin API",
        "secretmanager.googleapis.com" => "Secret Manager API",
        "serviceusage.googleapis.com" => "Service Usage API",
        "sqladmin.googleapis.com" => "Cloud SQL Admin API",
        "storage.googleapis.com" => "Cloud Storage API",
        other => other,
    }
}
