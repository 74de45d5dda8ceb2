//! What the metadata server says to an instance, as a plain function: the sandbox has the socket.
//!
//! The tree is Cloud Run's (<https://cloud.google.com/run/docs/container-contract#metadata-server>), which is a
//! small part of Compute Engine's. A question must carry `Metadata-Flavor: Google`, so that no page a browser
//! visits can ask it, and must not have come through a proxy.
//!
//! Left out: `wait_for_change` (nothing in the tree changes while an instance lives), custom metadata.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use kernel::{
    Code, Error,
    ports::{Identity, Project},
};
use serde_json::{Map, Value, json};

use crate::{
    Iam,
    oauth::form::{Form, decode},
};

/// The scopes that an instance's token has unless it asks for others.
const SCOPES: [&str; 2] =
    ["https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/userinfo.email"];
const HTML: &str = "text/html; charset=UTF-8";
const ROOT: &str = "/computeMetadata/v1";

/// Who asks.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The address of the service account it runs as.
    pub email: String,
    /// Its project.
    pub project: Project,
    /// Its region, such as `us-central1`.
    pub region: String,
    /// Its id: letters and digits.
    pub id: String,
}

/// What a path leads to.
enum Found {
    /// A part of the tree: an object is a directory.
    Tree(Value),
    /// `service-accounts/*/token`.
    Token,
    /// `service-accounts/*/identity`.
    Identity,
}

impl Iam {
    /// Answers an instance's question. Only `GET` is ever asked.
    pub async fn metadata(
        &self,
        instance: &Instance,
        headers: &HeaderMap,
        path: &str,
        query: &str,
    ) -> Response<Bytes> {
        if let Some(why) = objection(headers, path) {
            let body = format!("Error 403 (Forbidden): {why}\n");
            return respond(StatusCode::FORBIDDEN, HTML, body);
        }
        let form = Form::parse(query.as_bytes());
        let path = decode(path.as_bytes());
        let Some(found) = find(instance, &path) else { return not_found(&path) };
        match found {
            Found::Token => self.token_answer(instance, &form).await,
            Found::Identity => self.identity_answer(instance, &form).await,
            Found::Tree(tree) => tree_answer(&tree, &path, &form),
        }
    }

    async fn token_answer(&self, instance: &Instance, form: &Form) -> Response<Bytes> {
        let asked: Vec<&str> =
            form.get("scopes").split([',', ' ']).filter(|scope| !scope.is_empty()).collect();
        let scopes = if asked.is_empty() { SCOPES.to_vec() } else { asked };
        match self.access_token(&instance.email, &scopes).await {
            Ok((token, life)) => {
                let value =
                    json!({"access_token": token, "expires_in": life.as_secs() - 1, "token_type": "Bearer"});
                respond(StatusCode::OK, "application/json", value.to_string())
            }
            Err(error) => failed(&error),
        }
    }

    async fn identity_answer(&self, instance: &Instance, form: &Form) -> Response<Bytes> {
        let audience = form.get("audience");
        if audience.is_empty() {
            return respond(StatusCode::BAD_REQUEST, HTML, "non-empty audience parameter required".into());
        }
        match self.identity_token(&instance.email, audience, form.get("format") == "full").await {
            Ok(token) => respond(StatusCode::OK, HTML, token),
            Err(error) => failed(&error),
        }
    }
}

/// Why a question is not answered, if it is not. The root says what it is to anybody: that is how instances find
/// out where they run.
fn objection(headers: &HeaderMap, path: &str) -> Option<&'static str> {
    let is_flavored = headers.get("metadata-flavor").is_some_and(|value| value == "Google");
    match () {
        () if headers.contains_key("x-forwarded-for") => {
            Some("requests with an X-Forwarded-For header are refused.")
        }
        () if !is_flavored && path != "/" => Some("Missing Metadata-Flavor:Google header."),
        () => None,
    }
}

fn find(instance: &Instance, path: &str) -> Option<Found> {
    let mut tree = json!({"computeMetadata": {"v1": tree(instance)}});
    let mut at = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match (at.as_slice(), part) {
            (["computeMetadata", "v1", "instance", "service-accounts", _], "token") => {
                return Some(Found::Token);
            }
            (["computeMetadata", "v1", "instance", "service-accounts", _], "identity") => {
                return Some(Found::Identity);
            }
            _ => {}
        }
        tree = tree.as_object_mut()?.remove(part)?;
        at.push(part);
    }
    Some(Found::Tree(tree))
}

fn tree(instance: &Instance) -> Value {
    let Instance { email, project, region, id } = instance;
    let account = json!({"aliases": ["default"], "email": email, "scopes": SCOPES});
    let mut accounts = Map::new();
    accounts.insert("default".into(), account.clone());
    accounts.insert(email.clone(), account);
    json!({
        "instance": {
            "id": id,
            "region": format!("projects/{}/regions/{region}", project.number),
            "service-accounts": accounts,
            "zone": format!("projects/{}/zones/{region}-1", project.number),
        },
        "project": {"numeric-project-id": project.number, "project-id": &*project.id},
        "universe": {"universe-domain": "googleapis.com"},
    })
}

fn tree_answer(tree: &Value, path: &str, form: &Form) -> Response<Bytes> {
    let is_directory = tree.is_object();
    if is_directory && !path.ends_with('/') {
        let mut response = respond(StatusCode::MOVED_PERMANENTLY, HTML, format!("{path}/\n"));
        if let Ok(location) = HeaderValue::from_str(&format!("{path}/")) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        // A recursive question is answered where it was asked.
        if form.get("recursive") != "true" {
            return response;
        }
    }
    match (is_directory, form.get("recursive") == "true", form.get("alt")) {
        (true, true, "text") => text(&flat(tree)),
        (true, true, _) | (false, _, "json") => {
            respond(StatusCode::OK, "application/json", camel(tree).to_string())
        }
        (true, false, _) => text(&listing(tree)),
        (false, _, _) => text(&leaf(tree)),
    }
}

/// The names in a directory, one a line, those of directories with a slash.
fn listing(tree: &Value) -> String {
    let line =
        |(name, value): (&String, &Value)| format!("{name}{}\n", if value.is_object() { "/" } else { "" });
    let mut listing: String = tree.as_object().into_iter().flatten().map(line).collect();
    if tree.get("aliases").is_some() {
        listing = "aliases\nemail\nidentity\nscopes\ntoken\n".into();
    }
    listing
}

/// A directory as lines of path and value.
fn flat(tree: &Value) -> String {
    let mut lines = String::new();
    for (name, value) in tree.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => {
                flat(value).lines().for_each(|line| lines.push_str(&format!("{name}/{line}\n")))
            }
            Value::Array(items) => {
                items.iter().for_each(|item| lines.push_str(&format!("{name} {}\n", leaf(item))))
            }
            value => lines.push_str(&format!("{name} {}\n", leaf(value))),
        }
    }
    lines
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(|item| leaf(item) + "\n").collect(),
        other => other.to_string(),
    }
}

/// The names of a recursive answer are in camel case, those of accounts as they are.
fn camel(value: &Value) -> Value {
    let name = |name: &str| match name.contains('@') {
        true => name.to_owned(),
        false => {
            let mut parts = name.split('-');
            let first = parts.next().unwrap_or_default().to_owned();
            parts.fold(first, |name, part| {
                let (head, tail) = part.split_at(part.len().min(1));
                name + &head.to_ascii_uppercase() + tail
            })
        }
    };
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (name(key), camel(value))).collect())
        }
        other => other.clone(),
    }
}

fn text(body: &str) -> Response<Bytes> {
    respond(StatusCode::OK, "application/text", body.to_owned())
}

fn not_found(path: &str) -> Response<Bytes> {
    let path: String =
        path.chars().filter(|c| c.is_ascii_graphic() && !"<>&".contains(*c)).take(200).collect();
    let root = if path.starts_with(ROOT) { "" } else { " The tree is at /computeMetadata/v1/." };
    let body =
        format!("Error 404 (Not Found): the requested URL {path} was not found on this server.{root}\n");
    respond(StatusCode::NOT_FOUND, HTML, body)
}

fn failed(error: &Error) -> Response<Bytes> {
    let status = match error.code() {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::FailedPrecondition => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    respond(status, HTML, format!("{}\n", error.message()))
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("metadata-flavor", HeaderValue::from_static("Google"));
    headers.insert(header::SERVER, HeaderValue::from_static("Metadata Server for Serverless"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
