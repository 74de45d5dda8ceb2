//! What Google answers for an API that was not enabled in a project.

use crate::{Error, error::Detail, ports::Project, services};

/// `PERMISSION_DENIED` with the reason `SERVICE_DISABLED`, and where the API would be enabled.
pub fn service_disabled(service: &'static str, project: &Project) -> Error {
    let number = project.number;
    let title = services::find(service).map_or(service, |known| known.title);
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
