//! What identity reads before it knows who sent it: tokens, the forms of OAuth's endpoints, exchanges of an issuer's
//! token; and what a caller sends it to be kept: conditions in CEL, members of policies, certificates.
//!
//! The first byte says which. A panic or a hang is a finding; so is a token that is accepted, for nothing here is signed.
#![no_main]

use std::{cell::RefCell, sync::Arc};

use apis::google::{
    discovery::iam::v1::{
        self as proto, Oidc, WorkloadIdentityPool, WorkloadIdentityPoolProvider,
        projects_locations_workload_identity_pools as pools,
        projects_locations_workload_identity_pools_providers as providers,
    },
    iam::{
        admin::v1::{CreateServiceAccountRequest, UploadServiceAccountKeyRequest, iam as admin},
        v1::{Binding, Policy, SetIamPolicyRequest},
    },
    r#type::Expr,
};
use http::{HeaderMap, HeaderValue, Method as Verb, header::CONTENT_TYPE};
use iam::{Iam, Owner, Request};
use kernel::{
    BoxFuture, Caller, Error, Method, Resource, Result,
    call::RequestInfo,
    clock::Clock,
    ports::{Authenticator, Identity, Policies, Project, Projects},
    store::{Embedded, Store},
};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use tokio::runtime::Runtime;

const LOCATION: &str = "projects/demo-project/locations/global";
const ACCOUNT: &str = "projects/demo-project/serviceAccounts/my-app-sa@demo-project.iam.gserviceaccount.com";
/// A key of nobody's: what it signs cannot be made here.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

struct One;

impl Projects for One {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Project>> {
        Box::pin(async move { self.known(name).ok_or_else(|| Error::not_found("no such project")) })
    }

    fn known(&self, name: &str) -> Option<Project> {
        let is_it = ["demo-project", "123456789012"].contains(&name);
        is_it.then(|| Project { id: "demo-project".into(), number: 123456789012 })
    }

    fn enabled(&self, _: &str, _: &str) -> bool {
        true
    }
}

struct World {
    runtime: Runtime,
    iam: Arc<Iam>,
    methods: Vec<Method>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let iam = runtime.block_on(async {
            let store: Arc<dyn Store> = Arc::new(Embedded::open(dir.path()).expect("a store"));
            Iam::open(store, Clock::system(), Arc::new(One), Owner::named("ada")).await.expect("identity")
        });
        let world = World { methods: iam.methods(), runtime, iam, _dir: dir };
        world.fill();
        world
    }

    /// An account, and a pool whose provider has its keys written down.
    fn fill(&self) {
        let account = CreateServiceAccountRequest {
            name: "projects/demo-project".into(),
            account_id: "my-app-sa".into(),
            service_account: None,
        };
        self.call(admin::CREATE_SERVICE_ACCOUNT, account).expect("an account");
        let pool = proto::ProjectsLocationsWorkloadIdentityPoolsCreateRequest {
            parent: LOCATION.into(),
            workload_identity_pool_id: Some("pool".into()),
            body: Some(WorkloadIdentityPool::default()),
        };
        self.call(pools::CREATE, pool).expect("a pool");
        self.provider("prov", "google.subject", "assertion.sub", "true").expect("a provider");
    }

    fn provider(&self, id: &str, attribute: &str, mapping: &str, condition: &str) -> Result<()> {
        let oidc = Oidc {
            issuer_uri: Some("https://issuer.example".into()),
            jwks_json: Some(KEYS.into()),
            ..Oidc::default()
        };
        let body = WorkloadIdentityPoolProvider {
            attribute_mapping: [(attribute.to_owned(), mapping.to_owned())].into(),
            attribute_condition: Some(condition.into()),
            oidc: Some(oidc),
            ..WorkloadIdentityPoolProvider::default()
        };
        let request = proto::ProjectsLocationsWorkloadIdentityPoolsProvidersCreateRequest {
            parent: format!("{LOCATION}/workloadIdentityPools/pool"),
            workload_identity_pool_provider_id: Some(id.into()),
            body: Some(body),
        };
        self.call(providers::CREATE, request).map(drop)
    }

    fn call<Q: Message, S: Message + Default>(&self, rpc: apis::Rpc<Q, S>, request: Q) -> Result<S> {
        let time = std::time::SystemTime::now();
        let info = RequestInfo { time, peer: None, host: "".into(), user_agent: "".into() };
        let caller = Caller::new(self.iam.owner().principal(), info, self.iam.clone());
        let method = self.methods.iter().find(|method| method.id == rpc.id()).expect("it is served");
        let answer = self.runtime.block_on((method.handler)(caller, request.encode_to_vec().into()))?;
        Ok(S::decode(answer.as_slice()).expect("an answer"))
    }

    /// A form at one of OAuth's endpoints, or the same as JSON.
    fn oauth(&self, path: &str, query: &str, kind: &'static str, body: &[u8]) {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        let method = if body.is_empty() { Verb::GET } else { Verb::POST };
        let request = Request { method: &method, path, query, headers: &headers, body };
        if let Some(answer) = self.runtime.block_on(self.iam.oauth(request)) {
            let text = String::from_utf8_lossy(answer.body());
            assert!(!text.contains("\"access_token\""), "a token for nothing: {text}");
        }
    }

    fn token(&self, token: &str) {
        assert!(self.iam.authenticate(token).is_err(), "a token that nobody made");
        assert!(self.iam.verify_identity(token, &["aud"]).is_err(), "an identity that nobody has");
    }

    /// An issuer's token whose header and claims are what is given, signed by nobody.
    fn exchange(&self, token: &str) {
        let audience = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/pool/providers/prov";
        let body = serde_json::json!({
            "grantType": "urn:ietf:params:oauth:grant-type:token-exchange", "audience": audience, "scope": "s",
            "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt", "subjectToken": token,
        });
        self.oauth("/v1/token", "", JSON, body.to_string().as_bytes());
    }

    fn policy(&self, member: &str, expression: Option<&str>) {
        let condition = expression.map(|expression| Expr {
            title: "t".into(),
            expression: expression.into(),
            ..Expr::default()
        });
        let binding = Binding { role: "roles/viewer".into(), members: vec![member.to_owned()], condition };
        let policy = Policy { version: 3, bindings: vec![binding], ..Policy::default() };
        let request = SetIamPolicyRequest { policy: Some(policy), ..SetIamPolicyRequest::default() };
        let resource = Resource::project("demo-project");
        if self.runtime.block_on(self.iam.set(&resource, request)).is_ok() {
            let who = kernel::Principal::User("ada@example.com".into());
            let time = std::time::SystemTime::now();
            let info = RequestInfo { time, peer: None, host: "".into(), user_agent: "".into() };
            let secret = Resource::new("secretmanager.googleapis.com", "projects/demo-project/secrets/s");
            let _ = kernel::ports::Authority::allows(
                &*self.iam,
                &who,
                "secretmanager.secrets.get",
                &secret,
                &info,
            );
        }
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const PATHS: [&str; 7] = [
    "/token",
    "/v1/token",
    "/v1/introspect",
    "/revoke",
    "/tokeninfo",
    "/o/oauth2/v2/auth",
    "/oauth2/v3/userinfo",
];

/// Two parts of a JSON Web Token, and a signature that nobody made.
fn jwt(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let (header, claims) = text.split_once('\n').unwrap_or(("{\"alg\":\"ES256\",\"kid\":\"k\"}", text));
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(header), part(claims), part(&"s".repeat(64)))
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

fuzz_target!(|bytes: &[u8]| {
    let Some((way, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    let path = PATHS[usize::from(way >> 4) % PATHS.len()];
    WORLD.with_borrow(|world| match way % 12 {
        0 => world.token(&text),
        1 => world.token(&jwt(&text)),
        2 => world.token(&format!("ya29.{text}")),
        3 => world.exchange(&text),
        4 => world.exchange(&jwt(&text)),
        5 => world.oauth(path, "", FORM, bytes),
        6 => world.oauth(path, "", JSON, bytes),
        7 => world.oauth(path, &text, FORM, b""),
        8 => world.policy("user:ada@example.com", Some(&text)),
        9 => world.policy(&text, None),
        10 => drop(world.provider("prov", "google.subject", &text, &text)),
        _ => {
            let request = UploadServiceAccountKeyRequest {
                name: ACCOUNT.into(),
                public_key_data: bytes.to_vec().into(),
            };
            let _ = world.call(admin::UPLOAD_SERVICE_ACCOUNT_KEY, request);
        }
    });
});
