//! What runs instances here, found out while haar serves already.
//!
//! Trying what the machine allows takes tens of milliseconds, which nobody who only reads a secret should wait for.
//! Whoever starts an instance waits until it is known.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use kernel::{BoxFuture, ports::Logs};
use run::{
    local::{LocalConfig, LocalRuntime, way::Outbound},
    runtime::{Plan, Running, Runtime},
};
use tokio::sync::watch;

use super::{
    DataDir,
    workloads::{Doors, Workloads},
};
use crate::environment;

/// Where instances find the certificates that Java trusts: it looks at none of the usual bundles.
const JAVA_STORE: &str = "/etc/haar/truststore.p12";
/// How many instances are prepared before they are asked for: what a first request waits for least.
const WARM_INSTANCES: usize = 2;

/// The runtime, or why there is none; nothing while that is being found out.
type Found = Option<Result<Arc<LocalRuntime>, String>>;

/// A runtime that is still being prepared. Cheap to clone.
#[derive(Clone)]
pub struct Instances(watch::Receiver<Found>);

impl Instances {
    /// Begins to find out.
    pub fn prepare(
        data: &DataDir,
        authority: String,
        listen: SocketAddr,
        workloads: Arc<Workloads>,
        logs: Arc<dyn Logs>,
        outbound: Outbound,
    ) -> Self {
        let (found, receiver) = watch::channel(None);
        let data = data.clone();
        tokio::spawn(async move {
            let opening = tokio::task::spawn_blocking(move || {
                open(&data, &authority, listen, workloads, logs, outbound)
            });
            let opened = opening.await.unwrap_or_else(|error| Err(error.to_string()));
            if let Err(why) = &opened {
                tracing::error!("no instances can be started: {why}");
            }
            let runtime = opened.as_ref().ok().cloned();
            found.send_replace(Some(opened));
            // The first instances are raised before anybody asks for them.
            if let Some(Err(error)) = match runtime {
                Some(runtime) => Some(runtime.prepare().await),
                None => None,
            } {
                tracing::warn!("no instance could be prepared: {error}");
            }
        });
        Instances(receiver)
    }

    /// What the machine allows, for people.
    pub async fn level(&self) -> String {
        match self.found().await {
            Ok(runtime) => runtime.host().sentence.clone(),
            Err(why) => format!("No instances: {why}"),
        }
    }

    /// What runs the steps of builds.
    pub async fn sandbox(&self) -> Result<sandbox::Sandbox, String> {
        Ok(self.found().await?.sandbox().clone())
    }

    async fn found(&self) -> Result<Arc<LocalRuntime>, String> {
        let mut receiver = self.0.clone();
        match receiver.wait_for(Option::is_some).await.map(|found| found.clone()) {
            Ok(Some(found)) => found,
            _ => Err("haar is stopping".into()),
        }
    }
}

impl Runtime for Instances {
    fn start(&self, plan: Plan) -> BoxFuture<'static, Result<Arc<dyn Running>, String>> {
        let instances = self.clone();
        Box::pin(async move { instances.found().await?.start(plan).await })
    }
}

fn open(
    data: &DataDir,
    authority: &str,
    listen: SocketAddr,
    workloads: Arc<Workloads>,
    logs: Arc<dyn Logs>,
    outbound: Outbound,
) -> Result<Arc<LocalRuntime>, String> {
    let bundle = gateway::bundle(authority, &[]).map_err(|error| error.to_string())?;
    let java_options =
        format!("-Djavax.net.ssl.trustStore={JAVA_STORE} -Djavax.net.ssl.trustStoreType=PKCS12");
    let config = LocalConfig {
        directory: data.make("instances").map_err(|error| error.to_string())?,
        data_id: data.id(),
        files: vec![(JAVA_STORE.into(), gateway::java_store(&bundle))],
        bundle: bundle.into_bytes(),
        env: vec![("JAVA_TOOL_OPTIONS".into(), java_options)],
        plain_env: plain_env(listen),
        isolation: Default::default(),
        public_port: listen.port(),
        warm: WARM_INSTANCES,
        outbound,
    };
    LocalRuntime::open(config, Arc::new(Doors(workloads)), logs).map_err(|error| error.to_string())
}

/// What a plain process needs to find us: it has what `haar exec` gives a command, but is nobody until it asks its
/// metadata server. Where we listen to another machine's callers only, it gets nothing: the proxy is for this machine.
fn plain_env(listen: SocketAddr) -> Vec<(String, String)> {
    let address = match listen.ip() {
        any if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        own if own.is_loopback() => own,
        _ => return Vec::new(),
    };
    let proxy = SocketAddr::new(address, listen.port());
    let java = ("JAVA_TOOL_OPTIONS".to_owned(), environment::for_java(proxy, JAVA_STORE));
    environment::proxies(proxy).chain([java]).collect()
}
