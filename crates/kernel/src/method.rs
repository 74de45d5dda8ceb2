//! A method that a product serves: which call it is, who may make it, and what answers it.
//!
//! A product lists its methods once. Each names the typed constant that the interface tables generate, the
//! permissions that are asked before it runs, and a function from request to response. The gateway knows
//! methods only as bytes in, bytes out; the types are erased here, so that no handler is compiled once per
//! transport.

use std::sync::Arc;

use apis::{MethodId, Rpc};
use bytes::Bytes;
use prost::Message;

use crate::{BoxFuture, Caller, Error, Result};

/// A permission asked before a method runs.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// The permission, such as `secretmanager.secrets.create`.
    pub permission: &'static str,
    /// Where it is asked: a template over the request's string fields, such as `{parent}` or
    /// `{secret.name}`; literal text may stand around the braces.
    pub resource: &'static str,
    /// The service that the resource belongs to, when it is not the method's own: `None` for its own.
    /// Names that end at a project are always Resource Manager's.
    pub service: Option<&'static str>,
}

/// A permission on a resource of the method's own service.
pub const fn grant(permission: &'static str, resource: &'static str) -> Grant {
    Grant { permission, resource, service: None }
}

/// What answers a method: encoded request in, encoded response out.
pub type Handler = Arc<dyn Fn(Caller, Bytes) -> BoxFuture<'static, Result<Vec<u8>>> + Send + Sync>;

/// A method as the gateway serves it.
pub struct Method {
    /// Which call it is.
    pub id: MethodId,
    /// What is asked before it runs, all of it. Empty means anyone who is authenticated.
    pub grants: &'static [Grant],
    /// What answers it.
    pub handler: Handler,
}

/// Makes the methods of one product around its engine.
pub struct Mount<E> {
    engine: Arc<E>,
    methods: Vec<Method>,
}

impl<E: Send + Sync + 'static> Mount<E> {
    /// Starts a list of methods that share an engine.
    pub fn new(engine: Arc<E>) -> Self {
        Mount { engine, methods: Vec::new() }
    }

    /// Serves a method that takes one request and gives one response.
    pub fn unary<Q, S, F, R>(mut self, rpc: Rpc<Q, S>, grants: &'static [Grant], answer: F) -> Self
    where
        Q: Message + Default + Send + 'static,
        S: Message + 'static,
        F: Fn(Arc<E>, Caller, Q) -> R + Send + Sync + 'static,
        R: Future<Output = Result<S>> + Send + 'static,
    {
        let engine = self.engine.clone();
        let handler: Handler = Arc::new(move |caller, bytes| match Q::decode(bytes) {
            Ok(request) => {
                let answered = answer(engine.clone(), caller, request);
                Box::pin(async move { Ok(answered.await?.encode_to_vec()) })
            }
            Err(error) => Box::pin(std::future::ready(Err(malformed(error)))),
        });
        self.methods.push(Method { id: rpc.id(), grants, handler });
        self
    }

    /// The list, finished.
    pub fn done(self) -> Vec<Method> {
        self.methods
    }
}

fn malformed(error: prost::DecodeError) -> Error {
    Error::invalid("Request contains an invalid argument.").because(error)
}
