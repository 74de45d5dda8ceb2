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
    let written = entry["textPayload"].as_str();
    if entry["httpRequest"].is_object() {
        // What is said of a request goes with it.
        let remark = written.map_or(String::new(), |text| format!("  {text}"));
        return format!("{}{remark}", request(&entry["httpRequest"]));
    }
    if let Some(text) = written {
        return text.to_owned();
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

/// A request without its host, which all of a service's share.
fn request(request: &Value) -> String {
    let url = request["requestUrl"].as_str().unwrap_or_default();
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let path = rest.find('/').map_or("/", |slash| &rest[slash..]);
    let latency = request["latency"].as_str().and_then(|text| text.strip_suffix('s')?.parse().ok());
    let latency: f64 = latency.unwrap_or_default();
    let method = request["requestMethod"].as_str().unwrap_or_default();
    format!("{method} {path} {} {:.0} ms", request["status"], latency * 1e3)
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
        let request = json!({
            "requestMethod": "GET", "requestUrl": "http://x:1/a/b?c=/d", "status": 503, "latency": "1.0464s",
        });
        assert_eq!(text(&json!({ "httpRequest": request })), "GET /a/b?c=/d 503 1046 ms");
        let both = json!({ "httpRequest": request, "textPayload": "It broke." });
        assert_eq!(text(&both), "GET /a/b?c=/d 503 1046 ms  It broke.");
    }
}
