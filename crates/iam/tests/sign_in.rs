use std::time::Duration;

use ::iam::Request;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use kernel::{Principal, ports::Authenticator};
use serde_json::Value;

use crate::support::*;

const GCLOUD: &str = "32555940559.apps.googleusercontent.com";
const VERIFIER: &str = "a-verifier-that-is-long-enough-for-anybody-to-be-content";
const REDIRECT: &str = "http://localhost:8085/";

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn form(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}

/// A browser without a window.
struct Browser<'w>(&'w World);

impl Browser<'_> {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: &str,
        headers: &[(&'static str, &str)],
    ) -> Response<Bytes> {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let request = Request { method: &method, path, query, headers: &headers, body: body.as_bytes() };
        self.0.iam.oauth(request).await.expect("an endpoint")
    }

    async fn open(&self, fields: &[(&str, &str)]) -> Response<Bytes> {
        self.ask(Method::GET, &self.0.iam.sign_in_path(), &form(fields), "", &[]).await
    }

    /// Opens the page, and sends its form.
    async fn answer(&self, asked: &[(&str, &str)], answers: &[(&str, &str)]) -> Response<Bytes> {
        let page = self.open(asked).await;
        assert_eq!(page.status(), StatusCode::OK, "{}", text(&page));
        self.send(&ticket(&page), answers, &[("origin", "null"), ("sec-fetch-site", "same-origin")]).await
    }

    async fn send(
        &self,
        ticket: &str,
        answers: &[(&str, &str)],
        headers: &[(&'static str, &str)],
    ) -> Response<Bytes> {
        let fields = [&[("ticket", ticket)], answers].concat();
        self.ask(Method::POST, "/o/oauth2/approve", "", &form(&fields), headers).await
    }

    async fn token(&self, fields: &[(&str, &str)]) -> Value {
        let answer = self.ask(Method::POST, "/token", "", &form(fields), &[]).await;
        serde_json::from_slice(answer.body()).unwrap()
    }

    async fn redeem(&self, code: &str, verifier: &str) -> Value {
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", GCLOUD),
            ("client_secret", "x"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", verifier),
        ];
        self.token(&fields).await
    }
}

fn text(response: &Response<Bytes>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

fn ticket(page: &Response<Bytes>) -> String {
    let text = text(page);
    text.split_once("name=\"ticket\" value=\"").unwrap().1.split('"').next().unwrap().to_owned()
}

fn led_to(response: &Response<Bytes>) -> String {
    assert_eq!(response.status(), StatusCode::SEE_OTHER, "{}", text(response));
    response.headers()[header::LOCATION].to_str().unwrap().to_owned()
}

fn parameter(address: &str, name: &str) -> String {
    let query = address.split_once('?').unwrap().1;
    let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    found.unwrap_or_default().replace("%2F", "/")
}

fn asked(challenge: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("client_id", GCLOUD),
        ("redirect_uri", REDIRECT),
        ("response_type", "code"),
        ("state", "st&te"),
        ("scope", "openid https://www.googleapis.com/auth/cloud-platform"),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ]
}

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, VERIFIER.as_bytes()))
}

const ALLOW: [(&str, &str); 2] = [("who", "owner"), ("decision", "allow")];

#[tokio::test]
async fn the_owner_signs_in_and_the_tokens_are_theirs_until_they_are_revoked() {
    let world = World::new().await;
    let browser = Browser(&world);
    let challenge = challenge();
    let page = browser.open(&asked(&challenge)).await;
    assert!(text(&page).contains("ada@haar.localhost") && text(&page).contains("Google Cloud SDK"));
    assert!(!text(&page).contains("<script"), "no script");
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(
        policy.contains("frame-ancestors 'none'")
            && policy.contains("form-action 'self' http://localhost:8085")
    );

    let place = led_to(&browser.answer(&asked(&challenge), &ALLOW).await);
    assert!(place.starts_with("http://localhost:8085/?state=st%26te&code="), "{place}");
    let answer = browser.redeem(&parameter(&place, "code"), VERIFIER).await;
    let access = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(world.iam.authenticate(access).unwrap(), world.iam.owner().principal());
    assert!(answer["id_token"].is_string() && answer["scope"].as_str().unwrap().contains("cloud-platform"));

    let refresh = answer["refresh_token"].as_str().unwrap();
    let fields = [("grant_type", "refresh_token"), ("client_id", GCLOUD), ("refresh_token", refresh)];
    assert!(browser.token(&fields).await["access_token"].is_string());
    browser.ask(Method::POST, "/revoke", "", &form(&[("token", access)]), &[]).await;
    assert_eq!(browser.token(&fields).await["error_description"], "Token has been expired or revoked.");
    assert!(world.iam.authenticate(access).is_err());
    world.clock.advance(Duration::from_secs(4000));
    world.iam.sweep().await.unwrap();
    assert_eq!(
        browser.token(&fields).await["error"],
        "invalid_grant",
        "nor later, when the access token is over anyway"
    );
}

#[tokio::test]
async fn somebody_else_can_be_picked_and_nobody() {
    let world = World::new().await;
    let account = world.account("my-app-sa").await;
    let browser = Browser(&world);
    let challenge = challenge();
    for (email, principal) in [
        ("Eve@Example.com", Principal::User("eve@example.com".into())),
        (&account.email, Principal::ServiceAccount(account.email.as_str().into())),
    ] {
        let answers = [("who", "other"), ("email", email), ("decision", "allow")];
        let place = led_to(&browser.answer(&asked(&challenge), &answers).await);
        let answer = browser.redeem(&parameter(&place, "code"), VERIFIER).await;
        assert_eq!(world.iam.authenticate(answer["access_token"].as_str().unwrap()).unwrap(), principal);
    }
    for email in ["", "nobody", "ghost@demo-project.iam.gserviceaccount.com", "\"><script>"] {
        let answers = [("who", "other"), ("email", email), ("decision", "allow")];
        let page = browser.answer(&asked(&challenge), &answers).await;
        assert!(
            text(&page).contains("role=\"alert\"") && !text(&page).contains("<script"),
            "it is asked again: {email}"
        );
    }
    let place =
        led_to(&browser.answer(&asked(&challenge), &[("who", "owner"), ("decision", "cancel")]).await);
    assert_eq!(
        (parameter(&place, "error"), parameter(&place, "code")),
        ("access_denied".into(), String::new())
    );
}

#[tokio::test]
async fn a_code_is_good_once_in_time_and_with_its_verifier() {
    let world = World::new().await;
    let browser = Browser(&world);
    let challenge = challenge();
    let code = async || parameter(&led_to(&browser.answer(&asked(&challenge), &ALLOW).await), "code");
    let why = |answer: Value| answer["error_description"].as_str().unwrap_or_default().to_owned();

    let one = code().await;
    let answer = browser.redeem(&one, VERIFIER).await;
    let access = answer["access_token"].as_str().unwrap().to_owned();
    assert_eq!(why(browser.redeem(&one, VERIFIER).await), "Malformed auth code.", "a second time");
    assert!(world.iam.authenticate(&access).is_err(), "and what the first got is over");

    assert_eq!(why(browser.redeem(&code().await, "").await), "Missing code verifier.");
    let tried = code().await;
    assert_eq!(why(browser.redeem(&tried, "another").await), "Invalid code verifier.");
    assert_eq!(why(browser.redeem(&tried, VERIFIER).await), "Malformed auth code.", "no second guess");
    assert_eq!(why(browser.redeem("4/0Amade-up", VERIFIER).await), "Malformed auth code.");
    let late = code().await;
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(why(browser.redeem(&late, VERIFIER).await), "Malformed auth code.");
    let elsewhere = code().await;
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", GCLOUD),
        ("code", &elsewhere),
        ("redirect_uri", "http://localhost:1/"),
        ("code_verifier", VERIFIER),
    ];
    assert_eq!(why(browser.token(&fields).await), "Malformed auth code.", "another address");
}

#[tokio::test]
async fn programs_without_a_browser_have_the_code_copied() {
    let world = World::new().await;
    let browser = Browser(&world);
    let challenge = challenge();
    let mut fields = asked(&challenge);
    fields[1].1 = "https://sdk.cloud.google.com/authcode.html";
    let page = browser.answer(&fields, &ALLOW).await;
    let shown = text(&page);
    assert_eq!(page.status(), StatusCode::OK, "nothing of it goes to another host");
    let code = shown.split_once("<code id=\"code\">").unwrap().1.split('<').next().unwrap();
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", GCLOUD),
        ("code", code),
        ("redirect_uri", fields[1].1),
        ("code_verifier", VERIFIER),
    ];
    assert!(browser.token(&fields).await["refresh_token"].is_string());
}

#[tokio::test]
async fn no_other_page_and_no_stranger_can_sign_anybody_in() {
    let world = World::new().await;
    let browser = Browser(&world);
    let challenge = challenge();
    for path in [
        "/o/oauth2/auth",
        "/o/oauth2/v2/auth",
        "/o/oauth2/auth/",
        "/o/oauth2/auth/0123456789abcdef0123456789abcdef",
    ] {
        let page = browser.ask(Method::GET, path, &form(&asked(&challenge)), "", &[]).await;
        assert_eq!(page.status(), StatusCode::FORBIDDEN, "without the key: {path}");
    }
    let shown = async || ticket(&browser.open(&asked(&challenge)).await);
    for foreign in [
        [("origin", "https://evil.example"), ("host", "127.0.0.1:4560")],
        [("origin", "null"), ("sec-fetch-site", "cross-site")],
        [("origin", "http://hello.run.localhost:4560"), ("host", "127.0.0.1:4560")],
    ] {
        assert_eq!(
            browser.send(&shown().await, &ALLOW, &foreign).await.status(),
            StatusCode::BAD_REQUEST,
            "{foreign:?}"
        );
    }
    assert_eq!(browser.send("made-up", &ALLOW, &[]).await.status(), StatusCode::BAD_REQUEST);
    let ticket = shown().await;
    assert_eq!(browser.send(&ticket, &ALLOW, &[]).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(
        browser.send(&ticket, &ALLOW, &[]).await.status(),
        StatusCode::BAD_REQUEST,
        "a page is answered once"
    );

    for (index, value, status) in [
        (0, "somebody.apps.googleusercontent.com", StatusCode::UNAUTHORIZED),
        (1, "https://evil.example/", StatusCode::BAD_REQUEST),
        (1, "http://localhost.evil.example/", StatusCode::BAD_REQUEST),
        (2, "token", StatusCode::BAD_REQUEST),
        (4, "", StatusCode::BAD_REQUEST),
        (6, "S512", StatusCode::BAD_REQUEST),
    ] {
        let mut fields = asked(&challenge);
        fields[index].1 = value;
        let page = browser.open(&fields).await;
        assert_eq!(page.status(), status, "{value}");
        assert!(!page.headers().contains_key(header::LOCATION));
    }
}
