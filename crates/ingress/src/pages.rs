//! What clients see, and the request log says, when a request does not get an answer from an instance.
//!
//! Statuses, texts and log messages are Cloud Run's, because scripts and people look for them.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{Body, conn::Unconnected, queue::Refusal};

/// Why there is no answer from an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No service has that host, or it may not be called from there.
    NotFound,
    /// No valid identity token.
    Unauthenticated,
    /// No token at all.
    Anonymous,
    /// A valid token without the right to invoke.
    Forbidden,
    BadRequest,
    /// The body is in a form that is not understood here.
    UnknownCoding,
    TooLarge,
    ResponseTooLarge,
    NoInstance,
    NotStarting,
    /// The instance broke the connection or the protocol.
    Broken,
    Timeout,
}

impl Failure {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Failure::NotFound => StatusCode::NOT_FOUND,
            Failure::Unauthenticated => StatusCode::UNAUTHORIZED,
            Failure::Anonymous | Failure::Forbidden => StatusCode::FORBIDDEN,
            Failure::BadRequest => StatusCode::BAD_REQUEST,
            Failure::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Failure::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::ResponseTooLarge => StatusCode::INTERNAL_SERVER_ERROR,
            Failure::NoInstance => StatusCode::TOO_MANY_REQUESTS,
            Failure::NotStarting | Failure::Broken => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What the request log says about it.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Failure::NotFound | Failure::BadRequest | Failure::UnknownCoding => "",
            Failure::Unauthenticated => {
                "The request was not authorized to invoke this service. The access token could not be verified."
            }
            Failure::Forbidden => "The request was not authorized to invoke this service.",
            Failure::Anonymous => {
                "The request was not authenticated. Either allow unauthenticated invocations or set the proper \
                 Authorization header."
            }
            Failure::TooLarge => "The request has failed because the request body was too large.",
            Failure::ResponseTooLarge => {
                "Response size was too large. Please consider reducing response size."
            }
            Failure::NoInstance => "The request was aborted because there was no available instance.",
            Failure::NotStarting | Failure::Broken => {
                "The request failed because either the HTTP response was malformed or connection to the instance \
                 had an error."
            }
            Failure::Timeout => {
                "The request has been terminated because it has reached the maximum request timeout."
            }
        }
    }

    /// The answer to a request for this path.
    pub(crate) fn response(self, path: &str) -> Response<Body> {
        let (kind, text) = self.page(path);
        let length = text.len();
        let mut response = Response::new(Body::whole(text));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if let Some(challenge) = self.challenge() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }

    fn challenge(self) -> Option<&'static str> {
        match self {
            Failure::Unauthenticated => Some(
                r#"Bearer error="invalid_token" error_description="The access token could not be verified""#,
            ),
            Failure::Anonymous => Some("Bearer"),
            _ => None,
        }
    }

    fn page(self, path: &str) -> (&'static str, Bytes) {
        let (heading, text) = match self {
            Failure::NoInstance => return plain("Rate exceeded."),
            Failure::Broken | Failure::NotStarting => return plain("Service Unavailable"),
            Failure::Timeout => return plain("upstream request timeout"),
            Failure::NotFound => ("Page not found", "The requested URL was not found on this server.".to_owned()),
            Failure::BadRequest => ("Bad Request", "Your client has issued a malformed or illegal request.".to_owned()),
            Failure::UnknownCoding => ("Not Implemented", "The request's body has a transfer coding that is not understood.".to_owned()),
            Failure::TooLarge => {
                ("Request Entity Too Large", "Your client issued a request that was too large.".to_owned())
            }
            Failure::ResponseTooLarge => (
                "Server Error",
                "The server encountered an error and could not complete your request.<p>Please try again in 30 seconds."
                    .to_owned(),
            ),
            Failure::Unauthenticated => (
                "Unauthorized",
                format!("Your client does not have permission to the requested URL <code>{}</code>.", escape(path)),
            ),
            Failure::Anonymous | Failure::Forbidden => (
                "Forbidden",
                format!("Your client does not have permission to get URL <code>{}</code> from this server.", escape(path)),
            ),
        };
        ("text/html; charset=UTF-8", self.html(heading, &text).into())
    }

    fn html(self, heading: &str, text: &str) -> String {
        let title = self.status();
        let code = title.as_u16();
        let reason = if heading == "Page not found" || heading == "Server Error" {
            heading
        } else {
            title.canonical_reason().unwrap_or(heading)
        };
        format!(
            "\n<html><head>\n<meta http-equiv=\"content-type\" content=\"text/html;charset=utf-8\">\n\
             <title>{code} {reason}</title>\n</head>\n<body text=#000000 bgcolor=#ffffff>\n\
             <h1>Error: {heading}</h1>\n<h2>{text}</h2>\n<h2></h2>\n</body></html>\n"
        )
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoInstance => Failure::NoInstance,
            Refusal::NotStarting | Refusal::Removed => Failure::NotStarting,
            Refusal::Timeout => Failure::Timeout,
        }
    }
}

impl From<Unconnected> for Failure {
    fn from(reason: Unconnected) -> Self {
        if reason == Unconnected::Late { Failure::Timeout } else { Failure::Broken }
    }
}

fn plain(text: &'static str) -> (&'static str, Bytes) {
    ("text/plain", Bytes::from_static(text.as_bytes()))
}

/// A path as text of an HTML page, at most 2,000 characters of it.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len().min(2000));
    for character in path.chars().take(2000) {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_become_markup() {
        let (_, page) = Failure::Forbidden.page("/<script>&\"'");
        let page = std::str::from_utf8(&page).unwrap();
        assert!(page.contains("<code>/&lt;script&gt;&amp;&quot;&#39;</code>"), "{page}");
    }
}
