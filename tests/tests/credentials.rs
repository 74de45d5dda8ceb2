//! Credentials of every kind, by the programs that people use: a person's sign-in, service-account keys, and workload
//! identity federation with a local issuer that speaks as GitHub Actions' does.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, client_program, have, python, run, skipped};

/// gcloud with what it was signed in with itself, and not with what `haar exec` hands out.
const OWN: [&str; 8] = [
    "env",
    "-u",
    "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
    "-u",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "-u",
    "CLOUDSDK_CORE_ACCOUNT",
    "gcloud",
];

fn own(haar: &Haar, line: &str) -> Ran {
    let words: Vec<&str> = line.split_whitespace().collect();
    haar.exec(&[&OWN[..], &words].concat())
}

fn browse(url: &str, who: &str) -> Ran {
    let mut command = Command::new(client_program("browser"));
    command.arg(url).env("SIGN_IN_AS", who);
    run(command)
}

/// Runs a command that prints an address, opens that, and types the code that it shows.
fn sign_in(haar: &Haar, line: &str, who: &str) -> Ran {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = haar.command(&[&["exec", "--"], &OWN[..], &words].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("gcloud runs");
    let mut said = BufReader::new(child.stderr.take().expect("its standard error"));
    let mut before = String::new();
    let url = loop {
        let mut line = String::new();
        assert!(said.read_line(&mut line).expect("a line") > 0, "no address came: {before}");
        before.push_str(&line);
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://localhost")) {
            break url.to_owned();
        }
    };
    let code = browse(&url, who).succeeds().stdout;
    assert!(code.starts_with("4/0A"), "no code was shown: {code:?}");
    let mut input = child.stdin.take().expect("its standard input");
    input.write_all(code.as_bytes()).expect("the code is typed");
    drop(input);
    said.read_to_string(&mut before).expect("the rest");
    let output = child.wait_with_output().expect("gcloud ends");
    Ran { stderr: before, ..Ran::from(output) }
}

#[test]
fn a_person_signs_in_to_gcloud_and_out_again() {
    if !have("gcloud") || !have("curl") {
        return;
    }
    let haar = Haar::start();
    sign_in(&haar, "auth login --no-launch-browser", "ada@example.com").succeeds();
    assert!(own(&haar, "auth list --format=value(account)").succeeds().stdout.contains("ada@example.com"));
    assert!(own(&haar, "auth print-access-token").succeeds().stdout.starts_with("ya29."));
    assert_eq!(own(&haar, "auth print-identity-token").succeeds().stdout.split('.').count(), 3);
    own(&haar, "secrets list").fails_saying("ada@example.com");

    let program = client_program("browser");
    let mut command = haar.command(&["exec", "--"]);
    command.args(&OWN[..7]).args([&format!("BROWSER={program} %s &"), "DISPLAY=:0", "gcloud"]);
    command.args(["auth", "login", "--update-adc"]);
    run(command).succeeds();
    let owner = own(&haar, "config get-value account").succeeds().stdout.trim().to_owned();
    assert!(owner.ends_with("@haar.localhost"), "the owner, in a browser: {owner}");
    own(&haar, "secrets create tide --replication-policy=automatic").succeeds();

    let reader = format!("reader@{PROJECT}.iam.gserviceaccount.com");
    own(&haar, "iam service-accounts create reader").succeeds();
    own(&haar, &format!("iam service-accounts add-iam-policy-binding {reader} --member=user:{owner} --role=roles/iam.serviceAccountTokenCreator")).succeeds();
    let line = format!(
        "auth print-identity-token --impersonate-service-account={reader} --audiences=https://a.example --include-email"
    );
    assert_eq!(own(&haar, &line).succeeds().stdout.trim().split('.').count(), 3);

    own(&haar, "auth revoke ada@example.com").succeeds();
    assert!(!own(&haar, "auth list --format=value(account)").succeeds().stdout.contains("ada@example.com"));
}

#[test]
fn application_default_credentials_come_of_a_sign_in() {
    if !have("gcloud") || !have("curl") {
        return;
    }
    let haar = Haar::start();
    sign_in(&haar, "auth application-default login --no-launch-browser --disable-quota-project", "")
        .succeeds();
    assert!(own(&haar, "auth application-default print-access-token").succeeds().stdout.starts_with("ya29."));
    let file = haar.home().join("gcloud/application_default_credentials.json");
    let Some(python) = python() else { return skipped("Python's google-cloud-secret-manager") };
    haar.gcloud("secrets create tide --replication-policy=automatic").succeeds();
    fs::write(haar.home().join("payload"), "high at noon").expect("a file");
    haar.gcloud("secrets versions add tide --data-file=payload").succeeds();
    assert_eq!(read_by(&haar, &python, &file, "tide"), "read: high at noon");
}

/// What Google's Python library reads with a credentials file.
fn read_by(haar: &Haar, python: &std::path::Path, file: &std::path::Path, secret: &str) -> String {
    let credentials = format!("GOOGLE_APPLICATION_CREDENTIALS={}", file.display());
    let program = client_program("python/external.py");
    let ran = haar.exec(&["env", &credentials, &python.to_string_lossy(), &program, secret]);
    ran.succeeds().stdout.trim().to_owned()
}

#[test]
fn keys_of_service_accounts_are_made_uploaded_switched_and_deleted() {
    if !have("gcloud") || !have("openssl") {
        return;
    }
    let haar = Haar::start();
    let account = format!("reader@{PROJECT}.iam.gserviceaccount.com");
    let keys = |line: &str| haar.gcloud(&format!("iam service-accounts keys {line} --iam-account={account}"));
    haar.gcloud("iam service-accounts create reader").succeeds();
    keys("create key.json").succeeds();
    let file: Value =
        serde_json::from_slice(&fs::read(haar.home().join("key.json")).expect("the key")).expect("JSON");
    let id = file["private_key_id"].as_str().expect("an id").to_owned();
    own(&haar, "auth activate-service-account --key-file=key.json").succeeds();
    assert!(own(&haar, "auth print-access-token").succeeds().stdout.starts_with("ya29."));
    let token = own(&haar, "auth print-identity-token --audiences=https://a.example").succeeds().stdout;
    assert_eq!(token.trim().split('.').count(), 3);

    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=reader",
        "-keyout",
        "own.pem",
        "-out",
        "cert.pem",
    ]);
    openssl.current_dir(haar.home());
    run(openssl).succeeds();
    keys("upload cert.pem").succeeds();
    let listed = keys("list --format=value(keyOrigin,keyType)").succeeds().stdout;
    assert!(listed.contains("USER_PROVIDED") && listed.contains("USER_MANAGED"), "{listed}");

    // Tokens that were issued live on, as on Google; gcloud keeps them in a file.
    let fresh_token = || {
        let _ = fs::remove_file(haar.home().join("gcloud/access_tokens.db"));
        own(&haar, "auth print-access-token")
    };
    keys(&format!("disable {id}")).succeeds();
    fresh_token().fails_saying("Invalid JWT Signature");
    keys(&format!("enable {id}")).succeeds();
    fresh_token().succeeds();
    keys(&format!("delete {id} --quiet")).succeeds();
    fresh_token().fails_saying("Invalid JWT Signature");
}

/// The local issuer, which ends with the test.
struct Issuer {
    process: Child,
    directory: PathBuf,
}

impl Issuer {
    fn start(haar: &Haar, python: &std::path::Path) -> Issuer {
        let directory = haar.home().join("issuer");
        fs::create_dir_all(&directory).expect("a directory");
        let mut command = Command::new(python);
        command.arg(client_program("python/issuer.py")).arg(&directory).stdin(Stdio::piped());
        let issuer = Issuer { process: command.spawn().expect("the issuer runs"), directory };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !issuer.directory.join("address").exists() {
            assert!(Instant::now() < deadline, "the issuer does not serve");
            std::thread::sleep(Duration::from_millis(20));
        }
        issuer
    }

    fn address(&self) -> String {
        fs::read_to_string(self.directory.join("address")).expect("an address")
    }

    /// A token for a job on a branch, as GitHub gives one to the job that asks.
    fn token(&self, audience: &str, branch: &str, repository: &str) -> String {
        let address = self.address();
        let mut curl = Command::new("curl");
        curl.args(["-sSf", "--noproxy", "*", "-G", &format!("{address}/token")]);
        for (name, value) in
            [("audience", audience), ("ref", &format!("refs/heads/{branch}")), ("repository", repository)]
        {
            curl.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        run(curl).succeeds().stdout
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The number of the tests' project.
fn project_number(haar: &Haar) -> String {
    let project =
        haar.api("GET", &format!("cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}"), None);
    project["projectNumber"].as_str().expect("a number").to_owned()
}

#[test]
fn github_deploys_to_staging_from_develop_and_to_production_from_main() {
    let Some(python) = python() else { return skipped("Python's google-auth") };
    if !have("gcloud") || !have("curl") {
        return;
    }
    let haar = Haar::start();
    let issuer = Issuer::start(&haar, &python);
    let number = project_number(&haar);
    let pools = |line: &str| haar.gcloud(&format!("iam workload-identity-pools {line} --location=global"));
    pools("create github --display-name=GitHub").succeeds();
    let mapping = "google.subject=assertion.sub,attribute.repository=assertion.repository,attribute.ref=assertion.ref,attribute.environment=assertion.environment";
    pools(&format!(
        "providers create-oidc actions --workload-identity-pool=github --issuer-uri={} --attribute-mapping={mapping} --attribute-condition=assertion.repository=='haar/app'",
        issuer.address()
    ))
    .succeeds();
    let name = pools("describe github --format=value(name)").succeeds().stdout;
    assert_eq!(name.trim(), format!("projects/{number}/locations/global/workloadIdentityPools/github"));
    assert!(
        pools("providers list --workload-identity-pool=github --format=value(oidc.issuerUri)")
            .succeeds()
            .stdout
            .contains("http://127.0.0.1")
    );

    let pool = name.trim();
    let audience = format!("https://iam.googleapis.com/{pool}/providers/actions");
    for (id, branch) in [("deploy-staging", "develop"), ("deploy-production", "main")] {
        haar.gcloud(&format!("iam service-accounts create {id}")).succeeds();
        haar.gcloud(&format!(
            "iam service-accounts add-iam-policy-binding {id}@{PROJECT}.iam.gserviceaccount.com --role=roles/iam.workloadIdentityUser --member=principalSet://iam.googleapis.com/{pool}/attribute.ref/refs/heads/{branch}"
        ))
        .succeeds();
        haar.gcloud(&format!("secrets create {id} --replication-policy=automatic")).succeeds();
        fs::write(haar.home().join("payload"), branch).expect("a file");
        haar.gcloud(&format!("secrets versions add {id} --data-file=payload")).succeeds();
        haar.gcloud(&format!(
            "secrets add-iam-policy-binding {id} --role=roles/secretmanager.secretAccessor --member=serviceAccount:{id}@{PROJECT}.iam.gserviceaccount.com"
        ))
        .succeeds();
        haar.gcloud(&format!(
            "iam workload-identity-pools create-cred-config {pool}/providers/actions --service-account={id}@{PROJECT}.iam.gserviceaccount.com --credential-source-file={} --output-file={id}.json",
            haar.home().join("token").display()
        ))
        .succeeds();
    }
    let token = |branch: &str, repository: &str| {
        fs::write(haar.home().join("token"), issuer.token(&audience, branch, repository)).expect("a token");
    };
    let read = |id: &str| read_by(&haar, &python, &haar.home().join(format!("{id}.json")), id);

    token("develop", "haar/app");
    assert_eq!(read("deploy-staging"), "read: develop");
    let refusal = read("deploy-production");
    assert!(
        refusal.starts_with("refused:") && refusal.contains("iam.serviceAccounts.getAccessToken"),
        "{refusal}"
    );
    token("main", "haar/app");
    assert_eq!(read("deploy-production"), "read: main");
    assert!(read("deploy-staging").starts_with("refused:"));
    token("main", "evil/app");
    assert!(read("deploy-production").contains("rejected by the attribute condition"));

    token("develop", "haar/app");
    own(&haar, "auth login --cred-file=deploy-staging.json").succeeds();
    assert_eq!(
        own(&haar, "secrets versions access latest --secret=deploy-staging").succeeds().stdout,
        "develop"
    );

    // Directly, without a service account: keys that are written down, and a role for the identity itself.
    let jwks = haar.home().join("issuer/jwks.json");
    pools(&format!(
        "providers update-oidc actions --workload-identity-pool=github --jwk-json-path={}",
        jwks.display()
    ))
    .succeeds();
    haar.gcloud(&format!(
        "secrets add-iam-policy-binding deploy-staging --role=roles/secretmanager.secretAccessor --member=principal://iam.googleapis.com/{pool}/subject/repo:haar/app:ref:refs/heads/develop"
    ))
    .succeeds();
    haar.gcloud(&format!(
        "iam workload-identity-pools create-cred-config {pool}/providers/actions --credential-source-file={} --output-file=direct.json",
        haar.home().join("token").display()
    ))
    .succeeds();
    assert_eq!(read_by(&haar, &python, &haar.home().join("direct.json"), "deploy-staging"), "read: develop");
    own(&haar, "auth login --cred-file=direct.json").succeeds();
    assert!(
        own(&haar, "auth list --format=value(account)")
            .succeeds()
            .stdout
            .contains("principal://iam.googleapis.com/")
    );
    token("main", "haar/app");
    assert!(
        read_by(&haar, &python, &haar.home().join("direct.json"), "deploy-staging").starts_with("denied:")
    );

    pools("update github --disabled").succeeds();
    assert!(
        read_by(&haar, &python, &haar.home().join("direct.json"), "deploy-staging")
            .contains("invalid_target")
    );
    pools("update github --no-disabled").succeeds();
    pools("providers delete actions --workload-identity-pool=github --quiet").succeeds();
    pools("providers undelete actions --workload-identity-pool=github").succeeds();
    pools("delete github --quiet").succeeds();
    assert_eq!(pools("list --format=value(name)").succeeds().stdout.trim(), "");
    pools("undelete github").succeeds();
}

#[test]
fn what_another_signs_is_checked_against_what_is_published() {
    let Some(python) = python() else { return skipped("Python's google-auth") };
    let haar = Haar::start();
    let account = format!("signer@{PROJECT}.iam.gserviceaccount.com");
    let url = format!("iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts");
    haar.api("POST", &url, Some(&json!({"accountId": "signer"})));
    let owner = haar.status()["owner"].as_str().map(str::to_owned);
    let policy = |member: &str| json!({"policy": {"bindings": [{"role": "roles/iam.serviceAccountTokenCreator", "members": [member]}]}});
    let owner = owner.unwrap_or_else(|| {
        let ran = haar.exec(&["sh", "-c", "basename \"$GOOGLE_APPLICATION_CREDENTIALS\" .json"]).succeeds();
        ran.stdout.trim().to_owned()
    });
    haar.api("POST", &format!("{url}/{account}:setIamPolicy"), Some(&policy(&format!("user:{owner}"))));
    let program = client_program("python/signed.py");
    let ran = haar.exec(&[&python.to_string_lossy(), &program, &account]).succeeds();
    assert_eq!(ran.stdout.trim(), "all as on Google", "{ran:?}");
}
