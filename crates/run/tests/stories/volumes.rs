//! Databases, secrets and memory at a path.

use std::{sync::Arc, time::Duration};

use apis::google::cloud::run::v2::{self, volume::VolumeType};
use kernel::Code;

use crate::{jobs, knative, v2 as second, world::World};

const CONNECTION: &str = "demo:us-central1:tide";
const SOCKET: &str = "/dial/cloudsql/demo:us-central1:tide/.s.PGSQL.5432";
const CONNECT: &str = "cloudsql.instances.connect";
const ANNOTATION: &str = "run.googleapis.com/cloudsql-instances";

fn volume(name: &str, kind: VolumeType) -> v2::Volume {
    v2::Volume { name: name.into(), volume_type: Some(kind) }
}

fn databases(names: &[&str]) -> v2::Volume {
    let instances = names.iter().map(|name| name.to_string()).collect();
    volume("cloudsql", VolumeType::CloudSqlInstance(v2::CloudSqlInstance { instances }))
}

fn mount(name: &str, path: &str) -> v2::VolumeMount {
    v2::VolumeMount { name: name.into(), mount_path: path.into(), ..Default::default() }
}

/// A service with these volumes and mounts.
fn with(volumes: Vec<v2::Volume>, mounts: Vec<v2::VolumeMount>) -> v2::Service {
    let mut service = second::service("serve");
    let template = service.template.as_mut().unwrap();
    template.volumes = volumes;
    template.containers[0].volume_mounts = mounts;
    service
}

async fn deploy(world: &World, name: &str, service: v2::Service) -> v2::Service {
    let operation = second::create(world, name, service).await.unwrap();
    second::end(world, &operation).await.unwrap()
}

/// Asks until the answer is as expected: what is in volumes follows within a moment.
async fn until(world: &World, path: &str, expected: &str) {
    let mut last = String::new();
    for _ in 0..400 {
        last = world.get("tide", path).await.1;
        if last.starts_with(expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{path}: {last:?} instead of {expected:?}");
}

fn logged(world: &World, text: &str) -> usize {
    world.log.0.lock().unwrap().iter().filter(|(_, _, line)| line.contains(text)).count()
}

pub(crate) async fn a_database_is_there_while_its_account_may_connect(world: Arc<World>) {
    let server = world.databases.serve("first:");
    let mut asked = with(vec![databases(&[CONNECTION, "demo:us-central1:wave"])], Vec::new());
    asked.template.as_mut().unwrap().scaling =
        Some(v2::RevisionScaling { min_instance_count: 1, ..Default::default() });
    let made = deploy(&world, "tide", asked).await;
    let mounts = &made.template.unwrap().containers[0].volume_mounts;
    assert_eq!(*mounts, [mount("cloudsql", "/cloudsql")], "it is mounted without being asked for");
    assert_eq!(world.get("tide", SOCKET).await.1, "first:ping");

    world.others.denied.lock().unwrap().insert(CONNECT);
    until(&world, SOCKET, "error").await;
    let denied = "googleapi: Error 403: boss::NOT_AUTHORIZED: Not authorized to access resource. Possibly missing \
                  permission cloudsql.instances.connect on resource instances/tide., forbidden";
    world.eventually("the log says why", || logged(&world, denied) > 0).await;
    world.others.denied.lock().unwrap().clear();
    until(&world, SOCKET, "first:ping").await;

    server.abort();
    let _second = world.databases.serve("second:");
    until(&world, SOCKET, "second:ping").await;

    let answer = world.get("tide", "/dial/cloudsql/demo:us-central1:wave/.s.PGSQL.5432").await.1;
    assert!(answer.starts_with("error") || answer.is_empty(), "{answer}");
    std::fs::remove_dir_all(&world.databases.run).unwrap();
    until(&world, SOCKET, "error").await;
    let missing = "googleapi: Error 404: The Cloud SQL instance does not exist., instanceDoesNotExist";
    world.eventually("the log says what is missing", || logged(&world, missing) > 0).await;
    assert!(world.get("tide", "/write/cloudsql/mine").await.1.contains("Read-only"));

    second::delete(&world, "tide").await.unwrap();
    world.eventually("nothing is left of its volumes", || world.volumes() == 0).await;
}

pub(crate) async fn databases_are_asked_for_in_either_form(world: Arc<World>) {
    let _server = world.databases.serve("tide:");
    let mut manifest = knative::manifest("tide", "serve");
    let annotations = |service: &mut apis::google::discovery::run::v1::Service| {
        let template = service.spec.as_mut().unwrap().template.as_mut().unwrap();
        std::mem::take(&mut template.metadata.get_or_insert_default().annotations)
    };
    let annotate = |service: &mut apis::google::discovery::run::v1::Service, value: &str| {
        let template = service.spec.as_mut().unwrap().template.as_mut().unwrap();
        template.metadata.get_or_insert_default().annotations.insert(ANNOTATION.into(), value.into());
    };
    annotate(&mut manifest, CONNECTION);
    let made = knative::deploy(&world, manifest).await;
    assert_eq!(world.get("tide", SOCKET).await.1, "tide:ping");
    assert_eq!(annotations(&mut made.clone())[ANNOTATION], CONNECTION);
    let seen = second::read(&world, "tide").await.unwrap().template.unwrap();
    assert_eq!(seen.volumes, [databases(&[CONNECTION])]);
    assert_eq!(seen.containers[0].volume_mounts, [mount("cloudsql", "/cloudsql")]);

    // Written back as it was read, in either form, it makes no revision.
    knative::replace(&world, made.clone()).await.unwrap();
    let same = knative::settle(&world, "tide").await;
    assert_eq!(knative::latest(&same), knative::latest(&made));
    let operation = second::update(&world, second::read(&world, "tide").await.unwrap(), &[]).await.unwrap();
    let same = second::end(&world, &operation).await.unwrap();
    assert!(same.latest_ready_revision.ends_with(&knative::latest(&made)));

    let made = knative::settle(&world, "tide").await;
    let mut wrong = made.clone();
    annotate(&mut wrong, ":us-central1:tide");
    let error = knative::replace(&world, wrong).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let expected = "spec.template.metadata.annotations: Invalid cloud sql instance names: [':us-central1:tide']. Instance \
                    names must be 97 characters or less, matching [a-zA-Z0-9-]{1,}:[a-zA-Z0-9-]{1,}:[a-z][a-z0-9-]{0,}, \
                    and cannot end in an hyphen";
    assert!(error.message().contains(expected), "{}", error.message());
    let mut cleared = made.clone();
    annotations(&mut cleared);
    knative::replace(&world, cleared).await.unwrap();
    knative::settle(&world, "tide").await;
    assert!(second::read(&world, "tide").await.unwrap().template.unwrap().volumes.is_empty());
    until(&world, SOCKET, "error: No such file").await;
}

fn secret(name: &str, path: &str, mode: i32) -> VolumeType {
    let item = v2::VersionToPath { path: path.into(), version: "latest".into(), mode };
    VolumeType::Secret(v2::SecretVolumeSource { secret: name.into(), items: vec![item], default_mode: 0 })
}

pub(crate) async fn secrets_are_files_and_follow_their_versions(world: Arc<World>) {
    *world.others.turning.lock().unwrap() = Some("ebb".into());
    let whole = VolumeType::Secret(v2::SecretVolumeSource { secret: "tide".into(), ..Default::default() });
    let volumes = vec![volume("keys", secret("turning", "deep/key.txt", 0o440)), volume("whole", whole)];
    let asked = with(volumes, vec![mount("keys", "/secrets/"), mount("whole", "/etc/whole")]);
    let mut asked = asked;
    asked.template.as_mut().unwrap().scaling =
        Some(v2::RevisionScaling { min_instance_count: 1, ..Default::default() });
    let made = deploy(&world, "tide", asked).await;
    assert_eq!(world.get("tide", "/file/etc/whole/tide").await.1, "high");
    assert_eq!(world.get("tide", "/mode/etc/whole/tide").await.1, "444");
    assert_eq!(world.get("tide", "/mode/secrets/deep/key.txt").await.1, "440");
    assert!(world.get("tide", "/write/etc/whole/tide").await.1.contains("error"));
    let mut open = made.clone();
    let template = open.template.as_mut().unwrap();
    template.volumes[0] = volume("keys", secret("turning", "deep/key.txt", 0o444));
    let operation = second::update(&world, open, &[]).await.unwrap();
    second::end(&world, &operation).await.unwrap();
    until(&world, "/file/secrets/deep/key.txt", "ebb").await;
    *world.others.turning.lock().unwrap() = Some("flow".into());
    until(&world, "/file/secrets/deep/key.txt", "flow").await;
    *world.others.turning.lock().unwrap() = None;
    until(&world, "/file/secrets/deep/key.txt", "error: No such file").await;
    let denied = "Permission denied on secret: projects/demo/secrets/turning/versions/latest";
    world.eventually("the log says why", || logged(&world, denied) > 0).await;

    let locked = with(vec![volume("keys", secret("locked", "key", 0))], vec![mount("keys", "/keys")]);
    let mut locked = locked;
    if let Some(VolumeType::Secret(secret)) = &mut locked.template.as_mut().unwrap().volumes[0].volume_type {
        secret.items[0].version = "1".into();
    }
    let operation = second::create(&world, "locked", locked).await.unwrap();
    let (_, message) = second::end(&world, &operation).await.unwrap_err();
    assert!(
        message.contains("Permission denied on secret: projects/demo/secrets/locked/versions/1"),
        "{message}"
    );
}

pub(crate) async fn memory_is_a_volume_within_its_limit(world: Arc<World>) {
    let memory =
        |limit: &str| VolumeType::EmptyDir(v2::EmptyDirVolumeSource { medium: 1, size_limit: limit.into() });
    let volumes = vec![volume("small", memory("8Mi")), volume("half", memory(""))];
    deploy(&world, "tide", with(volumes, vec![mount("small", "/small"), mount("half", "/half")])).await;
    assert_eq!(world.get("tide", "/fill/small/file").await.1, "8");
    assert_eq!(world.get("tide", "/fill/half/file").await.1, "256");
    let read = second::read(&world, "tide").await.unwrap().template.unwrap();
    assert_eq!(read.volumes[0].volume_type, Some(memory("8Mi")));
}

pub(crate) async fn a_task_finds_its_volumes(world: Arc<World>) {
    let _server = world.databases.serve("tide:");
    *world.others.turning.lock().unwrap() = Some("ebb".into());
    let mut job = jobs::job("serve");
    let task = job.template.as_mut().unwrap().template.as_mut().unwrap();
    task.volumes = vec![volume("keys", secret("turning", "key", 0)), databases(&[CONNECTION])];
    task.containers[0].volume_mounts = vec![mount("keys", "/keys")];
    task.containers[0].args = vec!["look".into(), SOCKET.into(), "/file/keys/key".into()];
    jobs::create(&world, "tide", job).await.unwrap();
    let (operation, _) = jobs::begin(&world, "tide", None).await;
    jobs::end::<v2::Execution>(&world, &operation).await.unwrap();
    assert_eq!((logged(&world, "tide:ping"), logged(&world, "ebb")), (1, 1));
    assert_eq!(world.volumes(), 0, "nothing is left of its volumes");

    let mut wrong = jobs::job("serve");
    wrong.template.as_mut().unwrap().template.as_mut().unwrap().volumes = vec![databases(&["nowhere"])];
    let request = v2::CreateJobRequest {
        parent: second::PARENT.into(),
        job_id: "wrong".into(),
        job: Some(wrong),
        ..Default::default()
    };
    let error = world.call(v2::jobs::CREATE_JOB, request).await.unwrap_err();
    assert!(error.message().contains("Invalid cloud sql instance names: ['nowhere']"), "{}", error.message());
}

pub(crate) async fn what_cannot_be_mounted_is_refused(world: Arc<World>) {
    let memory = || VolumeType::EmptyDir(v2::EmptyDirVolumeSource { medium: 1, size_limit: "8Mi".into() });
    let nfs = VolumeType::Nfs(v2::NfsVolumeSource::default());
    let bucket = VolumeType::Gcs(v2::GcsVolumeSource::default());
    let cases = [
        (vec![], vec![mount("a", "/a")], "Volume 'a' is mounted, but is not among the volumes"),
        (vec![volume("a", memory()), volume("a", memory())], vec![], "Volume names must be unique"),
        (
            vec![volume("a", memory())],
            vec![mount("a", "/a"), mount("a", "/a/")],
            "Mount paths must be unique",
        ),
        (vec![volume("a", memory())], vec![mount("a", "/proc/x")], "/proc and what is below it are reserved"),
        (vec![volume("a", memory())], vec![mount("a", "a")], "must be an absolute path"),
        (vec![volume("a", memory())], vec![mount("a", "/cloudsql/a")], "/cloudsql is reserved"),
        (vec![databases(&["p:r:i"])], vec![mount("cloudsql", "/db")], "must be /cloudsql"),
        (vec![volume("db", databases(&["p:r:i"]).volume_type.unwrap())], vec![], "must be named 'cloudsql'"),
        (vec![volume("cloudsql", memory())], vec![], "must be named 'cloudsql'"),
        (vec![databases(&["../../x"])], vec![], "Invalid cloud sql instance names: ['../../x']"),
        (vec![volume("a", secret("s", "../key", 0))], vec![], "must be a relative path without '..'"),
        (vec![volume("a", secret("s/t", "key", 0))], vec![], "'s/t' is not the name of a secret"),
        (vec![volume("a", secret("s", "key", 0o1777))], vec![], "between 0 and 511"),
        (vec![volume("a", nfs)], vec![], "Volume 'a' is a NFS volume, which is not supported here"),
        (vec![volume("a", bucket)], vec![], "is a Cloud Storage volume, which is not supported here"),
    ];
    for (volumes, mounts, part) in cases {
        let error = second::create(&world, "tide", with(volumes, mounts)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{part}");
        assert!(error.message().contains(part), "{part} in {}", error.message());
    }
}
