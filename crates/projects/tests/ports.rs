//! What other products ask: is there such a project, what is its other name, may it call this.

use apis::google::cloud::resourcemanager::v3::{self, projects as rpc3};
use kernel::{Code, error::Detail, ports::Projects as _};
use projects::Mode;

use crate::world::*;

#[tokio::test]
async fn an_unknown_id_becomes_a_project_on_first_use() {
    let world = World::new(Mode::Open).await;
    assert_eq!(world.projects.known("my-project"), None);
    let project = world.projects.resolve("my-project").await.unwrap();
    assert_eq!((&*project.id, project.number.to_string().len()), ("my-project", 12));
    let number = project.number.to_string();
    assert_eq!(world.projects.known("my-project"), Some(project.clone()));
    assert_eq!(world.projects.known(&number), Some(project.clone()));
    assert_eq!(world.projects.resolve(&number).await.unwrap(), project);

    let world = world.reopen(Mode::Strict).await;
    assert_eq!(world.projects.known(&number), Some(project.clone()), "it is still there");
    let elsewhere = World::new(Mode::Open).await;
    assert_eq!(elsewhere.projects.resolve("my-project").await.unwrap(), project, "and the same everywhere");
}

#[tokio::test]
async fn what_cannot_be_a_project_does_not_become_one() {
    let world = World::new(Mode::Open).await;
    assert_eq!(refusal(world.projects.resolve("short").await).0, Code::InvalidArgument);
    assert_eq!(refusal(world.projects.resolve("123456789012").await).0, Code::PermissionDenied);
    let world = World::new(Mode::Strict).await;
    let error = world.projects.resolve("my-project").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert_eq!(error.message(), "Permission denied on resource project my-project.");
    assert!(matches!(error.details()[0], Detail::Info { reason: "CONSUMER_INVALID", .. }));
    assert_eq!(world.projects.known("my-project"), None);
}

#[tokio::test]
async fn a_deleted_project_cannot_be_used() {
    let world = World::new(Mode::Open).await;
    let project = world.projects.resolve("my-project").await.unwrap();
    let name = "projects/my-project".to_owned();
    world.call(rpc3::DELETE_PROJECT, v3::DeleteProjectRequest { name: name.clone() }).await.unwrap();
    assert_eq!(world.projects.known("my-project"), None);
    let deleted = (Code::PermissionDenied, format!("Project #{} has been deleted.", project.number));
    assert_eq!(refusal(world.projects.resolve("my-project").await), deleted);
    world.call(rpc3::UNDELETE_PROJECT, v3::UndeleteProjectRequest { name }).await.unwrap();
    assert_eq!(world.projects.resolve("my-project").await.unwrap(), project);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_uses_at_once_make_one_project() {
    let world = World::new(Mode::Open).await;
    let using: Vec<_> = (0..32)
        .map(|_| {
            let projects = world.projects.clone();
            tokio::spawn(async move { projects.resolve("my-project").await.unwrap() })
        })
        .collect();
    let mut found = Vec::new();
    for one in using {
        found.push(one.await.unwrap());
    }
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
}
