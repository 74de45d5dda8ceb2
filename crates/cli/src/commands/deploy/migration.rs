//! A database's migrations, run once, as a job with the new image, before any traffic reaches it.

use serde_json::{Value, json};

use super::{
    google::{Google, Refusal},
    wanted::Wanted,
};
use crate::report::Result;

/// How long migrations may take.
const TIME: &str = "600s";
/// How many lines of a failed migration are shown.
const LAST_LINES: u32 = 60;

/// The job's name, which is at most as long as a job's may be.
fn job(wanted: &Wanted) -> String {
    let suffix = "-migrate";
    let room = 49 - suffix.len();
    let service: String = wanted.name.chars().take(room).collect();
    format!("{}{suffix}", service.trim_end_matches('-'))
}

/// Runs them: `template` is the new revision's, `command` what the build said migrates.
pub fn run(
    google: &Google<'_>,
    wanted: &Wanted,
    template: &Value,
    command: &[String],
) -> Result<Result<(), Refusal>> {
    let job = job(wanted);
    let all = format!("{}/v2/{}/jobs", wanted.host(), wanted.parent(&google.project));
    let this = format!("{all}/{job}");
    let body = job_of(template, command);
    let made = match google.find(&this)? {
        Some(_) => google.ask("PATCH", &this, Some(body))?,
        None => google.ask("POST", &format!("{all}?jobId={job}"), Some(body))?,
    };
    let started = match made {
        Ok(operation) => match google.finish_run(&wanted.host(), operation)? {
            Ok(_) => google.ask("POST", &format!("{this}:run"), Some(json!({})))?,
            Err(refusal) => return Ok(Err(refusal)),
        },
        Err(refusal) => return Ok(Err(refusal)),
    };
    match started {
        Ok(operation) => Ok(google.finish_run(&wanted.host(), operation)?.map(|_| ())),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// One task, tried once, that is like an instance of the revision but for what it runs.
fn job_of(template: &Value, command: &[String]) -> Value {
    let from = &template["containers"][0];
    let mut container = json!({ "image": from["image"], "command": command });
    for field in ["env", "volumeMounts", "workingDir"] {
        if !from[field].is_null() {
            container[field] = from[field].clone();
        }
    }
    let mut task = json!({ "containers": [container], "maxRetries": 0, "timeout": TIME });
    for field in ["volumes", "serviceAccount"] {
        if !template[field].is_null() {
            task[field] = template[field].clone();
        }
    }
    json!({ "template": { "taskCount": 1, "template": task } })
}

/// What they said last.
pub fn last_words(google: &Google<'_>, wanted: &Wanted) -> Vec<String> {
    let filter = format!("resource.type=\"cloud_run_job\" AND resource.labels.job_name=\"{}\"", job(wanted));
    google.last_lines(&filter, LAST_LINES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_after_its_service() {
        let of = |name: &str| {
            job(&Wanted { directory: "/".into(), name: name.into(), region: "us-central1".into() })
        };
        assert_eq!(of("tide"), "tide-migrate");
        assert_eq!(of(&"t".repeat(49)).len(), 49);
    }

    #[test]
    fn a_task_sees_what_the_revision_sees() {
        let template = json!({
            "serviceAccount": "a@b",
            "volumes": [{ "name": "cloudsql" }],
            "containers": [{ "image": "i", "env": [{ "name": "A", "value": "b" }], "resources": {} }],
        });
        let job = job_of(&template, &["python3".into(), "manage.py".into()]);
        let task = &job["template"]["template"];
        assert_eq!(task["serviceAccount"], "a@b");
        assert_eq!(task["containers"][0]["env"][0]["name"], "A");
        assert_eq!(task["containers"][0]["command"][1], "manage.py");
        assert_eq!(task["maxRetries"], 0);
    }
}
