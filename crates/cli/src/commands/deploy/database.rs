//! `--with postgres`: the database of a service, and all that is needed to use it.
//!
//! One Cloud SQL instance is shared by the services of a project; each has a database, a user and a password of its
//! own. The password is made here, once, and kept in Secret Manager only: the service reads it by reference. Whatever
//! is there already is used as it is, so a second deploy makes nothing.

use std::fmt::Write;

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{google::Google, wanted::Wanted};
use crate::{
    commands::sql,
    data::DataDir,
    report::{Doing, Result, Trouble},
};

/// The instance that services share unless another is named.
pub const SHARED: &str = "shared-postgres";
/// Where Cloud Run puts the sockets of databases.
const SOCKETS: &str = "/cloudsql";
/// The port that names PostgreSQL's socket.
const PORT: &str = "5432";
/// The longest name that PostgreSQL keeps whole.
const LONGEST: usize = 63;

/// A database that is ready to be used.
#[derive(Debug)]
pub struct Database {
    /// `PROJECT:REGION:INSTANCE`.
    pub connection_name: String,
    /// The database's name.
    pub name: String,
    /// The user's.
    pub user: String,
    /// The secret that holds the password, and the one that holds the whole address.
    pub secrets: [String; 2],
    /// What had to be made, in words.
    pub made: Vec<String>,
}

impl Database {
    /// The directory of its socket, inside.
    fn host(&self) -> String {
        format!("{SOCKETS}/{}", self.connection_name)
    }

    /// The variables that a service finds it by, as Cloud Run's API has them.
    pub fn variables(&self) -> Vec<Value> {
        let [password, address] = &self.secrets;
        let secret = |name: &str, secret: &str| {
            json!({ "name": name,
                    "valueSource": { "secretKeyRef": { "secret": secret, "version": "latest" } } })
        };
        let plain = |name: &str, value: &str| json!({ "name": name, "value": value });
        vec![
            secret("DATABASE_URL", address),
            plain("DB_HOST", &self.host()),
            plain("DB_PORT", PORT),
            plain("DB_NAME", &self.name),
            plain("DB_USER", &self.user),
            secret("DB_PASSWORD", password),
        ]
    }
}

/// Makes sure that the service's database is there and that its account may use it.
pub fn ensure(data: &DataDir, google: &Google<'_>, wanted: &Wanted, account: &str) -> Result<Database> {
    let mut made = Vec::new();
    let instance = instance(data, google, wanted, &mut made)?;
    let connection_name = instance["connectionName"].as_str().unwrap_or_default().to_owned();
    let name = wanted.name.replace('-', "_").chars().take(LONGEST).collect::<String>();
    let database = Database {
        connection_name,
        user: name.clone(),
        name,
        secrets: [format!("{}-db-password", wanted.name), format!("{}-database-url", wanted.name)],
        made: Vec::new(),
    };
    make_database(google, &database.name, &mut made)?;
    make_user(google, &database, &mut made)?;
    allow(google, &database, account, &mut made)?;
    Ok(Database { made, ..database })
}

fn url(google: &Google<'_>, rest: &str) -> String {
    format!("sqladmin.googleapis.com/v1/projects/{}/instances{rest}", google.project)
}

/// The shared instance, which may take some seconds to make.
fn instance(data: &DataDir, google: &Google<'_>, wanted: &Wanted, made: &mut Vec<String>) -> Result<Value> {
    let this = url(google, &format!("/{SHARED}"));
    if let Some(instance) = google.find(&this)? {
        return Ok(instance);
    }
    let version = newest_version(data)?;
    let body = json!({
        "name": SHARED,
        "region": wanted.region,
        "databaseVersion": version,
        // From PostgreSQL 16 on the edition is Enterprise Plus unless one is named, and that has no small tiers.
        "settings": { "tier": "db-f1-micro", "edition": "ENTERPRISE" },
    });
    google.finish_sql(google.call("POST", &url(google, ""), Some(body))?)?;
    made.push(format!("Cloud SQL instance {SHARED} ({version})"));
    google.call("GET", &this, None)
}

/// The newest PostgreSQL that this machine has, as Cloud SQL names it.
fn newest_version(data: &DataDir) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start")?;
    let (versions, _) = sql::installed(data, &runtime)?;
    match versions.iter().map(|found| found.major).max() {
        Some(major) => Ok(format!("POSTGRES_{major}")),
        None => Err(Trouble::new("there is no PostgreSQL on this machine")
            .next("install it with: haar sql install 16   (or: apt install postgresql)")),
    }
}

fn make_database(google: &Google<'_>, name: &str, made: &mut Vec<String>) -> Result<()> {
    let listed = google.call("GET", &url(google, &format!("/{SHARED}/databases")), None)?;
    if names(&listed).any(|known| known == name) {
        return Ok(());
    }
    let all = url(google, &format!("/{SHARED}/databases"));
    google.finish_sql(google.call("POST", &all, Some(json!({ "name": name })))?)?;
    made.push(format!("database {name}"));
    Ok(())
}

/// The user, and the secrets that hold its password. A user whose password nobody knows any more gets another.
fn make_user(google: &Google<'_>, database: &Database, made: &mut Vec<String>) -> Result<()> {
    let users = url(google, &format!("/{SHARED}/users"));
    let exists = names(&google.call("GET", &users, None)?).any(|known| known == database.user);
    let known = database.secrets.iter().map(|secret| newest(google, secret)).collect::<Result<Vec<_>>>()?;
    if exists && known.iter().all(Option::is_some) {
        return Ok(());
    }
    let password = match known.into_iter().next().flatten() {
        Some(password) => password,
        None => new_password()?,
    };
    let [of_password, of_address] = &database.secrets;
    let address = format!(
        "postgres://{}:{password}@{}/{}",
        database.user,
        percent_encoded(&database.host()),
        database.name
    );
    // Secrets first: a password that was set but not kept could not be found again.
    keep(google, of_password, &password, made)?;
    keep(google, of_address, &address, made)?;
    let body = json!({ "name": database.user, "password": password });
    let operation = match exists {
        true => google.call("PUT", &format!("{users}?name={}", database.user), Some(body))?,
        false => google.call("POST", &users, Some(body))?,
    };
    google.finish_sql(operation)?;
    made.push(format!("user {}", database.user));
    Ok(())
}

fn names(listed: &Value) -> impl Iterator<Item = &str> {
    listed["items"].as_array().into_iter().flatten().filter_map(|item| item["name"].as_str())
}

/// The account may connect to databases, and read these two secrets; nothing else.
fn allow(google: &Google<'_>, database: &Database, account: &str, made: &mut Vec<String>) -> Result<()> {
    let member = format!("serviceAccount:{account}");
    let project = format!("cloudresourcemanager.googleapis.com/v1/projects/{}", google.project);
    if google.grant(&project, "roles/cloudsql.client", &member)? {
        made.push("roles/cloudsql.client on the project".into());
    }
    for secret in &database.secrets {
        if google.grant(&secret_url(google, secret), "roles/secretmanager.secretAccessor", &member)? {
            made.push(format!("roles/secretmanager.secretAccessor on secret {secret}"));
        }
    }
    Ok(())
}

fn secret_url(google: &Google<'_>, secret: &str) -> String {
    format!("secretmanager.googleapis.com/v1/projects/{}/secrets/{secret}", google.project)
}

/// What the newest version of a secret says, if there is one.
fn newest(google: &Google<'_>, secret: &str) -> Result<Option<String>> {
    let url = format!("{}/versions/latest:access", secret_url(google, secret));
    let Some(version) = google.find(&url)? else { return Ok(None) };
    let data = STANDARD.decode(version["payload"]["data"].as_str().unwrap_or_default()).ok();
    Ok(data.and_then(|data| String::from_utf8(data).ok()))
}

/// Keeps this as the newest version of a secret, made if need be.
fn keep(google: &Google<'_>, secret: &str, content: &str, made: &mut Vec<String>) -> Result<()> {
    if newest(google, secret)?.as_deref() == Some(content) {
        return Ok(());
    }
    let all = format!("secretmanager.googleapis.com/v1/projects/{}/secrets", google.project);
    if google.find(&secret_url(google, secret))?.is_none() {
        let body = json!({ "replication": { "automatic": {} } });
        google.call("POST", &format!("{all}?secretId={secret}"), Some(body))?;
        made.push(format!("secret {secret}"));
    }
    let body = json!({ "payload": { "data": STANDARD.encode(content) } });
    google.call("POST", &format!("{all}/{secret}:addVersion"), Some(body))?;
    Ok(())
}

/// 192 random bits, in characters that stand in an address as they are.
fn new_password() -> Result<String> {
    let mut bytes = [0; 24];
    rand::fill(&mut bytes).map_err(|_| Trouble::new("the machine gives no random numbers"))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

/// A socket's directory as the host of an address (RFC 3986, 2.1): its slashes and colons would end the host.
fn percent_encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_host_when_it_is_encoded() {
        assert_eq!(percent_encoded("/cloudsql/p:r:i-1"), "%2Fcloudsql%2Fp%3Ar%3Ai-1");
    }

    #[test]
    fn passwords_need_no_encoding_and_differ() {
        let (one, other) = (new_password().unwrap(), new_password().unwrap());
        assert_eq!(percent_encoded(&one), one);
        assert_ne!(one, other);
        assert_eq!(one.len(), 32);
    }
}
