//! Which method a request calls.

use apis::schema::MethodId;

use super::{
    super::{
        NoMatch, Router,
        template::{Segment, Template},
    },
    method,
};

const SECRETS: &str = "google.cloud.secretmanager.v1.SecretManagerService.";
const HOST: &str = "secretmanager.googleapis.com";

fn everything() -> (Vec<MethodId>, Router) {
    let methods: Vec<_> = MethodId::all().collect();
    let router = Router::new(&methods);
    (methods, router)
}

/// A path that a template fits, and what each variable should capture.
fn sample(template: &'static str) -> (String, Vec<(&'static str, String)>) {
    let template = Template::parse(template).unwrap();
    let segment = |(at, segment): (usize, &Segment)| match segment {
        Segment::Literal(text) => (*text).to_owned(),
        Segment::One => format!("id-{at}"),
        Segment::Many => format!("deep-{at}/er"),
    };
    let segments: Vec<_> = template.segments.iter().enumerate().map(segment).collect();
    let captures = template.variables.iter().map(|v| (v.field, segments[v.from..v.to].join("/"))).collect();
    let mut path = format!("/{}", segments.join("/"));
    if !template.verb.is_empty() {
        path = format!("{path}:{}", template.verb);
    }
    (path, captures)
}

#[test]
fn every_binding_leads_to_its_method_or_to_one_with_an_equal_template() {
    let (methods, router) = everything();
    let mut elsewhere = Vec::new();
    for (at, id) in methods.iter().enumerate() {
        for binding in id.bindings() {
            let (path, captures) = sample(binding.template);
            let host = if kernel::services::is_shared(id.host()) { HOST } else { id.host() };
            let found =
                router.find(host, binding.verb, &path).unwrap_or_else(|why| panic!("{id:?} {path}: {why:?}"));
            if found.method != at {
                elsewhere.push((*id, binding, found.id, *found.binding));
                continue;
            }
            for (field, text) in captures {
                assert_eq!(found.capture(field).as_deref(), Some(text.as_str()), "{id:?} {path}");
            }
        }
    }
    for (id, binding, other, theirs) in &elsewhere {
        let (one, two) =
            (Template::parse(binding.template).unwrap(), Template::parse(theirs.template).unwrap());
        let is_equal = one.segments == two.segments && one.verb == two.verb;
        let is_mixin = id.host() != other.host();
        assert!(
            is_equal || is_mixin,
            "{id:?} {} is taken by {other:?} {}",
            binding.template,
            theirs.template
        );
    }
    assert!(elsewhere.len() < 40, "{} bindings lead elsewhere: {elsewhere:?}", elsewhere.len());
}

#[test]
fn a_secret_is_found_by_any_name_of_its_host() {
    let router = Router::new(&[method(&format!("{SECRETS}AccessSecretVersion"))]);
    let path = "/v1/projects/p/secrets/s/versions/latest:access";
    for (host, region) in [
        (HOST, None),
        ("us-central1-secretmanager.googleapis.com", Some("us-central1")),
        ("secretmanager.europe-west4.rep.googleapis.com", Some("europe-west4")),
        ("content-secretmanager.googleapis.com", None),
        ("secretmanager.mtls.googleapis.com", None),
        ("www.googleapis.com", None),
        ("localhost", None),
        ("127.0.0.1", None),
    ] {
        let found = router.find(host, "GET", path).unwrap_or_else(|why| panic!("{host}: {why:?}"));
        assert_eq!(found.region, region, "{host}");
        assert_eq!(found.capture("name").as_deref(), Some("projects/p/secrets/s/versions/latest"));
    }
    for host in
        ["run.googleapis.com", "nowhere-secretmanager.googleapis.com", "secretmanager.x.googleapis.com"]
    {
        assert_eq!(router.find(host, "GET", path).unwrap_err(), NoMatch::Host, "{host}");
    }
}

#[test]
fn a_path_must_fit_in_whole_and_with_its_verb() {
    let (_, router) = everything();
    for (verb, path) in [
        ("GET", "/v1/projects/p/secrets/s/versions:acces"),
        ("POST", "/v1/projects/p/secrets/s/versions/1:access"),
        ("GET", "/v1/projects/p/secrets/s/versions/1/x:access"),
        ("GET", "/v1/projects//secrets/s/versions/1:access"),
        ("GET", "/v1/projects/p/secrets/"),
        ("GET", "/v3/projects/p/secrets"),
        ("GET", "/"),
        ("GET", ""),
        ("GET", "no-slash"),
        ("", "/v1/projects/p/secrets"),
    ] {
        assert_eq!(router.find(HOST, verb, path).unwrap_err(), NoMatch::Path, "{verb} {path}");
    }
}

#[test]
fn an_id_may_hold_a_colon() {
    let (_, router) = everything();
    let found = router.find(HOST, "GET", "/v1/projects/example.com:p/secrets/s:t").unwrap();
    assert_eq!(found.id, method(&format!("{SECRETS}GetSecret")));
    assert_eq!(found.capture("name").as_deref(), Some("projects/example.com:p/secrets/s:t"));
}

#[test]
fn escapes_are_taken_out_as_the_variable_spans() {
    let (_, router) = everything();
    let object = router.find("storage.googleapis.com", "GET", "/storage/v1/b/my%2Db/o/a%2Fb%20c%25").unwrap();
    assert_eq!(object.capture("object").as_deref(), Some("a/b c%"));
    let secret = router.find(HOST, "GET", "/v1/projects/p%20q/secrets/a%2Fb%2fc").unwrap();
    assert_eq!(secret.capture("name").as_deref(), Some("projects/p q/secrets/a%2Fb%2fc"));
    let broken = router.find(HOST, "GET", "/v1/projects/p/secrets/%ff").unwrap();
    assert_eq!(broken.capture("name"), None);
    let odd = router.find(HOST, "GET", "/v1/projects/p/secrets/100%").unwrap();
    assert_eq!(odd.capture("name").as_deref(), Some("projects/p/secrets/100%"));
}

#[test]
fn templates_are_taken_apart() {
    let template = Template::parse("/v1/{parent=projects/*/dbs/*}/docs/{rest=**}/{id}:run").unwrap();
    assert_eq!(template.segments.len(), 8);
    assert_eq!(template.many(), Some(6));
    assert_eq!(template.verb, "run");
    for bad in ["", "v1", "/v1/{open", "/v1/{a}b", "/v1/{a}/"] {
        let parsed = Template::parse(bad);
        assert!(parsed.is_none() || bad == "/v1/{a}/", "{bad}: {parsed:?}");
    }
}

#[test]
fn what_follows_a_double_star_is_found_from_the_end() {
    use apis::schema::HttpBinding;
    let id = method(&format!("{SECRETS}GetSecret"));
    let mut router = Router::new(&[id]);
    let template = "/x/{name=a/**}/b/{etag}:run";
    router.mount(7, id, HOST, HttpBinding { verb: "POST", template, body: "*", response_body: "" });
    for (path, name, etag) in [
        ("/x/a/1/2/b/last:run", "a/1/2", "last"),
        ("/x/a/1/b/b/b:run", "a/1/b", "b"),
        ("/x/a/b/c:run", "a", "c"),
    ] {
        let found = router.find(HOST, "POST", path).unwrap_or_else(|why| panic!("{path}: {why:?}"));
        assert_eq!(found.method, 7);
        assert_eq!(found.capture("name").as_deref(), Some(name), "{path}");
        assert_eq!(found.capture("etag").as_deref(), Some(etag), "{path}");
    }
}

#[test]
fn a_path_of_ten_thousand_segments_is_only_long() {
    let (_, router) = everything();
    let path = format!("/v1/projects{}", "/x:y".repeat(10_000));
    assert!(router.find("localhost", "GET", &path).is_err() || path.len() > 10_000);
}

proptest::proptest! {
    #[test]
    fn any_path_is_no_fault(host in "[a-z0-9.-]{0,40}(\\.googleapis\\.com)?", path in "(/|[a-z:%*]|v1|projects|secrets){0,60}") {
        use std::sync::LazyLock;
        static ROUTER: LazyLock<Router> = LazyLock::new(|| everything().1);
        if let Ok(found) = ROUTER.find(&host, "GET", &path) {
            for capture in &found.captures {
                capture.text();
            }
        }
    }
}

#[test]
fn an_apis_own_path_stands_before_what_all_apis_have() {
    let locations = method("google.cloud.location.Locations.ListLocations");
    let own: Vec<_> = MethodId::all()
        .filter(|id| id.host() == "run.googleapis.com")
        .filter(|id| id.bindings().any(|binding| binding.template == "/v1/{name=projects/*}/locations"))
        .collect();
    let [run] = own[..] else { panic!("Cloud Run lists its locations by one method: {own:?}") };
    let secret = method(&format!("{SECRETS}GetSecret"));
    for methods in [[locations, run, secret], [run, locations, secret]] {
        let router = Router::new(&methods);
        for (host, expected) in [("run.googleapis.com", run), (HOST, locations)] {
            let found = router.find(host, "GET", "/v1/projects/p/locations").unwrap();
            assert!(found.id == expected, "{host} leads to {:?}", found.id);
        }
    }
}
