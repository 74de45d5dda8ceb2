//! The environment of `haar exec`: what makes unmodified clients find haar, trust it and be somebody.
//!
//! Every variable that a client in use looks at is set, in the case it looks for. The bundle of certificates holds
//! our authority and whatever the machine trusted before, because people sit behind corporate proxies that have set
//! these variables already.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    client,
    data::{DataDir, Running},
    report::{Doing, Result, Trouble},
};

/// Variables that name a bundle of certificates, for OpenSSL, Python, curl, gRPC, Node, gcloud, git, AWS, pip, npm,
/// cargo and Nix.
const BUNDLES: [&str; 13] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "npm_config_cafile",
    "CARGO_HTTP_CAINFO",
    "NIX_SSL_CERT_FILE",
];
/// Variables that would be looked at instead.
const UNSET: [&str; 1] = ["SSL_CERT_DIR"];

/// Google's command line, by its file.
const GCLOUD: &str = "gcloud";

/// What a command gets.
pub struct Environment {
    set: BTreeMap<String, String>,
}

impl Environment {
    /// Asks the running haar for credentials and writes the files that the variables name.
    pub fn prepare(data: &DataDir, principal: Option<&str>) -> Result<Self> {
        let running = data.require_running()?;
        let mut set = BTreeMap::new();
        set.extend(proxies(running.listen));
        add_trust(&mut set, data, &running)?;
        add_identity(&mut set, data, &running, principal)?;
        Ok(Environment { set })
    }

    /// The file of certificates that the variables name.
    pub fn bundle(&self) -> &str {
        self.set.get(BUNDLES[0]).map_or("", String::as_str)
    }

    /// The same for a command that is about to be run. Where `gcloud auth login` leads is plain http, to this machine,
    /// which the library that gcloud uses refuses unless told otherwise. Only commands that name gcloud are told
    /// (`env NAME=VALUE gcloud …` is one): an app that does without TLS by mistake has to be refused here too.
    pub fn of_command(mut self, command: &[String]) -> Self {
        if command.iter().any(|word| Path::new(word).file_name().is_some_and(|name| name == GCLOUD)) {
            self.set.insert("OAUTHLIB_INSECURE_TRANSPORT".into(), "1".into());
        }
        self
    }

    /// Gives it to a command.
    pub fn apply(&self, command: &mut Command) {
        command.envs(&self.set);
        for name in UNSET {
            command.env_remove(name);
        }
    }

    /// As shell commands.
    pub fn as_exports(&self) -> String {
        let export =
            |(name, value): (&String, &String)| format!("export {name}='{}'\n", value.replace('\'', "'\\''"));
        let unset = UNSET.iter().map(|name| format!("unset {name}\n"));
        self.set.iter().map(export).chain(unset).collect()
    }

    /// As a JSON object; variables to be unset are null.
    pub fn as_json(&self) -> Value {
        let set = self.set.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        set.chain(UNSET.iter().map(|name| ((*name).to_owned(), Value::Null))).collect()
    }
}

/// The variables by which programs find the way through a proxy of ours at this address.
pub fn proxies(at: SocketAddr) -> impl Iterator<Item = (String, String)> {
    let mut set = BTreeMap::new();
    let proxy = format!("http://{at}");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "grpc_proxy", "GRPC_PROXY"] {
        set.insert(name.into(), proxy.clone());
    }
    // Names under localhost lead to services here, and Python, Go and Node find them only through the proxy; so only
    // plain addresses go past it.
    for name in ["NO_PROXY", "no_proxy"] {
        set.insert(name.into(), "127.0.0.1,::1".into());
    }
    set.insert("NODE_USE_ENV_PROXY".into(), "1".into());
    set.into_iter()
}

fn add_trust(set: &mut BTreeMap<String, String>, data: &DataDir, running: &Running) -> Result<()> {
    let ours = std::fs::read_to_string(data.join("ca/ca.pem")).doing("read the certificate authority")?;
    let trusted: Vec<PathBuf> = BUNDLES.iter().filter_map(std::env::var_os).map(PathBuf::from).collect();
    let bundle = gateway::bundle(&ours, &trusted).doing("put the trusted certificates together")?;
    let path = data.write("exec/bundle.pem", bundle.as_bytes())?.to_string_lossy().into_owned();
    for name in BUNDLES {
        set.insert(name.into(), path.clone());
    }
    let store = data.write("exec/truststore.p12", &gateway::java_store(&bundle))?;
    set.insert("JAVA_TOOL_OPTIONS".into(), java_options(running, &store.to_string_lossy()));
    Ok(())
}

/// Java reads neither proxy nor certificate variables.
pub fn for_java(proxy: SocketAddr, store: &str) -> String {
    let (host, port) = (proxy.ip(), proxy.port());
    format!(
        "-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttps.proxyHost={host} -Dhttps.proxyPort={port} \
         -Dhttp.nonProxyHosts=127.* -Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStoreType=PKCS12"
    )
}

/// What people had set stays in front.
fn java_options(running: &Running, store: &str) -> String {
    let ours = for_java(running.listen, store);
    match std::env::var("JAVA_TOOL_OPTIONS") {
        // Within a `haar exec` they are there already.
        Ok(before) if before.ends_with(&ours) => before,
        Ok(before) => format!("{before} {ours}"),
        Err(_) => ours,
    }
}

fn add_identity(
    set: &mut BTreeMap<String, String>,
    data: &DataDir,
    running: &Running,
    principal: Option<&str>,
) -> Result<()> {
    let credentials = client::credentials(running, principal)?;
    let email = credentials["email"].as_str().ok_or_else(|| Trouble::new("haar gave no credentials"))?;
    if email.contains('/') {
        // An address may hold one, but the name of a file is made of it.
        return Err(Trouble::new(format!("'{email}' cannot be acted as: leave out the slash")));
    }
    let file = data.write(&format!("exec/{email}.json"), credentials["file"].to_string().as_bytes())?;
    let file = file.to_string_lossy().into_owned();
    for (name, value) in [
        ("GOOGLE_APPLICATION_CREDENTIALS", file.as_str()),
        ("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", file.as_str()),
        ("GOOGLE_CLOUD_PROJECT", running.project.as_str()),
        // Without it, gcloud's errors say "authenticated as None".
        ("CLOUDSDK_CORE_ACCOUNT", email),
        ("CLOUDSDK_CORE_PROJECT", running.project.as_str()),
        ("CLOUDSDK_CORE_DISABLE_PROMPTS", "1"),
    ] {
        set.insert(name.into(), value.into());
    }
    if let Some(path) = credentials["sign_in"].as_str() {
        // A person's browser does not come through the proxy: `gcloud auth login` has to lead it here.
        set.insert(
            "CLOUDSDK_AUTH_AUTH_HOST".into(),
            format!("http://localhost:{}{path}", running.listen.port()),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gcloud_may_sign_in_without_tls() {
        let is_told = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let environment = Environment { set: BTreeMap::new() }.of_command(&words);
            environment.set.contains_key("OAUTHLIB_INSECURE_TRANSPORT")
        };
        assert!(is_told("gcloud auth login") && is_told("/opt/google-cloud-sdk/bin/gcloud"));
        assert!(is_told("env BROWSER=none gcloud auth login"));
        assert!(!is_told("python3 app.py") && !is_told("gcloud/run.py") && !is_told(""));
    }
}
