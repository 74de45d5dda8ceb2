use apis::google::{
    iam::{
        admin::v1::{
            LintPolicyRequest, LintPolicyResponse, iam::LINT_POLICY, lint_policy_request::LintObject,
        },
        v1::{Binding, Policy},
    },
    r#type::Expr,
};
use kernel::{Code, Resource, ports::Policies};

use crate::{
    policies::{binding, replace},
    support::*,
};

const ACCESS: &str = "secretmanager.versions.access";
const ACCESSOR: &str = "roles/secretmanager.secretAccessor";
const ADA: &str = "user:ada@example.com";

fn expr(title: &str, expression: &str) -> Expr {
    Expr { title: title.into(), expression: expression.into(), ..Expr::default() }
}

fn conditional(role: &str, member: &str, title: &str, expression: &str) -> Binding {
    Binding { condition: Some(expr(title, expression)), ..binding(role, &[member]) }
}

fn policy(bindings: Vec<Binding>) -> Policy {
    Policy { version: 3, bindings, ..Policy::default() }
}

fn version(secret: &str) -> Resource {
    let name = format!("projects/demo-project/secrets/{secret}/versions/1");
    Resource::new("secretmanager.googleapis.com", name)
}

#[tokio::test]
async fn access_for_a_time_ends() {
    let world = World::new().await;
    let until = "request.time < timestamp('2027-01-15T08:00:00Z')"; // That is NOW.
    let given = policy(vec![conditional(ACCESSOR, ADA, "until eight", until)]);
    replace(&world, &project(), given).await.unwrap();
    let ada = user("ada@example.com");
    assert!(world.allows_at(NOW - 1, &ada, ACCESS, &version("tide")));
    assert!(!world.allows_at(NOW, &ada, ACCESS, &version("tide")));
}

#[tokio::test]
async fn names_and_types_are_those_that_googles_table_has() {
    let world = World::new().await;
    let ada = user("ada@example.com");
    let of_tide = format!("resource.name.startsWith('projects/{NUMBER}/secrets/tide/')");
    let is_version = "resource.type == 'secretmanager.googleapis.com/SecretVersion'";
    let given = conditional(ACCESSOR, ADA, "tide only", &format!("{of_tide} && {is_version}"));
    replace(&world, &project(), policy(vec![given])).await.unwrap();
    assert!(world.allows(&ada, ACCESS, &version("tide")));
    assert!(!world.allows(&ada, ACCESS, &version("ebb")));
    assert!(!world.allows(&ada, "secretmanager.secrets.list", &project()), "not in the role");

    let invoker = |expression| policy(vec![conditional("roles/run.invoker", ADA, "some", expression)]);
    let service = Resource::new("run.googleapis.com", "projects/demo-project/locations/l/services/s");
    for (expression, expected) in [
        ("resource.name.endsWith('/services/s')", false),
        ("!resource.name.endsWith('/services/s')", false),
        ("resource.name.endsWith('/services/s') || request.time > timestamp('2020-01-01T00:00:00Z')", true),
    ] {
        replace(&world, &project(), invoker(expression)).await.unwrap();
        assert_eq!(world.allows(&ada, "run.routes.invoke", &service), expected, "{expression}");
    }
}

#[tokio::test]
async fn a_role_without_a_condition_needs_none() {
    let world = World::new().await;
    let given = policy(vec![binding(ACCESSOR, &[ADA]), conditional(ACCESSOR, ADA, "never", "false")]);
    let written = replace(&world, &secret(), given).await.unwrap();
    assert_eq!((written.version, written.bindings.len()), (3, 2), "they are two bindings");
    assert!(world.allows(&user("ada@example.com"), ACCESS, &secret()));
}

#[tokio::test]
async fn who_may_only_hand_out_some_roles_sets_no_policy_that_cannot_be_judged() {
    let world = World::new().await;
    let only =
        "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly(['roles/run.viewer'])";
    let given = conditional("roles/resourcemanager.projectIamAdmin", ADA, "some", only);
    replace(&world, &project(), policy(vec![given])).await.unwrap();
    let ada = user("ada@example.com");
    assert!(world.allows(&ada, "resourcemanager.projects.getIamPolicy", &project()));
    assert!(!world.allows(&ada, "resourcemanager.projects.setIamPolicy", &project()));
}

#[tokio::test]
async fn clients_that_know_no_conditions_lose_none() {
    let world = World::new().await;
    let both = vec![binding(ACCESSOR, &[ADA]), conditional(ACCESSOR, "user:bob@example.com", "t", "true")];
    replace(&world, &secret(), policy(both)).await.unwrap();
    let old = world.iam.get(&secret(), 1).unwrap();
    assert_eq!(old.version, 1);
    let marked = old.bindings.iter().find(|binding| binding.role.contains("_withcond_")).unwrap().clone();
    assert_eq!(marked.role.len(), ACCESSOR.len() + "_withcond_".len() + 20);

    let unmarked = Policy { bindings: vec![binding(ACCESSOR, &[ADA])], ..old.clone() };
    let error = replace(&world, &secret(), unmarked.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(
        error
            .message()
            .starts_with("Specified policy version (1) cannot be less than the existing policy version (3).")
    );
    let mixed = Policy { version: 3, ..old.clone() };
    let mixed = Policy {
        bindings: [mixed.bindings.clone(), vec![conditional(ACCESSOR, ADA, "t", "true")]].concat(),
        ..mixed
    };
    let error = replace(&world, &secret(), mixed).await.unwrap_err();
    assert!(error.message().starts_with("Policy cannot contain both conditions and condition hashes."));

    let mut more = old.clone();
    more.bindings.push(binding("roles/secretmanager.viewer", &[ADA]));
    replace(&world, &secret(), more).await.unwrap();
    let now = world.iam.get(&secret(), 3).unwrap();
    assert_eq!((now.version, now.bindings.len()), (3, 3));
    let overwritten = Policy { etag: Default::default(), ..unmarked };
    assert_eq!(
        replace(&world, &secret(), overwritten).await.unwrap().version,
        1,
        "without an etag, as Google warns"
    );
}

#[tokio::test]
async fn what_a_condition_must_not_be() {
    let world = World::new().await;
    let refused = async |binding: Binding| {
        replace(&world, &project(), policy(vec![binding])).await.unwrap_err().message().to_owned()
    };
    assert!(refused(conditional("roles/viewer", ADA, "t", "true")).await.contains("primitive roles"));
    assert!(refused(conditional(ACCESSOR, ADA, "t", "request.time")).await.contains("must give bool"));
    assert!(refused(conditional(ACCESSOR, ADA, "", "true")).await.contains("title"));
    let public = policy(vec![conditional(ACCESSOR, "allUsers", "t", "true")]);
    assert!(replace(&world, &secret(), public).await.is_err());
    let old =
        Policy { version: 1, bindings: vec![conditional(ACCESSOR, ADA, "t", "true")], ..Policy::default() };
    assert!(replace(&world, &secret(), old).await.unwrap_err().message().contains("must have version 3"));
    let alternatives = |count| {
        policy(
            (0..count)
                .map(|n| conditional(ACCESSOR, ADA, "t", &format!("request.time.getHours() == {n}")))
                .collect(),
        )
    };
    assert!(replace(&world, &secret(), alternatives(21)).await.is_err());
    replace(&world, &secret(), alternatives(20)).await.unwrap();
}

#[tokio::test]
async fn a_condition_can_be_looked_at_before_it_is_used() {
    let world = World::new().await;
    let lint = async |expression: &str| -> LintPolicyResponse {
        let request = LintPolicyRequest {
            lint_object: Some(LintObject::Condition(expr("t", expression))),
            ..Default::default()
        };
        world.call(world.owner(), LINT_POLICY, request).await.unwrap()
    };
    assert!(lint("resource.name != ''").await.lint_results.is_empty());
    let found = &lint("true && foo").await.lint_results[0];
    assert_eq!((found.location_offset, found.field_name.as_str()), (8, "condition.expression"));
    assert_eq!(
        found.debug_message,
        "ERROR: <expression>:1:9: undeclared reference to 'foo' (in container '')"
    );
}
