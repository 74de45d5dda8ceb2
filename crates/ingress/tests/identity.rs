//! Who may call, and what an instance sees of a checked token.

use http::Response;
use ingress::{Access, Invoker, ServiceRoute};

use crate::harness::*;

async fn guarded() -> World {
    let shows = server(|request, _| async move {
        let show = |name| {
            request.headers().get(name).map(|value: &http::HeaderValue| value.to_str().unwrap().to_owned())
        };
        let shown = [show("authorization"), show("x-serverless-authorization")];
        Response::new(full(format!("{shown:?}")))
    });
    let service = ServiceRoute { invoker: Invoker::Iam, ..service() };
    World::with(shows, quick(), revision(), service).await
}

#[test]
fn without_a_good_token_nobody_gets_in() {
    test(async {
        let world = guarded().await;
        for (token, status, title, challenge) in [
            (None, 403, "<h1>Error: Forbidden</h1>", Some("Bearer")),
            (Some("Bearer a.b.other"), 403, "<h1>Error: Forbidden</h1>", None),
            (
                Some("Bearer a.b.bad"),
                401,
                "<h1>Error: Unauthorized</h1>",
                Some("Bearer error=\"invalid_token\""),
            ),
            (Some("Basic Zm9v"), 401, "<h1>Error: Unauthorized</h1>", Some("Bearer error=\"invalid_token\"")),
        ] {
            let mut request = get("/a?b");
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let request = request.body(empty()).unwrap();
            let (found, headers, page) = world.send(request).await;
            assert_eq!(found, status, "{token:?}");
            assert!(page.contains(title) && page.contains("<code>/a</code>"), "{page}");
            let header = headers.get("www-authenticate").map(|value| value.to_str().unwrap());
            assert_eq!(header.map(|h| &h[..h.len().min(28)]), challenge, "{token:?}");
        }
        assert_eq!(
            world.fleet.attempts.load(std::sync::atomic::Ordering::SeqCst),
            0,
            "no instance was started"
        );
    });
}

#[test]
fn a_checked_token_loses_its_signature() {
    test(async {
        let world = guarded().await;
        let ask = async |headers: &[(&str, &str)]| {
            let request =
                headers.iter().fold(get("/"), |request, (name, value)| request.header(*name, *value));
            world.send(request.body(empty()).unwrap()).await.2
        };
        let stripped = "Bearer a.b.SIGNATURE_REMOVED_BY_GOOGLE";
        assert_eq!(ask(&[("authorization", "Bearer a.b.good")]).await, format!("[Some({stripped:?}), None]"));
        let both = [("authorization", "Bearer mine"), ("x-serverless-authorization", "bearer a.b.good")];
        let stripped = "bearer a.b.SIGNATURE_REMOVED_BY_GOOGLE";
        assert_eq!(ask(&both).await, format!("[Some(\"Bearer mine\"), Some({stripped:?})]"));
        assert_eq!(
            ask(&[("authorization", "Bearer good")]).await,
            "[None, None]",
            "an opaque token stays here"
        );
        let both = [("authorization", "Bearer a.b.good"), ("x-serverless-authorization", "Bearer a.b.bad")];
        assert!(ask(&both).await.contains("Unauthorized"), "only the preferred header counts");
    });
}

#[test]
fn an_internal_service_does_not_exist_for_others() {
    test(async {
        let service = ServiceRoute { access: Access::Internal, ..service() };
        let world = World::with(who(), quick(), revision(), service).await;
        let (status, _, page) = world.get("/").await;
        assert_eq!(status, 404);
        assert!(page.contains("The requested URL was not found on this server."), "{page}");
    });
}
