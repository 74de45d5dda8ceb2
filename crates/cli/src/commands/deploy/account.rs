//! The service account that a service with a database runs as: one of its own, with what it needs and nothing more.

use serde_json::json;

use super::{google::Google, wanted::Wanted};
use crate::report::Result;

/// What service account ids are long, at most and at least.
const LONGEST: usize = 30;
const SHORTEST: usize = 6;

/// Makes sure that the account exists; gives its address and whether it is new.
pub fn ensure(google: &Google<'_>, wanted: &Wanted) -> Result<(String, bool)> {
    let id = id_for(&wanted.name);
    let url = format!("iam.googleapis.com/v1/projects/{}/serviceAccounts", google.project);
    let email = format!("{id}@{}.iam.gserviceaccount.com", google.project);
    if google.find(&format!("{url}/{email}"))?.is_some() {
        return Ok((email, false));
    }
    let account = json!({ "displayName": format!("Cloud Run service {}", wanted.name) });
    google.call("POST", &url, Some(json!({ "accountId": id, "serviceAccount": account })))?;
    Ok((email, true))
}

/// The service's own name, made as long and as short as ids must be.
fn id_for(service: &str) -> String {
    let mut id = service.to_owned();
    if id.len() < SHORTEST {
        id.push_str("-run");
    }
    while id.len() < SHORTEST {
        id.push('0');
    }
    id.truncate(LONGEST);
    id.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_service_accounts() {
        for (service, id) in [("harbour-log", "harbour-log"), ("tide", "tide-run"), ("a", "a-run0")] {
            assert_eq!(id_for(service), id);
        }
        let long = id_for("a-service-whose-name-is-longer-than-an-id");
        assert!(long.len() <= LONGEST && !long.ends_with('-'), "{long}");
    }
}
