use ::iam::Group;
use apis::google::iam::v1::Policy;
use kernel::{Code, Resource};

use crate::{
    policies::{binding, replace, set},
    support::*,
};

fn group(email: &str, members: &[&str]) -> Group {
    Group {
        email: email.into(),
        display_name: String::new(),
        members: members.iter().map(|member| (*member).into()).collect(),
    }
}

#[tokio::test]
async fn a_grant_to_a_group_is_a_grant_to_whoever_is_in_it_now() {
    let world = World::new().await;
    let crew = binding("roles/secretmanager.viewer", &["group:Crew@example.com"]);
    set(&world, &secret(), vec![crew]).await.unwrap();
    let may = |principal| world.allows(&principal, "secretmanager.secrets.get", &secret());
    assert!(!may(user("ada@example.com")), "a group that does not exist is empty");

    let app = "my-app-sa@demo-project.iam.gserviceaccount.com";
    world.account("my-app-sa").await;
    world.iam.put_group(group("crew@example.com", &["Ada@example.com", "deck@example.com"])).await.unwrap();
    world.iam.put_group(group("deck@example.com", &[app])).await.unwrap();
    assert!(may(user("ADA@example.com")) && may(machine(app)) && !may(user("bob@example.com")));

    world.iam.delete_group("deck@example.com").await.unwrap();
    assert!(!may(machine(app)));
    assert_eq!(world.iam.delete_group("deck@example.com").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(world.iam.put_group(group("deck", &[])).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(world.reopened().await.group("crew@example.com"), world.iam.group("crew@example.com"));
}

#[tokio::test]
async fn a_buckets_policy_knows_the_basic_roles_of_a_project() {
    let world = World::new().await;
    let bucket = Resource::new("storage.googleapis.com", "projects/_/buckets/shore");
    let editors = binding("roles/storage.objectViewer", &["projectEditor:demo-project"]);
    replace(&world, &bucket, Policy { bindings: vec![editors], ..Policy::default() }).await.unwrap();
    let ada = user("ada@example.com");
    let may = || world.allows(&ada, "storage.objects.get", &bucket);
    assert!(!may());
    set(&world, &project(), vec![binding("roles/viewer", &["user:ada@example.com"])]).await.unwrap();
    assert!(!may(), "a viewer is no editor");
    set(&world, &project(), vec![binding("roles/editor", &["user:ada@example.com"])]).await.unwrap();
    assert!(may());
}
