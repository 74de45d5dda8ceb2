//! Methods and the HTTP requests that call them.

use std::{fmt, marker::PhantomData};

use super::{
    Message,
    cells::{BINDINGS, METHODS, text},
};
use crate::layout::{binding, method as layout};

/// A method of an API.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId(u16);

impl MethodId {
    /// All methods, in the order of their services' names and their own.
    pub fn all() -> impl ExactSizeIterator<Item = MethodId> {
        (0..METHODS.rows as u16).map(MethodId)
    }

    /// The method of this name, such as `google.cloud.secretmanager.v1.SecretManagerService.AccessSecretVersion`.
    pub fn by_name(name: &str) -> Option<MethodId> {
        let wanted = name.rsplit_once('.')?;
        let row = METHODS.find(|row| text(row[layout::NAME]).rsplit_once('.').cmp(&Some(wanted)))?;
        Some(MethodId(row as u16))
    }

    /// The method that gRPC calls by this path; see [`MethodId::grpc_path`].
    pub fn by_grpc_path(path: &str) -> Option<MethodId> {
        let wanted = path.strip_prefix('/')?.split_once('/')?;
        let row = METHODS.find(|row| text(row[layout::NAME]).rsplit_once('.').cmp(&Some(wanted)))?;
        Some(MethodId(row as u16)).filter(|method| method.grpc_path() == path)
    }

    /// Its path in gRPC, such as `/google.cloud.secretmanager.v1.SecretManagerService/AccessSecretVersion`; empty
    /// where only REST exists.
    pub fn grpc_path(self) -> &'static str {
        text(self.cell(layout::GRPC_PATH))
    }

    /// Its name with the package and the service.
    pub fn name(self) -> &'static str {
        text(self.cell(layout::NAME))
    }

    /// Where it is reached, such as `secretmanager.googleapis.com`. Mixins (locations, operations, policies)
    /// name a host of their own, and are served on the host of each API that has them.
    pub fn host(self) -> &'static str {
        text(self.cell(layout::HOST))
    }

    /// What it takes.
    pub fn input(self) -> Message {
        Message(self.cell(layout::INPUT))
    }

    /// What it gives.
    pub fn output(self) -> Message {
        Message(self.cell(layout::OUTPUT))
    }

    /// Whether it takes a stream.
    pub fn client_streaming(self) -> bool {
        self.cell(layout::SHAPE) & layout::CLIENT_STREAMING != 0
    }

    /// Whether it gives a stream.
    pub fn server_streaming(self) -> bool {
        self.cell(layout::SHAPE) & layout::SERVER_STREAMING != 0
    }

    /// The HTTP requests that call it: the main one first, then the additional ones.
    pub fn bindings(self) -> impl ExactSizeIterator<Item = HttpBinding> {
        let first = self.cell(layout::FIRST_BINDING);
        (first..first + (self.cell(layout::SHAPE) & 0xffff)).map(HttpBinding::at)
    }

    fn cell(self, column: usize) -> u32 {
        METHODS.cell(self.0.into(), column)
    }
}

impl fmt::Debug for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An HTTP request that calls a method, as `google.api.HttpRule` describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpBinding {
    /// The verb, such as `GET`.
    pub verb: &'static str,
    /// The path, such as `/v1/{name=projects/*/secrets/*}`.
    pub template: &'static str,
    /// The field that the body is: empty for no body, `*` for the whole request.
    pub body: &'static str,
    /// The field of the response that is the answer's body: empty for all of it.
    pub response_body: &'static str,
}

impl HttpBinding {
    fn at(row: u32) -> Self {
        let row = BINDINGS.row(row);
        HttpBinding {
            verb: text(row[binding::VERB]),
            template: text(row[binding::TEMPLATE]),
            body: text(row[binding::BODY]),
            response_body: text(row[binding::RESPONSE_BODY]),
        }
    }
}

/// A method together with the types it takes and gives. The generated modules named after services hold one
/// for each method.
pub struct Rpc<Q, S>(MethodId, PhantomData<fn(Q) -> S>);

impl<Q, S> Rpc<Q, S> {
    pub(crate) const fn new(row: u16) -> Self {
        Rpc(MethodId(row), PhantomData)
    }

    /// Which method it is.
    pub const fn id(self) -> MethodId {
        self.0
    }
}

impl<Q, S> Clone for Rpc<Q, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q, S> Copy for Rpc<Q, S> {}

impl<Q, S> fmt::Debug for Rpc<Q, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
