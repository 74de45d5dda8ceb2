//! Errors as Google's APIs answer them.
//!
//! Every failure that can reach a caller is an [`Error`]: one of the canonical codes, a sentence for the
//! caller, and the typed details that Google's client libraries look at. What is only for the log travels
//! beside it as the [cause](Error::because) and is never sent. The HTTP status and the gRPC status are both
//! derived from the code, once, by the gateway.

use std::{error::Error as StdError, fmt};

use prost::Message;

/// The result of anything a caller can be told about.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Google's canonical codes (`google.rpc.Code`), without `OK`: an error cannot be a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// The caller gave up.
    Cancelled = 1,
    /// The cause is not known.
    Unknown = 2,
    /// The request is wrong whatever the state of the system.
    InvalidArgument = 3,
    /// The deadline passed first.
    DeadlineExceeded = 4,
    /// The named thing does not exist.
    NotFound = 5,
    /// The thing to be made exists already.
    AlreadyExists = 6,
    /// The caller is known and may not do this.
    PermissionDenied = 7,
    /// A quota or another resource has run out.
    ResourceExhausted = 8,
    /// The system is not in the state that the call needs.
    FailedPrecondition = 9,
    /// A concurrent change won; read again and retry.
    Aborted = 10,
    /// Past the end of what can be read.
    OutOfRange = 11,
    /// The method is not served here.
    Unimplemented = 12,
    /// A fault of ours.
    Internal = 13,
    /// Try again later.
    Unavailable = 14,
    /// Data is lost for good.
    DataLoss = 15,
    /// The caller is not known: no credentials, or wrong ones.
    Unauthenticated = 16,
}

impl Code {
    /// The HTTP status of this code, as `google/rpc/code.proto` maps it.
    pub fn http(self) -> u16 {
        match self {
            Code::Cancelled => 499,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::NotFound => 404,
            Code::AlreadyExists | Code::Aborted => 409,
            Code::ResourceExhausted => 429,
            Code::Unknown | Code::Internal | Code::DataLoss => 500,
            Code::Unimplemented => 501,
            Code::Unavailable => 503,
            Code::DeadlineExceeded => 504,
        }
    }

    /// The name that stands in `error.status` of a JSON answer.
    pub fn name(self) -> &'static str {
        match self {
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// One typed detail of an error, as `google/rpc/error_details.proto` defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// `google.rpc.ErrorInfo`: what went wrong, for programs.
    Info {
        /// A constant in UPPER_SNAKE_CASE, such as `IAM_PERMISSION_DENIED`.
        reason: &'static str,
        /// Who defines the reason, such as `iam.googleapis.com`.
        domain: &'static str,
        /// What the reason is about.
        metadata: Vec<(&'static str, String)>,
    },
    /// `google.rpc.BadRequest`: each field that is wrong, by its path.
    BadRequest(Vec<Violation>),
    /// `google.rpc.PreconditionFailure`: each condition that does not hold, as (type, subject, description).
    Precondition(Vec<(String, String, String)>),
    /// `google.rpc.Help`: where to read on, as (description, link).
    Help(Vec<(String, String)>),
    /// `google.rpc.LocalizedMessage` in en-US.
    Localized(String),
    /// `google.rpc.ResourceInfo`: (type, name, owner, description).
    Resource(String, String, String, String),
}

/// A field that is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request, such as `secret.replication`; empty for the request itself.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// Why a call failed. Cheap to move: one pointer.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: String,
    details: Vec<Detail>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $code:ident,)*) => {
        /// One constructor for each code a product answers with.
        impl Error { $( $(#[$doc])* pub fn $name(message: impl Into<String>) -> Self { Self::new(Code::$code, message) } )* }
    };
}

constructors! {
    /// `INVALID_ARGUMENT`: wrong whatever the state.
    invalid => InvalidArgument,
    /// `NOT_FOUND`.
    not_found => NotFound,
    /// `ALREADY_EXISTS`.
    already_exists => AlreadyExists,
    /// `PERMISSION_DENIED`.
    denied => PermissionDenied,
    /// `RESOURCE_EXHAUSTED`.
    exhausted => ResourceExhausted,
    /// `FAILED_PRECONDITION`.
    precondition => FailedPrecondition,
    /// `ABORTED`.
    aborted => Aborted,
    /// `UNIMPLEMENTED`.
    unimplemented => Unimplemented,
    /// `UNAVAILABLE`.
    unavailable => Unavailable,
    /// `UNAUTHENTICATED`.
    unauthenticated => Unauthenticated,
    /// `DEADLINE_EXCEEDED`.
    deadline => DeadlineExceeded,
}

impl Error {
    /// An error of this code, saying this to the caller.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { code, message: message.into(), details: Vec::new(), cause: None }))
    }

    /// `INTERNAL`. The caller learns only that it was our fault; the cause goes to the log.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(Code::Internal, "Internal error encountered.").because(cause)
    }

    /// `INVALID_ARGUMENT` for one field, with the violation that client libraries show.
    pub fn bad_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let description = description.into();
        Self::invalid(description.clone())
            .with(Detail::BadRequest(vec![Violation { field: field.into(), description }]))
    }

    /// Adds a typed detail.
    pub fn with(mut self, detail: Detail) -> Self {
        self.0.details.push(detail);
        self
    }

    /// Adds what caused this, for the log only.
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The canonical code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence for the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The typed details.
    pub fn details(&self) -> &[Detail] {
        &self.0.details
    }

    /// The error as `google.rpc.Status`, details packed, ready for `grpc-status-details-bin` or a JSON answer.
    pub fn to_status(&self) -> apis::google::rpc::Status {
        apis::google::rpc::Status {
            code: self.0.code as i32,
            message: self.0.message.clone(),
            details: self.0.details.iter().map(Detail::pack).collect(),
        }
    }
}

impl Detail {
    fn pack(&self) -> prost_types::Any {
        use apis::google::rpc::*;
        match self {
            Detail::Info { reason, domain, metadata } => pack(
                "google.rpc.ErrorInfo",
                &ErrorInfo {
                    reason: (*reason).into(),
                    domain: (*domain).into(),
                    metadata: metadata.iter().map(|(k, v)| ((*k).into(), v.clone())).collect(),
                },
            ),
            Detail::BadRequest(violations) => pack(
                "google.rpc.BadRequest",
                &BadRequest {
                    field_violations: violations
                        .iter()
                        .map(|v| bad_request::FieldViolation {
                            field: v.field.clone(),
                            description: v.description.clone(),
                            ..Default::default()
                        })
                        .collect(),
                },
            ),
            Detail::Precondition(violations) => pack(
                "google.rpc.PreconditionFailure",
                &PreconditionFailure {
                    violations: violations
                        .iter()
                        .map(|(r#type, subject, description)| precondition_failure::Violation {
                            r#type: r#type.clone(),
                            subject: subject.clone(),
                            description: description.clone(),
                        })
                        .collect(),
                },
            ),
            Detail::Help(links) => pack(
                "google.rpc.Help",
                &Help {
                    links: links
                        .iter()
                        .map(|(description, url)| help::Link {
                            description: description.clone(),
                            url: url.clone(),
                        })
                        .collect(),
                },
            ),
            Detail::Localized(message) => pack(
                "google.rpc.LocalizedMessage",
                &LocalizedMessage { locale: "en-US".into(), message: message.clone() },
            ),
            Detail::Resource(kind, name, owner, description) => pack(
                "google.rpc.ResourceInfo",
                &ResourceInfo {
                    resource_type: kind.clone(),
                    resource_name: name.clone(),
                    owner: owner.clone(),
                    description: description.clone(),
                },
            ),
        }
    }
}

fn pack(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.name(), self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, "; caused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}
