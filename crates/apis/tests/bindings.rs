//! HTTP bindings: that each can be routed, and what some well-known ones are.

use apis::{
    MethodId,
    google::{
        cloud::secretmanager::v1::{AccessSecretVersionRequest, secret_manager_service},
        discovery::{run, storage},
    },
    schema::{Cardinality, Field, HttpBinding, Kind, Message},
};

/// The field at the end of a path such as `secret.name`, if each step is a field.
fn field_at(message: Message, path: &str) -> Option<Field> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let field = message.fields().find(|field| field.name() == first)?;
    match (rest, field.kind()) {
        (None, _) => Some(field),
        (Some(rest), Kind::Message(inner)) => field_at(inner, rest),
        _ => None,
    }
}

/// The variables of a template, each with the segments it covers.
fn variables(template: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some((_, after)) = rest.split_once('{') {
        let (inside, after) = after.split_once('}').unwrap_or_else(|| panic!("{template}"));
        found.push(inside.split_once('=').unwrap_or((inside, "*")));
        rest = after;
    }
    found
}

fn assert_segments(template: &str, segments: &str) {
    let (segments, verb) = segments.rsplit_once(':').unwrap_or((segments, "verb"));
    assert!(!verb.is_empty() && verb.chars().all(|letter| letter.is_ascii_alphanumeric()), "{template}");
    for segment in segments.split('/') {
        let literal = |letter: char| letter.is_ascii_alphanumeric() || "-_.~".contains(letter);
        let good = segment == "*" || segment == "**" || (!segment.is_empty() && segment.chars().all(literal));
        assert!(good, "{template}: {segment:?}");
    }
}

fn assert_routable(method: MethodId, binding: HttpBinding) {
    let HttpBinding { verb, template, body, response_body } = binding;
    assert!(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"].contains(&verb), "{method:?}: {verb}");
    let mut flat = template.strip_prefix('/').unwrap_or_else(|| panic!("{method:?}: {template}")).to_owned();
    for (path, segments) in variables(template) {
        let field = field_at(method.input(), path).unwrap_or_else(|| panic!("{method:?}: no field {path}"));
        assert!(
            matches!(field.cardinality(), Cardinality::Single | Cardinality::Optional),
            "{method:?}: {path}"
        );
        assert!(!matches!(field.kind(), Kind::Message(_) | Kind::Bytes), "{method:?}: {path}");
        assert_segments(template, segments);
        let written = [format!("{{{path}={segments}}}"), format!("{{{path}}}")];
        flat = flat.replace(&written[0], segments).replace(&written[1], segments);
    }
    assert_segments(template, &flat);
    assert!(["", "*"].contains(&body) || field_at(method.input(), body).is_some(), "{method:?}: body {body}");
    assert!(response_body.is_empty() || field_at(method.output(), response_body).is_some(), "{method:?}");
}

#[test]
fn every_binding_can_be_routed() {
    let mut count = 0;
    for method in MethodId::all() {
        assert!(!method.host().is_empty(), "{method:?} has no host");
        for binding in method.bindings() {
            assert_routable(method, binding);
            count += 1;
        }
    }
    assert!(count > 500, "only {count} bindings");
}

#[test]
fn a_secret_is_read_by_these_requests() {
    let rpc: apis::Rpc<AccessSecretVersionRequest, _> = secret_manager_service::ACCESS_SECRET_VERSION;
    let method = rpc.id();
    assert_eq!(method.name(), "google.cloud.secretmanager.v1.SecretManagerService.AccessSecretVersion");
    assert_eq!(method.grpc_path(), "/google.cloud.secretmanager.v1.SecretManagerService/AccessSecretVersion");
    assert_eq!(method.host(), "secretmanager.googleapis.com");
    assert_eq!(method.input().full_name(), "google.cloud.secretmanager.v1.AccessSecretVersionRequest");
    let templates: Vec<_> = method.bindings().map(|binding| (binding.verb, binding.template)).collect();
    assert_eq!(
        templates,
        [
            ("GET", "/v1/{name=projects/*/secrets/*/versions/*}:access"),
            ("GET", "/v1/{name=projects/*/locations/*/secrets/*/versions/*}:access"),
        ]
    );
}

#[test]
fn discovery_methods_have_bindings_and_no_grpc_path() {
    let replace = run::v1::namespaces_services::REPLACE_SERVICE.id();
    assert_eq!(replace.grpc_path(), "");
    assert_eq!(replace.host(), "run.googleapis.com");
    let binding = replace.bindings().next().unwrap();
    assert_eq!((binding.verb, binding.body), ("PUT", "body"));
    assert_eq!(binding.template, "/apis/serving.knative.dev/v1/{name=namespaces/*/services/*}");
    let get = storage::v1::objects_service::GET.id().bindings().next().unwrap();
    assert_eq!((get.verb, get.template), ("GET", "/storage/v1/b/{bucket}/o/{object}"));
}

#[test]
fn a_method_is_found_by_each_of_its_names() {
    for method in MethodId::all() {
        assert_eq!(MethodId::by_name(method.name()), Some(method));
        if !method.grpc_path().is_empty() {
            assert_eq!(MethodId::by_grpc_path(method.grpc_path()), Some(method));
        }
    }
    for path in ["", "/", "//", "/a/b", "a.b/c", "/google.discovery.run.v1.NamespacesServices/Get"] {
        assert_eq!(MethodId::by_grpc_path(path), None, "{path}");
    }
    assert_eq!(MethodId::by_name("nothing"), None);
    assert_eq!(MethodId::by_name("nothing.at.all"), None);
}
