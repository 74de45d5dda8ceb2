//! Who may stand for the owner, and who may not.

use gateway::Anonymous;

use crate::{client::get, world::World};

const PATH: &str = "/v1/projects/my-project/secrets/whose/versions/1:access";

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn an_emulator_client_on_this_machine_is_the_owner() {
    let world = World::new();
    for host in ["Host: localhost:4560", "Host: 127.0.0.1", "Host: [::1]:80"] {
        let answer = get(world.address(), PATH, &[host]).await;
        assert_eq!(status(&answer), "200", "{host}: {answer}");
    }
}

#[tokio::test]
async fn a_google_host_wants_credentials_even_without_tls() {
    let world = World::new();
    let answer = get(world.address(), PATH, &["Host: secretmanager.googleapis.com"]).await;
    assert_eq!(status(&answer), "401", "{answer}");
    assert!(
        answer.contains("CREDENTIALS_MISSING") && answer.contains("www-authenticate: Bearer"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_wrong_token_is_always_refused() {
    let world = World::new();
    for header in ["Authorization: Bearer wrong", "Authorization: Basic b3duZXI6", "Authorization: owner"] {
        assert_eq!(
            status(&get(world.address(), PATH, &["Host: localhost", header]).await),
            "401",
            "{header}"
        );
    }
    let in_query = get(world.address(), &format!("{PATH}?access_token=wrong"), &["Host: localhost"]).await;
    assert_eq!(status(&in_query), "401");
}

#[tokio::test]
async fn a_web_page_is_never_the_owner() {
    let world = World::new();
    // A name that somebody pointed here, and pages that call, those of services on this machine among them.
    assert_eq!(status(&get(world.address(), PATH, &["Host: rebound.example"]).await), "401");
    for header in [
        "Origin: https://evil.example",
        "Origin: null",
        "Origin: http://hello-1.us-central1.run.localhost",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        assert_eq!(
            status(&get(world.address(), PATH, &["Host: localhost", header]).await),
            "401",
            "{header}"
        );
    }
    let typed = get(world.address(), PATH, &["Host: localhost", "Sec-Fetch-Site: none"]).await;
    assert_eq!(status(&typed), "200");
}

#[tokio::test]
async fn it_can_be_denied() {
    let world = World::with(|builder| builder.anonymous(Anonymous::Deny));
    assert_eq!(status(&get(world.address(), PATH, &["Host: localhost"]).await), "401");
}

#[tokio::test]
async fn a_request_for_two_hosts_is_for_none() {
    let world = World::new();
    let answer = get(world.address(), PATH, &["Host: localhost", "Host: secretmanager.googleapis.com"]).await;
    assert_eq!(status(&answer), "400");
}
