//! The method table: from a call's name to its answer.
//!
//! Both transports come together here. What arrives has a caller who is known and a request that is bytes; what
//! happens then happens in one order for every call: is the API enabled, may the caller, then the handler. All of
//! it runs under the call's deadline and with panics caught, is handed to the audit log where that wants it, and ends in
//! one line of log at debug level that names method, code, time and caller, and never a token or a payload.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use bytes::Bytes;
use kernel::{
    Caller, Method, Principal, Result,
    audit::{Access, Call},
    ports::Audit,
};
use tokio::time::Instant;

use crate::{
    guard,
    permits::{Permit, Permits},
    rest::Router,
};

/// A method, ready to be called.
pub(crate) struct Served {
    method: Method,
    permits: Vec<Permit>,
    /// What it does, by the permission that it asks first; `None` where it asks none.
    access: Option<Access>,
}

impl Served {
    fn compile(method: Method) -> Result<Served, String> {
        let (service, input) = (method.id.host(), method.id.input());
        let permits = method
            .grants
            .iter()
            .map(|grant| Permit::compile(grant, service, input))
            .collect::<Result<_, _>>()
            .map_err(|why| format!("{}: {why}", method.id.name()))?;
        let access = method.grants.first().map(|grant| Access::of(grant.permission));
        Ok(Served { method, permits, access })
    }

    pub(crate) fn id(&self) -> apis::MethodId {
        self.method.id
    }
}

/// All methods that are served.
pub(crate) struct Dispatch {
    served: Vec<Served>,
    by_path: HashMap<&'static str, usize>,
    router: Router,
    permits: Permits,
    audit: Option<Arc<dyn Audit>>,
}

impl Dispatch {
    /// A table of these methods.
    ///
    /// # Errors
    /// Which method is there twice, or asks a permission on a field that it has not.
    pub(crate) fn new(
        methods: Vec<Method>,
        permits: Permits,
        audit: Option<Arc<dyn Audit>>,
    ) -> Result<Dispatch, String> {
        let served: Vec<Served> = methods.into_iter().map(Served::compile).collect::<Result<_, _>>()?;
        let mut by_path = HashMap::with_capacity(served.len());
        for (index, one) in served.iter().enumerate() {
            // What has no proto has no gRPC either, and an empty path.
            let path = one.id().grpc_path();
            if !path.is_empty() && by_path.insert(path, index).is_some() {
                return Err(format!("{path} is served twice"));
            }
        }
        let ids: Vec<_> = served.iter().map(Served::id).collect();
        Ok(Dispatch { router: Router::new(&ids), served, by_path, permits, audit })
    }

    /// The method of a gRPC path.
    pub(crate) fn by_path(&self, path: &str) -> Option<&Served> {
        self.by_path.get(path).map(|index| &self.served[*index])
    }

    /// The routes of the JSON form.
    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    /// The method that a route leads to.
    pub(crate) fn at(&self, index: usize) -> Option<&Served> {
        self.served.get(index)
    }

    /// Makes a call: an encoded request in, an encoded response out.
    ///
    /// # Errors
    /// What the checks or the handler answer, `DEADLINE_EXCEEDED`, or `INTERNAL` for a panic.
    pub(crate) async fn call(
        &self,
        served: &Served,
        caller: Caller,
        request: Bytes,
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>> {
        let logged = tracing::enabled!(tracing::Level::DEBUG).then(|| caller.clone());
        let audited =
            self.audited(served).map(|(audit, access)| (audit, access, caller.clone(), request.clone()));
        let answer = guard::run(deadline, self.checked(served, caller, request)).await;
        note(served, &answer, logged.as_ref());
        if let Some((audit, access, caller, request)) = audited {
            let error = answer.as_ref().err();
            let asked = self.permits.asked(&served.permits, &request, error);
            audit.write(&Call { method: served.id(), access, caller: &caller, asked: &asked, error });
        }
        answer
    }

    /// Who writes down a call of this method, if it may have to be.
    fn audited(&self, served: &Served) -> Option<(&dyn Audit, Access)> {
        let (audit, access) = (self.audit.as_deref()?, served.access?);
        audit.wants(access).then_some((audit, access))
    }

    async fn checked(&self, served: &Served, caller: Caller, request: Bytes) -> Result<Vec<u8>> {
        if *caller.principal() == Principal::Anonymous {
            return Err(kernel::call::missing_credentials());
        }
        self.permits.ask(&served.permits, served.id(), &caller, &request).await?;
        (served.method.handler)(caller, request).await
    }
}

/// Writes down how a call ended; a fault of ours with its cause, whatever the log level.
fn note(served: &Served, answer: &Result<Vec<u8>>, caller: Option<&Caller>) {
    let method = served.id().name();
    if let Err(error) = answer
        && matches!(error.code(), kernel::Code::Internal | kernel::Code::Unknown | kernel::Code::DataLoss)
    {
        tracing::error!(method, ?error, "a call failed by a fault of ours");
    }
    let Some(caller) = caller else { return };
    let code = answer.as_ref().err().map_or("OK", |error| error.code().name());
    let micros =
        SystemTime::now().duration_since(caller.request().time).unwrap_or_default().as_micros() as u64;
    let principal = caller.principal().member().unwrap_or_default();
    tracing::debug!(method, code, micros, principal, "call");
}
