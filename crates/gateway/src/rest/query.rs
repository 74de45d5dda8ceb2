//! Query strings, and the parameters in them that every API understands.

use std::borrow::Cow;

use http::{HeaderMap, Method};
use kernel::Error;

use crate::json::{Enums, Layout};

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alt {
    /// JSON.
    #[default]
    Json,
    /// The message's bytes.
    Proto,
    /// The contents of an object; only for methods that serve contents.
    Media,
}

/// The system parameters of a request (<https://cloud.google.com/apis/docs/system-parameters>). Those that
/// only say who pays or which client calls are taken out and dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemParams {
    /// `alt`: the form of the answer.
    pub alt: Alt,
    /// `$alt=json;enum-encoding=int`: how enum values are written.
    pub enums: Enums,
    /// `prettyPrint`: whether the answer is laid out for people; it is unless told otherwise.
    pub layout: Layout,
    /// `fields`: which fields are wanted.
    pub fields: Option<String>,
    /// `access_token` or `oauth_token`: credentials, for clients that cannot send headers.
    pub access_token: Option<String>,
    /// `key`: an API key.
    pub key: Option<String>,
}

impl SystemParams {
    /// Reads them from a query (without `?`) and the headers.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a form of answer that there is not, and for `callback`: an answer that is a
    /// script is not given.
    pub fn parse(query: &str, headers: &HeaderMap) -> Result<Self, Error> {
        let mut params = SystemParams::default();
        if let Some(mask) = headers.get("x-goog-fieldmask").and_then(|mask| mask.to_str().ok()) {
            params.fields = Some(mask.to_owned());
        }
        for (name, value) in pairs(query).filter(|(_, value)| !value.is_empty()) {
            match name.as_ref() {
                "alt" | "$alt" => params.alt(&value)?,
                "fields" | "$fields" => params.fields = Some(value.into_owned()),
                "prettyPrint" | "$prettyPrint" | "pp" => {
                    let off = matches!(value.to_ascii_lowercase().as_str(), "false" | "0");
                    params.layout = if off { Layout::Compact } else { Layout::Pretty };
                }
                "access_token" | "oauth_token" => params.access_token = Some(value.into_owned()),
                "key" | "$key" => params.key = Some(value.into_owned()),
                "callback" | "$callback" => {
                    return Err(Error::invalid(
                        "The parameter 'callback' is not supported: answers are JSON, never scripts.",
                    ));
                }
                _ => {}
            }
        }
        Ok(params)
    }

    fn alt(&mut self, value: &str) -> Result<(), Error> {
        let mut parts = value.split(';');
        self.alt = match parts.next().unwrap_or_default() {
            "json" => Alt::Json,
            "proto" => Alt::Proto,
            "media" => Alt::Media,
            other => {
                return Err(Error::invalid(format!(
                    "Invalid value for alt: '{other}'. Use json, proto or media."
                )));
            }
        };
        for part in parts {
            match part.trim() {
                "enum-encoding=int" => self.enums = Enums::Numbers,
                "enum-encoding=string" => self.enums = Enums::Names,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a parameter belongs to the system and never to a request message.
pub(super) fn is_system(name: &str) -> bool {
    name.starts_with('$')
        || matches!(
            name,
            "alt"
                | "fields"
                | "prettyPrint"
                | "pp"
                | "key"
                | "quotaUser"
                | "userIp"
                | "access_token"
                | "oauth_token"
                | "upload_protocol"
                | "uploadType"
                | "callback"
                | "xgafv"
        )
}

/// The verb that a request means: a `POST` may name another in `X-HTTP-Method-Override`.
pub fn verb(method: &Method, headers: &HeaderMap) -> Method {
    let named = headers.get("x-http-method-override").filter(|_| *method == Method::POST);
    let named =
        named.and_then(|name| Method::from_bytes(name.as_bytes().to_ascii_uppercase().as_slice()).ok());
    named.unwrap_or_else(|| method.clone())
}

/// The parameters of a query, their escapes taken out. What is not UTF-8 has replacement characters.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(name), form_decode(value))
    })
}

fn form_decode(text: &str) -> Cow<'_, str> {
    let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    match spaced {
        Cow::Borrowed(text) => percent_decode(text, |_| false).unwrap_or_else(|| lossy(text).into()),
        Cow::Owned(text) => match percent_decode(&text, |_| false) {
            Some(decoded) => decoded.into_owned().into(),
            None => lossy(&text).into(),
        },
    }
}

#[cold]
fn lossy(text: &str) -> String {
    String::from_utf8_lossy(&decode_bytes(text, |_| false)).into_owned()
}

/// Takes the percent escapes out of a text, but for those of bytes that are to be kept. A `%` that begins no
/// escape stays. `None` when the result is not UTF-8.
pub(super) fn percent_decode(text: &str, keep: impl Fn(u8) -> bool) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    String::from_utf8(decode_bytes(text, keep)).ok().map(Cow::Owned)
}

fn decode_bytes(text: &str, keep: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        match escaped(rest).filter(|byte| !keep(*byte)) {
            Some(byte) => {
                decoded.push(byte);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

/// The byte that an escape at the beginning of a text stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let (high, low) = ((*high as char).to_digit(16)?, (*low as char).to_digit(16)?);
    u8::try_from(high * 16 + low).ok()
}
