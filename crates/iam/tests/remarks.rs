use std::{
    io,
    sync::{Arc, Mutex},
};

use apis::google::{
    discovery::iam::v1::{
        self as proto, Oidc, WorkloadIdentityPool, WorkloadIdentityPoolProvider,
        projects_locations_workload_identity_pools as pools,
        projects_locations_workload_identity_pools_providers as providers,
    },
    iam::v1::Binding,
};
use kernel::{Resource, ports::Authority};

use crate::{
    policies::{binding, set},
    support::*,
};

const APP: &str = "my-app-sa@demo-project.iam.gserviceaccount.com";
const LOCATION: &str = "projects/demo-project/locations/global";
const POOL: &str =
    "principalSet://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/github";

/// What is written to the log.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sets a policy, and gives what was said of it.
async fn said(world: &World, resource: &Resource, bindings: Vec<Binding>) -> String {
    let said = Said::default();
    let writer = said.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let listening = tracing::subscriber::set_default(log);
    set(world, resource, bindings).await.unwrap();
    drop(listening);
    let bytes = said.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

async fn provider(world: &World, condition: &str) {
    let body = WorkloadIdentityPoolProvider {
        attribute_mapping: [
            ("google.subject".into(), "assertion.sub".into()),
            ("attribute.repository".into(), "assertion.repository".into()),
        ]
        .into(),
        attribute_condition: Some(condition.into()),
        oidc: Some(Oidc {
            issuer_uri: Some("https://token.actions.githubusercontent.com".into()),
            ..Oidc::default()
        }),
        ..WorkloadIdentityPoolProvider::default()
    };
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsProvidersCreateRequest {
        parent: format!("{LOCATION}/workloadIdentityPools/github"),
        workload_identity_pool_provider_id: Some("prov".into()),
        body: Some(body),
    };
    world.call(world.owner(), providers::CREATE, request).await.unwrap();
}

#[tokio::test]
async fn an_app_that_may_do_everything_is_remarked_on() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    let app = format!("serviceAccount:{APP}");
    let editor = || binding("roles/editor", &[&app]);
    let first = said(&world, &project(), vec![editor()]).await;
    assert!(first.contains("has roles/editor on projects/demo-project"), "{first}");
    assert!(first.contains(&format!("haar iam least {APP}")), "{first}");
    let viewer = binding("roles/viewer", &[&app]);
    assert_eq!(
        said(&world, &project(), vec![editor(), viewer.clone()]).await,
        "",
        "what was there is not new"
    );

    let may = world.iam.allows(&machine(APP), "secretmanager.versions.access", &secret(), &request());
    assert!(!may, "editors read no secrets");
    assert!(world.iam.allows(&machine(APP), "secretmanager.secrets.get", &secret(), &request()));
    said(&world, &project(), Vec::new()).await;
    let again = said(&world, &project(), vec![editor()]).await;
    assert!(again.contains("needs roles/secretmanager.viewer on "), "{again}");
}

#[tokio::test]
async fn an_account_that_every_branch_may_act_as_is_remarked_on() {
    let world = World::new().await;
    let account = world.account("my-app-sa").await;
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsCreateRequest {
        parent: LOCATION.into(),
        workload_identity_pool_id: Some("github".into()),
        body: Some(WorkloadIdentityPool::default()),
    };
    world.call(world.owner(), pools::CREATE, request).await.unwrap();
    provider(&world, "assertion.repository == 'haar/app'").await;
    let resource = Resource::new("iam.googleapis.com", account.name);
    let of = |set: &str| vec![binding("roles/iam.workloadIdentityUser", &[&format!("{POOL}/{set}")])];
    let all = said(&world, &resource, of("attribute.repository/haar/app")).await;
    assert!(all.contains("from any branch") && all.contains("attribute.ref/refs/heads/BRANCH"), "{all}");
    assert_eq!(said(&world, &resource, of("attribute.ref/refs/heads/main")).await, "");
}
