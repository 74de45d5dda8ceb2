//! Services with `google.api.http` rules, which `prost_types` cannot hold: its options have no extensions.

use std::collections::BTreeMap;

use prost::Message;

use crate::Result;

/// What a file with such services imports.
pub(crate) const IMPORTS: &[&str] = &[
    "google/api/annotations.proto",
    "google/api/client.proto",
    "google/protobuf/empty.proto",
    "google/protobuf/struct.proto",
];

/// The services of a `FileDescriptorProto`, to be appended to an encoded one.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileServices {
    #[prost(message, repeated, tag = "6")]
    pub(crate) services: Vec<ServiceProto>,
}

/// A `ServiceDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ServiceProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<MethodProto>,
    #[prost(message, optional, tag = "3")]
    options: Option<ServiceOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceOptions {
    #[prost(string, tag = "1049")]
    default_host: String,
}

/// A `MethodDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MethodProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    input: String,
    #[prost(string, tag = "3")]
    output: String,
    #[prost(message, optional, tag = "4")]
    options: Option<MethodOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct MethodOptions {
    #[prost(message, optional, tag = "72295728")]
    http: Option<HttpRule>,
}

/// A `google.api.HttpRule`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HttpRule {
    #[prost(oneof = "Pattern", tags = "2, 3, 4, 5, 6")]
    pattern: Option<Pattern>,
    #[prost(string, tag = "7")]
    body: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Pattern {
    #[prost(string, tag = "2")]
    Get(String),
    #[prost(string, tag = "3")]
    Put(String),
    #[prost(string, tag = "4")]
    Post(String),
    #[prost(string, tag = "5")]
    Delete(String),
    #[prost(string, tag = "6")]
    Patch(String),
}

impl ServiceProto {
    /// A service that is reached at this host.
    pub(crate) fn new(name: String, methods: Vec<MethodProto>, host: &str) -> Self {
        ServiceProto { name, methods, options: Some(ServiceOptions { default_host: host.to_owned() }) }
    }
}

impl MethodProto {
    /// A method with its rule.
    pub(crate) fn new(name: &str, input: String, output: String, rule: HttpRule) -> Result<Self> {
        let options = Some(MethodOptions { http: Some(rule) });
        Ok(MethodProto { name: name.to_owned(), input, output, options })
    }
}

/// The rule of a verb, a template and the field that takes the body, if any.
pub(crate) fn rule(verb: &str, template: String, body: &str) -> Result<HttpRule> {
    let pattern = match verb {
        "GET" => Pattern::Get(template),
        "PUT" => Pattern::Put(template),
        "POST" => Pattern::Post(template),
        "DELETE" => Pattern::Delete(template),
        "PATCH" => Pattern::Patch(template),
        _ => return Err(format!("unknown verb {verb}").into()),
    };
    Ok(HttpRule { pattern: Some(pattern), body: body.to_owned() })
}

/// The template of a discovery path: `/v1/{+name}:run`, with the parameters' patterns, is
/// `/v1/{name=projects/*/jobs/*}:run`.
pub(crate) fn template(path: &str, patterns: &BTreeMap<&str, Option<&str>>) -> Result<String> {
    let mut done = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (key, after) = after.split_once('}').ok_or_else(|| format!("{path}: a brace is open"))?;
        done.push_str(before);
        done.push_str(&variable(key, patterns)?);
        rest = after;
    }
    Ok(done + rest)
}

fn variable(key: &str, patterns: &BTreeMap<&str, Option<&str>>) -> Result<String> {
    let Some(key) = key.strip_prefix('+') else {
        return Ok(format!("{{{}}}", crate::names::snake(key)));
    };
    let pattern = patterns.get(key).copied().flatten().ok_or_else(|| format!("{key} has no pattern"))?;
    let segments =
        pattern.trim_start_matches('^').trim_end_matches('$').replace("[^/]+", "*").replace(".*", "**");
    if segments.contains(|letter: char| !(letter.is_ascii_alphanumeric() || "/*-_".contains(letter))) {
        return Err(format!("{key} has the pattern {pattern}, which no template can say").into());
    }
    Ok(format!("{{{}={segments}}}", crate::names::snake(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_templates() {
        let patterns = BTreeMap::from([("name", Some("^projects/[^/]+/jobs/[^/]+$")), ("projectId", None)]);
        let made = |path| template(path, &patterns).map_err(|error| error.to_string());
        assert_eq!(made("/v1/{+name}:run").as_deref(), Ok("/v1/{name=projects/*/jobs/*}:run"));
        assert_eq!(made("/v1/projects/{projectId}").as_deref(), Ok("/v1/projects/{project_id}"));
        assert!(made("/v1/{+projectId}").is_err(), "no pattern, no template");
        assert!(made("/v1/{name").is_err());
    }
}
