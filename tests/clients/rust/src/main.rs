//! The script of `../calls.json` with Google's Rust libraries and no option: `script rest TABLE CALLER`.
//!
//! These libraries speak HTTP and JSON only.

use std::{collections::HashMap, env, error::Error, fs};

use google_cloud_gax::error::Error as CallError;
use google_cloud_iam_admin_v1::client::Iam;
use google_cloud_iam_credentials_v1::client::IAMCredentials;
use google_cloud_resourcemanager_v3::client::Projects;
use google_cloud_secretmanager_v1::client::SecretManagerService;
use serde_json::{Map, Value, json};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

struct Clients {
    secrets: SecretManagerService,
    accounts: Iam,
    credentials: IAMCredentials,
    projects: Projects,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_, _, table, caller] = &arguments[..] else { return Err("usage: script rest TABLE CALLER".into()) };
    let table: Value = serde_json::from_str(&fs::read_to_string(table)?)?;
    let mut values: HashMap<String, String> = serde_json::from_value(table["values"].clone())?;
    values.insert("project".into(), env::var("GOOGLE_CLOUD_PROJECT")?);
    values.insert("caller".into(), caller.clone());
    let clients = Clients {
        secrets: SecretManagerService::builder().build().await?,
        accounts: Iam::builder().build().await?,
        credentials: IAMCredentials::builder().build().await?,
        projects: Projects::builder().build().await?,
    };
    for (index, entry) in table["calls"].as_array().into_iter().flatten().enumerate() {
        let what = entry["call"].as_str().unwrap_or_default();
        let request = fill(entry["request"].to_string(), &values);
        let outcome = match call(&clients, what, serde_json::from_str(&request)?).await {
            Ok(answer) => {
                for (name, path) in entry["keep"].as_object().into_iter().flatten() {
                    let kept = at(&answer, path).as_str().unwrap_or_default().to_owned();
                    values.insert(name.clone(), kept);
                }
                let paths = entry["show"].as_array().into_iter().flatten();
                let shown: Map<String, Value> = paths
                    .map(|path| (path.as_str().unwrap_or_default().into(), shown(what, &answer, path)))
                    .collect();
                format!("OK | {}", Value::from(shown))
            }
            Err(error) => failure(error)?,
        };
        println!("{:02} | {what} | {outcome}", index + 1);
    }
    Ok(())
}

/// Makes one call, and gives its answer in protobuf's JSON form.
async fn call(clients: &Clients, what: &str, request: Value) -> Result<Value> {
    use google_cloud_iam_admin_v1::model as accounts;
    use google_cloud_iam_credentials_v1::model as credentials;
    use google_cloud_secretmanager_v1::model as secrets;
    use {google_cloud_iam_v1::model as policies, google_cloud_resourcemanager_v3::model as projects};
    macro_rules! calls {
        ($($name:literal => $client:ident.$method:ident($request:ty),)*) => {
            match what {
                $($name => {
                    let request: $request = serde_json::from_value(request)?;
                    serde_json::to_value(clients.$client.$method().with_request(request).send().await?)?
                })*
                unknown => return Err(format!("no such call: {unknown}").into()),
            }
        };
    }
    Ok(calls! {
        "secrets.CreateSecret" => secrets.create_secret(secrets::CreateSecretRequest),
        "secrets.AddSecretVersion" => secrets.add_secret_version(secrets::AddSecretVersionRequest),
        "secrets.AccessSecretVersion" => secrets.access_secret_version(secrets::AccessSecretVersionRequest),
        "secrets.GetSecret" => secrets.get_secret(secrets::GetSecretRequest),
        "secrets.DisableSecretVersion" => secrets.disable_secret_version(secrets::DisableSecretVersionRequest),
        "secrets.UpdateSecret" => secrets.update_secret(secrets::UpdateSecretRequest),
        "secrets.SetIamPolicy" => secrets.set_iam_policy(policies::SetIamPolicyRequest),
        "accounts.CreateServiceAccount" => accounts.create_service_account(accounts::CreateServiceAccountRequest),
        "accounts.CreateServiceAccountKey" =>
            accounts.create_service_account_key(accounts::CreateServiceAccountKeyRequest),
        "accounts.DisableServiceAccountKey" =>
            accounts.disable_service_account_key(accounts::DisableServiceAccountKeyRequest),
        "accounts.SetIamPolicy" => accounts.set_iam_policy(policies::SetIamPolicyRequest),
        "credentials.GenerateAccessToken" =>
            credentials.generate_access_token(credentials::GenerateAccessTokenRequest),
        "credentials.GenerateIdToken" => credentials.generate_id_token(credentials::GenerateIdTokenRequest),
        "credentials.SignBlob" => credentials.sign_blob(credentials::SignBlobRequest),
        "credentials.SignJwt" => credentials.sign_jwt(credentials::SignJwtRequest),
        "projects.GetProject" => projects.get_project(projects::GetProjectRequest),
        "projects.TestIamPermissions" => projects.test_iam_permissions(policies::TestIamPermissionsRequest),
        "projects.GetIamPolicy" => projects.get_iam_policy(policies::GetIamPolicyRequest),
        "projects.SetIamPolicy" => projects.set_iam_policy(policies::SetIamPolicyRequest),
    })
}

/// What Google's status says; any other error ends the script.
fn failure(error: Box<dyn Error>) -> Result<String> {
    let Some(status) = error.downcast_ref::<CallError>().and_then(CallError::status) else {
        return Err(error);
    };
    let details = json!(status.details);
    Ok(format!("{} | {} | {details}", status.code.name(), status.message))
}

/// A text with its `${names}` filled in; values may hold names too.
fn fill(mut text: String, values: &HashMap<String, String>) -> String {
    while text.contains("${") {
        for (name, value) in values {
            text = text.replace(&format!("${{{name}}}"), value);
        }
    }
    text
}

/// A field of an answer as it is shown: the libraries write enums as numbers.
fn shown(what: &str, answer: &Value, path: &Value) -> Value {
    use google_cloud_iam_admin_v1::model::{ServiceAccountKeyAlgorithm, ServiceAccountKeyOrigin};
    use google_cloud_resourcemanager_v3::model::project;
    use google_cloud_secretmanager_v1::model::secret_version;
    let value = at(answer, path);
    let Some(number) = value.as_i64() else { return value };
    let service = what.split('.').next().unwrap_or_default();
    let name = match (service, path.as_str().unwrap_or_default()) {
        ("secrets", "state") => secret_version::State::from(number as i32).name().map(str::to_owned),
        ("projects", "state") => project::State::from(number as i32).name().map(str::to_owned),
        ("accounts", "keyAlgorithm") => {
            ServiceAccountKeyAlgorithm::from(number as i32).name().map(str::to_owned)
        }
        ("accounts", "keyOrigin") => ServiceAccountKeyOrigin::from(number as i32).name().map(str::to_owned),
        _ => return value,
    };
    Value::from(name)
}

/// A field of an answer; null when it is absent or empty.
fn at(answer: &Value, path: &Value) -> Value {
    let names = path.as_str().unwrap_or_default().split('.');
    names.fold(answer, |value, name| &value[name]).clone()
}
