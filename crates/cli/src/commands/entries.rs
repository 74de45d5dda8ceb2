//! What Cloud Logging has, read and shown a line an entry.

use serde_json::{Value, json};

use super::deploy::google::Google;
use crate::report::Result;

/// The newest entries that match a filter, the newest first.
pub fn newest(google: &Google<'_>, filter: &str, most: u32) -> Result<Vec<Value>> {
    let body = json!({
        "resourceNames": [format!("projects/{}", google.project)],
        "filter": filter,
        "orderBy": "timestamp desc",
        "pageSize": most,
    });
    let listed = google.call("POST", "logging.googleapis.com/v2/entries:list", Some(body))?;
    Ok(listed["entries"].as_array().cloned().unwrap_or_default())
}

/// What an entry says, as one line: what was written, the message of a structured one, a request, or who called what.
pub fn text(entry: &Value) -> String {
    if let Some(text) = entry["textPayload"].as_str() {
        return text.to_owned();
    }
    if let Some(request) = entry["httpRequest"].as_object() {
        let part =
            |name: &str| request.get(name).map_or(String::new(), |value| value.to_string().replace('"', ""));
        return format!(
            "{} {} {} {}",
            part("requestMethod"),
            part("requestUrl"),
            part("status"),
            part("latency")
        );
    }
    if let Some(method) = entry["protoPayload"]["methodName"].as_str() {
        let audit = &entry["protoPayload"];
        let who = audit["authenticationInfo"]["principalEmail"].as_str().unwrap_or("somebody");
        let outcome = audit["status"]["message"].as_str().map_or(String::new(), |why| format!(": {why}"));
        return format!("{who} called {method}{outcome}");
    }
    let payload = &entry["jsonPayload"];
    payload["message"].as_str().map_or_else(|| payload.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entry_is_a_line() {
        let audit = |status: Value| {
            let who = json!({ "principalEmail": "a@b" });
            let call =
                json!({ "authenticationInfo": who, "methodName": "Services.Delete", "status": status });
            text(&json!({ "protoPayload": call }))
        };
        assert_eq!(audit(json!({})), "a@b called Services.Delete");
        assert_eq!(audit(json!({ "code": 7, "message": "denied" })), "a@b called Services.Delete: denied");
        assert_eq!(text(&json!({ "textPayload": "tide" })), "tide");
        assert_eq!(text(&json!({ "jsonPayload": { "message": "high", "n": 1 } })), "high");
        assert_eq!(text(&json!({ "jsonPayload": { "n": 1 } })), r#"{"n":1}"#);
        let request =
            json!({ "requestMethod": "GET", "requestUrl": "http://x/", "status": 200, "latency": "1s" });
        assert_eq!(text(&json!({ "httpRequest": request })), "GET http://x/ 200 1s");
    }
}
