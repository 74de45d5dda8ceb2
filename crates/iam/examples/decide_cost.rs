//! What a decision and a token check cost, in nanoseconds: `cargo run --release -p iam --example decide_cost`.
//!
//! A project with 1,000 bindings' worth of members over all roles, a secret with a policy of its own, and a service
//! account that the project's policy names last. No clock but the machine's; the figures are medians of batches.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Instant, SystemTime},
};

use apis::google::iam::v1::{Binding, Policy, SetIamPolicyRequest};
use iam::{Iam, Owner, Role};
use kernel::{
    BoxFuture, Principal, Resource, Result,
    call::RequestInfo,
    clock::Clock,
    ports::{Authenticator, Authority, Identity, Policies, Project, Projects},
    store::{Embedded, Store},
};

struct One;

impl Projects for One {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Project>> {
        Box::pin(async { Ok(Project { id: "demo-project".into(), number: 123456789012 }) })
    }

    fn known(&self, name: &str) -> Option<Project> {
        let is_known = matches!(name, "demo-project" | "123456789012");
        is_known.then(|| Project { id: "demo-project".into(), number: 123456789012 })
    }

    fn enabled(&self, _: &str, _: &str) -> bool {
        true
    }
}

const APP: &str = "123456789012-compute@developer.gserviceaccount.com";

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir().map_err(kernel::Error::internal)?;
    let store: Arc<dyn Store> = Arc::new(Embedded::open(dir.path())?);
    let iam = Iam::open(store, Clock::system(), Arc::new(One), Owner::named("ada")).await?;
    let start = Instant::now();
    black_box(iam::Permission::named("secretmanager.versions.access"));
    println!("the table of roles, read once: {} µs", start.elapsed().as_micros());
    fill(&iam).await?;
    let request = RequestInfo { time: SystemTime::now(), peer: None, host: "".into(), user_agent: "".into() };
    let version = Resource::new("secretmanager.googleapis.com", "projects/demo-project/secrets/s/versions/1");
    let permission = "secretmanager.versions.access";
    let (app, stranger) = (Principal::ServiceAccount(APP.into()), Principal::User("eve@example.com".into()));
    let start = Instant::now();
    black_box(iam.allows(&app, permission, &version, &request));
    println!("allows, the first, which compiles the policies: {} µs", start.elapsed().as_micros());
    assert!(
        iam.allows(&app, permission, &version, &request)
            && !iam.allows(&stranger, permission, &version, &request)
    );
    measure("allows: granted by the project, 3 levels, 1,000 bindings", || {
        black_box(iam.allows(black_box(&app), permission, &version, &request));
    });
    measure("allows: refused", || {
        black_box(iam.allows(black_box(&stranger), permission, &version, &request));
    });
    let (token, _) = iam.access_token(APP, &["https://www.googleapis.com/auth/cloud-platform"]).await?;
    measure("authenticate: warm", || {
        let _ = black_box(iam.authenticate(black_box(&token)));
    });
    measure("authenticate: warm, and allows", || {
        if let Ok(principal) = iam.authenticate(black_box(&token)) {
            black_box(iam.allows(&principal, permission, &version, &request));
        }
    });
    conditional(&iam).await?;
    assert!(iam.allows(&app, permission, &version, &request));
    measure(
        "allows: granted by the project under a condition on time and name, 1,000 bindings with conditions",
        || {
            black_box(iam.allows(black_box(&app), permission, &version, &request));
        },
    );
    measure("allows: refused, with them", || {
        black_box(iam.allows(black_box(&stranger), permission, &version, &request));
    });
    measure("authenticate: warm, and allows, with them", || {
        if let Ok(principal) = iam.authenticate(black_box(&token)) {
            black_box(iam.allows(&principal, permission, &version, &request));
        }
    });
    Ok(())
}

async fn fill(iam: &Iam) -> Result<()> {
    iam.ensure_project(&Project { id: "demo-project".into(), number: 123456789012 }).await?;
    let roles: Vec<&Role> =
        Role::all().iter().filter(|role| role.concerns("cloudresourcemanager.googleapis.com")).collect();
    // 1,000 (role, member) pairs, so that nothing is merged away.
    let mut bindings: Vec<Binding> = (0..1000)
        .map(|n| Binding {
            role: roles[n % roles.len()].name.clone(),
            members: vec![format!("user:member-{n}@example.com")],
            condition: None,
        })
        .collect();
    let app = vec![format!("serviceAccount:{APP}")];
    bindings.push(Binding {
        role: "roles/secretmanager.secretAccessor".into(),
        members: app,
        condition: None,
    });
    put(iam, Resource::project("demo-project"), bindings).await?;
    let viewer = Binding {
        role: "roles/secretmanager.viewer".into(),
        members: vec!["user:bob@example.com".into()],
        condition: None,
    };
    put(iam, Resource::new("secretmanager.googleapis.com", "projects/demo-project/secrets/s"), vec![viewer])
        .await
}

/// The same project, each of its bindings under a condition of its own.
async fn conditional(iam: &Iam) -> Result<()> {
    let roles: Vec<&Role> = Role::all()
        .iter()
        .filter(|role| role.basic().is_none() && role.concerns("cloudresourcemanager.googleapis.com"))
        .collect();
    let condition = |n: usize| {
        Some(apis::google::r#type::Expr {
            title: format!("condition {n}"),
            expression: format!(
                "request.time < timestamp('2100-01-01T00:00:00Z') && request.time.getHours('Europe/Berlin') >= 0 && \
                 resource.name.extract('secrets/{{name}}/') == 's' && {n} == {n}"
            ),
            ..Default::default()
        })
    };
    let mut bindings: Vec<Binding> = (0..1000)
        .map(|n| Binding {
            role: roles[n % roles.len()].name.clone(),
            members: vec![format!("user:member-{n}@example.com")],
            condition: condition(n),
        })
        .collect();
    bindings.push(Binding {
        role: "roles/secretmanager.secretAccessor".into(),
        members: vec![format!("serviceAccount:{APP}")],
        condition: condition(1000),
    });
    put(iam, Resource::project("demo-project"), bindings).await
}

async fn put(iam: &Iam, resource: Resource, bindings: Vec<Binding>) -> Result<()> {
    let policy = Some(Policy { version: 3, bindings, ..Policy::default() });
    iam.set(&resource, SetIamPolicyRequest { policy, ..Default::default() }).await.map(drop)
}

fn measure(what: &str, mut call: impl FnMut()) {
    const BATCH: u32 = 1000;
    let mut batches: Vec<f64> = (0..500)
        .map(|_| {
            let start = Instant::now();
            (0..BATCH).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / f64::from(BATCH)
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    println!("{what}: median {:.0} ns, p99 {:.0} ns", batches[250], batches[495]);
}
