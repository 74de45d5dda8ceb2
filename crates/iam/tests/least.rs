use ::iam::{Fate, Grant, Least, Origin};
use apis::google::{
    iam::v1::{Binding, Policy},
    r#type::Expr,
};
use kernel::{
    Resource,
    ports::{Authority, Policies},
    store::Txn,
};

use crate::{
    policies::{binding, replace, set},
    support::*,
};

const APP: &str = "my-app-sa@demo-project.iam.gserviceaccount.com";
const ACCESSOR: &str = "roles/secretmanager.secretAccessor";
const ON_PROJECT: &str = "//cloudresourcemanager.googleapis.com/projects/demo-project";
const ON_SECRET: &str = "//secretmanager.googleapis.com/projects/demo-project/secrets/s";

fn app() -> String {
    format!("serviceAccount:{APP}")
}

/// A world with an account that has these roles on the project.
async fn world_with(roles: &[&str]) -> World {
    let world = World::new().await;
    world.account("my-app-sa").await;
    set(&world, &project(), roles.iter().map(|role| binding(role, &[&app()])).collect()).await.unwrap();
    world
}

fn on(service: &'static str, name: &str) -> Resource {
    Resource::new(service, format!("projects/demo-project/{name}"))
}

/// The account does something that it may.
fn uses(world: &World, permission: &str, resource: &Resource) {
    let request = kernel::call::RequestInfo { time: world.clock.now(), ..request() };
    assert!(world.iam.allows(&machine(APP), permission, resource, &request), "{permission}");
}

fn given(least: &Least) -> Vec<(&str, &str)> {
    least.gives.iter().map(|Grant { role, resource, .. }| (role.as_str(), resource.as_str())).collect()
}

fn fates(least: &Least) -> Vec<(&str, &str, Fate)> {
    least.has.iter().map(|one| (one.grant.role.as_str(), one.grant.resource.as_str(), one.fate)).collect()
}

/// Carries out an answer.
async fn apply(world: &World, least: &Least) {
    let secret_roles: Vec<Binding> = least
        .gives
        .iter()
        .filter(|grant| grant.resource == ON_SECRET)
        .map(|grant| binding(&grant.role, &[&app()]))
        .collect();
    set(world, &secret(), secret_roles).await.unwrap();
    let mut bindings = world.iam.get(&project(), 3).unwrap().bindings;
    bindings.retain(|one| !least.has.iter().any(|has| has.fate != Fate::Keep && has.grant.role == one.role));
    bindings.extend(least.gives.iter().filter(|grant| grant.resource == ON_PROJECT).map(|grant| Binding {
        condition: grant.condition.as_ref().map(|(title, expression)| Expr {
            title: title.clone(),
            expression: expression.clone(),
            ..Expr::default()
        }),
        ..binding(&grant.role, &[&app()])
    }));
    let policy = Policy { version: 3, bindings, ..Policy::default() };
    replace(world, &project(), policy).await.unwrap();
}

#[tokio::test]
async fn one_secret_is_read_and_that_is_what_is_left() {
    let world = world_with(&["roles/editor", ACCESSOR]).await;
    for version in ["1", "2", "latest"] {
        uses(
            &world,
            "secretmanager.versions.access",
            &on("secretmanager.googleapis.com", &format!("secrets/s/versions/{version}")),
        );
    }
    let least = world.iam.least(APP).await.unwrap();
    assert_eq!(given(&least), [(ACCESSOR, ON_SECRET)]);
    assert_eq!(
        fates(&least),
        [("roles/editor", ON_PROJECT, Fate::Unused), (ACCESSOR, ON_PROJECT, Fate::Replaced)]
    );
    assert_eq!((least.uses.len(), least.uses[0].count, &least.uses[0].origin), (1, 3, &Origin::Own));

    apply(&world, &least).await;
    uses(&world, "secretmanager.versions.access", &secret());
    let least = world.iam.least(APP).await.unwrap();
    assert!(least.gives.is_empty() && fates(&least) == [(ACCESSOR, ON_SECRET, Fate::Keep)], "{least:?}");
    assert!(!world.allows(&machine(APP), "secretmanager.secrets.list", &project()));
}

#[tokio::test]
async fn a_database_is_named_in_a_condition_and_what_is_asked_of_the_project_stays_there() {
    let world = world_with(&["roles/editor"]).await;
    uses(&world, "cloudsql.instances.connect", &on("sqladmin.googleapis.com", "instances/tide"));
    uses(&world, "secretmanager.secrets.list", &project());
    uses(&world, "secretmanager.secrets.get", &secret());
    let least = world.iam.least(APP).await.unwrap();
    assert_eq!(
        given(&least),
        [("roles/secretmanager.viewer", ON_PROJECT), ("roles/cloudsql.client", ON_PROJECT)],
        "the secret is seen by what is granted above it"
    );
    apply(&world, &least).await;
    uses(&world, "cloudsql.instances.connect", &on("sqladmin.googleapis.com", "instances/tide"));
    let other = on("sqladmin.googleapis.com", "instances/other");
    assert!(!world.allows(&machine(APP), "cloudsql.instances.connect", &other));
    let least = world.iam.least(APP).await.unwrap();
    assert!(least.gives.is_empty(), "{least:?}");
    assert!(least.has.iter().all(|one| one.fate == Fate::Keep), "{least:?}");
}

#[tokio::test]
async fn what_others_give_and_what_was_lost_is_not_given() {
    let world = world_with(&["roles/secretmanager.viewer", "roles/run.viewer"]).await;
    let service = on("run.googleapis.com", "locations/l/services/s");
    set(&world, &service, vec![binding("roles/run.invoker", &["allUsers"])]).await.unwrap();
    uses(&world, "run.routes.invoke", &service);
    uses(&world, "secretmanager.secrets.get", &secret());
    set(&world, &project(), vec![binding("roles/run.viewer", &[&app()])]).await.unwrap();
    let least = world.iam.least(APP).await.unwrap();
    let origins: Vec<&Origin> = least.uses.iter().map(|used| &used.origin).collect();
    assert_eq!(origins, [&Origin::Other("allUsers".into()), &Origin::Lost]);
    assert!(given(&least).is_empty());
    assert_eq!(fates(&least), [("roles/run.viewer", ON_PROJECT, Fate::Unused)]);
}

#[tokio::test]
async fn what_only_an_owner_may_keeps_its_owner() {
    let world = world_with(&["roles/owner"]).await;
    uses(&world, "nobody.knows.this", &project());
    uses(&world, "secretmanager.versions.access", &secret());
    let least = world.iam.least(APP).await.unwrap();
    assert_eq!(fates(&least), [("roles/owner", ON_PROJECT, Fate::Keep)]);
}

#[tokio::test]
async fn a_condition_on_the_moment_is_not_relied_on() {
    let world = world_with(&[]).await;
    let soon = Expr {
        title: "soon over".into(),
        expression: "request.time < timestamp('2040-01-01T00:00:00Z')".into(),
        ..Expr::default()
    };
    let bindings = vec![
        Binding { condition: Some(soon), ..binding(ACCESSOR, &[&app()]) },
        binding("roles/owner", &[&app()]),
    ];
    let policy = Policy { version: 3, bindings, ..Policy::default() };
    replace(&world, &project(), policy).await.unwrap();
    uses(&world, "secretmanager.versions.access", &secret());
    let least = world.iam.least(APP).await.unwrap();
    assert_eq!(given(&least), [(ACCESSOR, ON_SECRET)]);
    assert!(least.has.iter().all(|one| one.fate != Fate::Keep), "{least:?}");
}

#[tokio::test]
async fn what_was_used_survives_a_restart_and_ends_with_the_account() {
    let world = world_with(&[ACCESSOR]).await;
    uses(&world, "secretmanager.versions.access", &secret());
    let asked = Policies::test(
        &*world.iam,
        &world.caller(machine(APP)),
        &project(),
        vec!["resourcemanager.projects.get".into()],
    );
    assert_eq!(asked.unwrap().len(), 1);
    world.iam.write_usage().await.unwrap();
    let later = world.reopened().await;
    let least = later.least(APP).await.unwrap();
    let permissions: Vec<&str> = least.uses.iter().map(|used| used.permission.as_str()).collect();
    assert_eq!(permissions, ["secretmanager.versions.access"], "who only asks uses nothing");

    world.clock.advance(std::time::Duration::from_secs(91 * 24 * 3600));
    world.iam.write_usage().await.unwrap();
    assert!(world.iam.least(APP).await.unwrap().uses.is_empty());
    uses(&world, "secretmanager.versions.access", &secret());
    world.iam.write_usage().await.unwrap();
    assert_eq!(world.stored("iam/used/").await, 1);
    let name = format!("projects/-/serviceAccounts/{APP}");
    let request = apis::google::iam::admin::v1::DeleteServiceAccountRequest { name };
    world.call(world.owner(), iam::DELETE_SERVICE_ACCOUNT, request).await.unwrap();
    assert_eq!(world.stored("iam/used/").await, 0);
    world.account("my-app-sa").await;
    assert!(world.iam.least(APP).await.unwrap().uses.is_empty(), "another account under the same address");
}

#[tokio::test]
async fn what_is_not_known_is_not_forgotten_by_a_restart() {
    let world = world_with(&[ACCESSOR]).await;
    let long = on("secretmanager.googleapis.com", &format!("secrets/{}", "s".repeat(400)));
    uses(&world, "secretmanager.versions.access", &long);
    assert!(world.iam.least(APP).await.unwrap().is_partial, "its name is too long to be noted");
    world.iam.write_usage().await.unwrap();
    assert!(world.reopened().await.least(APP).await.unwrap().is_partial);
}

#[tokio::test]
async fn what_cannot_be_read_at_first_is_not_counted_twice() {
    let world = world_with(&[ACCESSOR]).await;
    let other = world.account("other-sa").await.email;
    uses(&world, "secretmanager.versions.access", &secret());
    world.iam.write_usage().await.unwrap();
    let damaged = format!("iam/used/{other}");
    world.write(Txn::new().put(&damaged, "?")).await;
    let later = world.reopened().await;
    later.least(APP).await.unwrap_err();
    later.write_usage().await.unwrap_err();
    world.write(Txn::new().delete(&damaged)).await;
    let least = later.least(APP).await.unwrap();
    assert_eq!(least.uses.iter().map(|used| used.count).collect::<Vec<_>>(), [1]);
}
