//! The service of a deploy: found, changed as little as can be, and watched until it serves.

use serde_json::{Value, json};

use super::{
    database::Database,
    google::{Google, Refusal},
    wanted::Wanted,
};
use crate::report::{Result, Trouble};

/// Where a service notes which folder it was deployed from.
const SOURCE: &str = "haar.dev/source";
/// The volume with the sockets of databases.
const SOCKETS: &str = "cloudsql";
/// How many of a failed revision's last lines are shown.
const LAST_LINES: u32 = 30;

/// What a revision shall have beyond its image.
#[derive(Debug, Default)]
pub struct Extras<'a> {
    /// Whom it runs as, if that is said.
    pub account: Option<&'a str>,
    /// Variables that were given, as `NAME=VALUE`.
    pub variables: &'a [(String, String)],
    /// Its database.
    pub database: Option<&'a Database>,
}

/// Who may call the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Anybody who reaches it.
    Everybody,
    /// Those with `roles/run.invoker`.
    Invited,
}

/// The service as it is, if it is.
///
/// # Errors
/// When there is no such region: a service that is missing does not tell.
pub fn find(google: &Google<'_>, wanted: &Wanted) -> Result<Option<Value>> {
    match google.find(&url(google, wanted)) {
        Ok(Some(service)) => Ok(Some(service)),
        // The API of a region that there is not is not served at all.
        missing => check_region(google, &wanted.region).and(missing),
    }
}

fn check_region(google: &Google<'_>, region: &str) -> Result<()> {
    let all = format!("run.googleapis.com/v1/projects/{}/locations", google.project);
    let known = google.call("GET", &all, None)?;
    if known["locations"].as_array().into_iter().flatten().any(|known| known["locationId"] == region) {
        return Ok(());
    }
    Err(Trouble::new(format!("Cloud Run has no region '{region}'"))
        .next(format!("choose another with --region; all of them: haar api GET {all}")))
}

/// The revision that serves, if one ever did.
pub fn serving(service: &Value) -> Option<&str> {
    let revision = service["latestReadyRevision"].as_str().filter(|name| !name.is_empty())?;
    revision.rsplit('/').next()
}

fn url(google: &Google<'_>, wanted: &Wanted) -> String {
    format!("{}/v2/{}/services/{}", wanted.host(), wanted.parent(&google.project), wanted.name)
}

/// Refuses to replace what another folder, or somebody by other means, deployed.
pub fn check_is_ours(service: &Value, wanted: &Wanted) -> Result<()> {
    let next = "choose another name with --name, or make this its next revision with --replace";
    match service["annotations"][SOURCE].as_str() {
        Some(source) if source == wanted.directory.to_string_lossy() => Ok(()),
        Some(source) => {
            Err(Trouble::new(format!("service {} was deployed from {source}", wanted.name)).next(next))
        }
        None => Err(Trouble::new(format!(
            "there is a service {} already, and it was not deployed from a folder",
            wanted.name
        ))
        .next(next)),
    }
}

/// Whether a service has a database's socket.
pub fn has_database(service: &Value) -> bool {
    let volumes = service["template"]["volumes"].as_array();
    volumes.into_iter().flatten().any(|volume| !volume["cloudSqlInstance"].is_null())
}

/// What the next revision is made of: the one before, with this image and these extras.
pub fn template(before: Option<&Value>, image: &str, extras: &Extras<'_>) -> Value {
    let mut template = before.map_or_else(|| json!({}), |service| service["template"].clone());
    if let Some(fields) = template.as_object_mut() {
        // A name belongs to one revision.
        fields.remove("revision");
    }
    if let Some(account) = extras.account {
        template["serviceAccount"] = account.into();
    }
    if !template["containers"].is_array() {
        template["containers"] = json!([{}]);
    }
    if let Some(database) = extras.database {
        add_sockets(&mut template, &database.connection_name);
    }
    let container = &mut template["containers"][0];
    container["image"] = image.into();
    for (name, value) in extras.variables {
        set_variable(container, json!({ "name": name, "value": value }));
    }
    for variable in extras.database.map(Database::variables).unwrap_or_default() {
        set_variable(container, variable);
    }
    template
}

fn set_variable(container: &mut Value, variable: Value) {
    let mut all = container["env"].as_array().cloned().unwrap_or_default();
    match all.iter_mut().find(|known| known["name"] == variable["name"]) {
        Some(known) => *known = variable,
        None => all.push(variable),
    }
    container["env"] = all.into();
}

fn add_sockets(template: &mut Value, connection_name: &str) {
    let mut volumes = template["volumes"].as_array().cloned().unwrap_or_default();
    let of_databases = |volume: &&mut Value| !volume["cloudSqlInstance"].is_null();
    let name = match volumes.iter_mut().find(of_databases) {
        Some(volume) => {
            let mut instances =
                volume["cloudSqlInstance"]["instances"].as_array().cloned().unwrap_or_default();
            if !instances.iter().any(|known| known == connection_name) {
                instances.push(connection_name.into());
            }
            volume["cloudSqlInstance"]["instances"] = instances.into();
            volume["name"].clone()
        }
        None => {
            volumes.push(json!({ "name": SOCKETS, "cloudSqlInstance": { "instances": [connection_name] } }));
            json!(SOCKETS)
        }
    };
    template["volumes"] = volumes.into();
    let container = &mut template["containers"][0];
    let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
    if !mounts.iter().any(|mount| mount["name"] == name) {
        mounts.push(json!({ "name": name, "mountPath": "/cloudsql" }));
    }
    container["volumeMounts"] = mounts.into();
}

/// Begins to deploy a revision; gives the operation. A revision that cannot serve leaves the one before in its place.
pub fn begin(
    google: &Google<'_>,
    wanted: &Wanted,
    before: Option<&Value>,
    template: Value,
) -> Result<Result<Value, Refusal>> {
    let mut annotations =
        before.and_then(|service| service["annotations"].as_object().cloned()).unwrap_or_default();
    annotations.insert(SOURCE.into(), wanted.directory.to_string_lossy().into());
    let body = json!({ "template": template, "annotations": annotations });
    match before {
        Some(_) => {
            let change = format!("{}?updateMask=template,annotations", url(google, wanted));
            google.ask("PATCH", &change, Some(body))
        }
        None => {
            let parent = wanted.parent(&google.project);
            let all = format!("{}/v2/{parent}/services?serviceId={}", wanted.host(), wanted.name);
            google.ask("POST", &all, Some(body))
        }
    }
}

/// Lets everybody call it.
pub fn open(google: &Google<'_>, wanted: &Wanted) -> Result<bool> {
    google.grant(&url(google, wanted), "roles/run.invoker", "allUsers")
}

/// What the newest revision said last.
pub fn last_words(google: &Google<'_>, wanted: &Wanted) -> Vec<String> {
    let Ok(Some(service)) = find(google, wanted) else { return Vec::new() };
    let revision = service["latestCreatedRevision"].as_str().unwrap_or_default();
    let revision = revision.rsplit('/').next().unwrap_or_default();
    let filter = format!(
        "resource.type=\"cloud_run_revision\" AND resource.labels.revision_name=\"{revision}\" \
         AND -logName:\"requests\""
    );
    google.last_lines(&filter, LAST_LINES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Database {
        Database {
            connection_name: "p:r:i".into(),
            name: "app".into(),
            user: "app".into(),
            secrets: ["app-db-password".into(), "app-database-url".into()],
            made: Vec::new(),
        }
    }

    #[test]
    fn a_first_revision_has_what_it_needs() {
        let database = database();
        let extras = Extras { account: Some("a@b"), database: Some(&database), ..Extras::default() };
        let template = template(None, "image@sha256:1", &extras);
        assert_eq!(template["serviceAccount"], "a@b");
        assert_eq!(template["volumes"][0]["cloudSqlInstance"]["instances"], json!(["p:r:i"]));
        let container = &template["containers"][0];
        assert_eq!(container["image"], "image@sha256:1");
        assert_eq!(container["volumeMounts"], json!([{ "name": "cloudsql", "mountPath": "/cloudsql" }]));
        assert_eq!(container["env"][0]["valueSource"]["secretKeyRef"]["secret"], "app-database-url");
    }

    #[test]
    fn the_next_revision_keeps_what_people_changed() {
        let database = database();
        let extras = Extras { database: Some(&database), ..Extras::default() };
        let mut first = template(None, "one", &extras);
        first["revision"] = "app-00001-abc".into();
        first["containers"][0]["resources"] = json!({ "limits": { "memory": "1Gi" } });
        let service = json!({ "template": first });
        let variables = [("LOG_LEVEL".to_owned(), "DEBUG".to_owned())];
        let second = template(Some(&service), "two", &Extras { variables: &variables, ..extras });
        assert_eq!(second["revision"], Value::Null);
        assert_eq!(second["containers"][0]["image"], "two");
        assert_eq!(second["containers"][0]["resources"]["limits"]["memory"], "1Gi");
        assert_eq!(second["volumes"].as_array().unwrap().len(), 1);
        let env = second["containers"][0]["env"].as_array().unwrap();
        assert_eq!(env.len(), 7, "{env:?}");
    }

    #[test]
    fn only_its_own_folder_replaces_a_service() {
        let wanted =
            Wanted { directory: "/apps/tide".into(), name: "tide".into(), region: "us-central1".into() };
        let from = |source: &str| json!({ "annotations": { SOURCE: source } });
        assert!(check_is_ours(&from("/apps/tide"), &wanted).is_ok());
        assert!(check_is_ours(&from("/apps/other"), &wanted).is_err());
        assert!(check_is_ours(&json!({}), &wanted).is_err());
    }
}
