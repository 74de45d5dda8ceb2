//! Calls by gRPC.

use std::io::Write;

use apis::google::cloud::{
    resourcemanager::v3::MoveProjectRequest,
    secretmanager::v1::{
        AccessSecretVersionRequest, AccessSecretVersionResponse, CreateSecretRequest, Secret,
    },
};
use prost::Message;
use tokio::net::TcpStream;

use crate::{
    client::{Channel, Ended, frame, secure, tunnel},
    world::{ACCESS, CREATE, MOVE, World},
};

const OWNER: (&str, &str) = ("authorization", "Bearer owner");
const READER: (&str, &str) = ("authorization", "Bearer reader");

fn version(name: &str) -> AccessSecretVersionRequest {
    AccessSecretVersionRequest { name: name.to_owned() }
}

fn secret(ended: &Ended) -> Vec<u8> {
    assert_eq!(ended.code, 0, "{ended:?}");
    AccessSecretVersionResponse::decode(ended.answer.clone()).unwrap().payload.unwrap().data.to_vec()
}

#[tokio::test]
async fn a_call_is_answered_to_the_one_who_makes_it() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    let name = "projects/my-project/secrets/whose/versions/1";
    for _ in 0..3 {
        assert_eq!(secret(&channel.call(ACCESS, &[OWNER], &version(name)).await), b"user:owner@example.com");
    }
    let reader = channel.call(ACCESS, &[READER], &version(name)).await;
    assert_eq!(secret(&reader), b"serviceAccount:reader@my-project.iam.gserviceaccount.com");
}

#[tokio::test]
async fn tls_through_the_proxy_is_as_good_as_the_port() {
    let world = World::new();
    let host = "secretmanager.googleapis.com";
    let stream = tunnel(world.address(), &format!("{host}:443")).await.unwrap();
    let stream = secure(stream, &world.ca, host, &["h2"]).await.unwrap();
    let mut channel = Channel::over(stream, host).await;
    let request = version("projects/123/secrets/large/versions/1");
    assert_eq!(secret(&channel.call(ACCESS, &[READER], &request).await).len(), 1 << 20);
    // Under Google's name nobody stands for the owner.
    let ended = channel.call(ACCESS, &[], &request).await;
    assert_eq!(ended.code, 16);
    assert!(ended.message.starts_with("Request is missing required authentication credential."), "{ended:?}");
}

#[tokio::test]
async fn tls_is_spoken_on_the_port_itself_and_for_our_hosts_only() {
    let world = World::new();
    let connect = || async { TcpStream::connect(world.address()).await.unwrap() };
    let stream = secure(connect().await, &world.ca, "run.googleapis.com", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(secure(connect().await, &world.ca, "127.0.0.1", &[]).await.is_ok());
    assert!(secure(connect().await, &world.ca, "github.com", &[]).await.is_err());
}

#[tokio::test]
async fn a_missing_permission_is_refused_in_googles_words() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    let request = CreateSecretRequest {
        parent: "projects/123".into(),
        secret_id: "s".into(),
        secret: Some(Secret::default()),
    };
    let ended = channel.call(CREATE, &[READER], &request).await;
    assert_eq!(ended.code, 7);
    assert_eq!(
        ended.message,
        "Permission 'secretmanager.secrets.create' denied for resource 'projects/my-project' (or it may not exist)."
    );
    let details = ended.details.unwrap();
    assert_eq!(details.code, 7);
    assert_eq!(details.details[0].type_url, "type.googleapis.com/google.rpc.ErrorInfo");
    assert_eq!(channel.call(CREATE, &[OWNER], &request).await.code, 0);
}

#[tokio::test]
async fn nothing_runs_that_could_not_be_asked_about() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    let to = |destination: &str| MoveProjectRequest {
        name: "projects/my-project".into(),
        destination_parent: destination.into(),
    };
    // The reader may not put a project anywhere; a place that is no name must not spare it the question.
    assert_eq!(channel.call(MOVE, &[READER], &to("folders/1")).await.code, 7);
    for nowhere in ["", "folders/", "the-folder", "projects//x"] {
        for caller in [READER, OWNER] {
            let ended = channel.call(MOVE, &[caller], &to(nowhere)).await;
            assert_eq!(ended.code, 3, "{nowhere}: {ended:?}");
            assert_eq!(ended.message, "Invalid resource field value in the request.");
            let info =
                apis::google::rpc::ErrorInfo::decode(&*ended.details.unwrap().details[0].value).unwrap();
            assert_eq!(info.reason, "RESOURCE_PROJECT_INVALID");
            assert_eq!(info.metadata["method"], "google.cloud.resourcemanager.v3.Projects.MoveProject");
        }
    }
    assert_eq!(world.moves(), 0, "nothing was moved");
    assert_eq!(channel.call(MOVE, &[OWNER], &to("folders/1")).await.code, 0);
    assert_eq!(world.moves(), 1);
}

#[tokio::test]
async fn an_api_that_is_not_enabled_says_where_to_enable_it() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    let ended =
        channel.call(ACCESS, &[OWNER], &version("projects/unused-project/secrets/s/versions/1")).await;
    assert_eq!(ended.code, 7);
    assert!(
        ended.message.starts_with("Secret Manager API has not been used in project 456 before"),
        "{ended:?}"
    );
    let info = apis::google::rpc::ErrorInfo::decode(&*ended.details.unwrap().details[0].value).unwrap();
    assert_eq!(
        (info.reason.as_str(), info.metadata["consumer"].as_str()),
        ("SERVICE_DISABLED", "projects/456")
    );
}

#[tokio::test]
async fn projects_are_made_on_first_use_or_do_not_exist() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    assert_eq!(
        channel.call(ACCESS, &[OWNER], &version("projects/new-project/secrets/s/versions/1")).await.code,
        0
    );
    assert_eq!(
        channel.call(ACCESS, &[OWNER], &version("projects/no-project/secrets/s/versions/1")).await.code,
        7
    );
}

#[tokio::test]
async fn bad_names_and_bad_bytes_are_invalid_arguments() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    for name in ["", "secrets/s", "projects//secrets/s/versions/1", "projects/my-project/secrets/s"] {
        assert_eq!(channel.call(ACCESS, &[OWNER], &version(name)).await.code, 3, "{name}");
    }
    let ended = channel.send(ACCESS, &[OWNER], frame(0, b"\x0a\xff\xff\xff")).await;
    assert_eq!(ended.code, 3, "{ended:?}");
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    let ended = channel.call("/google.cloud.nothing.v1.Nothing/Do", &[OWNER], &version("x")).await;
    assert_eq!(ended.code, 12);
}

#[tokio::test]
async fn a_deadline_is_kept() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    let request = version("projects/my-project/secrets/waits/versions/1");
    let ended = channel.call(ACCESS, &[OWNER, ("grpc-timeout", "20m")], &request).await;
    assert_eq!(ended.code, 4);
}

#[tokio::test]
async fn a_panic_is_internal_and_hurts_nobody_else() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    let ended =
        channel.call(ACCESS, &[OWNER], &version("projects/my-project/secrets/panics/versions/1")).await;
    assert_eq!((ended.code, ended.message.as_str()), (13, "Internal error encountered."));
    assert_eq!(
        channel.call(ACCESS, &[OWNER], &version("projects/my-project/secrets/s/versions/1")).await.code,
        0
    );
}

#[tokio::test]
async fn requests_may_be_compressed_but_not_without_bounds() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    let zip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        frame(1, &encoder.finish().unwrap())
    };
    let gzip = ("grpc-encoding", "gzip");
    let request = version("projects/my-project/secrets/s/versions/1").encode_to_vec();
    assert_eq!(channel.send(ACCESS, &[OWNER, gzip], zip(&request)).await.code, 0);
    let bomb = channel.send(ACCESS, &[OWNER, gzip], zip(&vec![0; 64 << 20])).await;
    assert_ne!(bomb.code, 0);
    let huge = channel.send(ACCESS, &[OWNER], frame(0, &vec![0; 11 << 20])).await;
    assert_ne!(huge.code, 0);
    let unknown = channel.send(ACCESS, &[OWNER, ("grpc-encoding", "br")], frame(1, &request)).await;
    assert_eq!(unknown.code, 12);
}

#[tokio::test]
async fn framing_that_lies_is_refused() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    for body in
        [&b""[..], b"\x00", b"\x00\x00\x00\x00\x09ab", b"\x07\x00\x00\x00\x00", b"\x00\xff\xff\xff\xff"]
    {
        let ended = channel.send(ACCESS, &[OWNER], body.to_vec().into()).await;
        assert_ne!(ended.code, 0, "{body:?}");
    }
}
