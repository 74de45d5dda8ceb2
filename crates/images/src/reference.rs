//! References: `host/path:tag` or `host/path@sha256:…`, as people type them.

use std::fmt;

use crate::{Error, Result};

/// A reference, taken apart and made whole: what was left out is filled in as Docker does (host `docker.io`,
/// `library/` before a single name, tag `latest`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The registry's host, with a port where one was given.
    pub host: String,
    /// The repository below the host.
    pub path: String,
    /// What is asked for of it.
    pub pick: Pick,
}

/// A tag, which can move, or a digest, which cannot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pick {
    /// `:tag`.
    Tag(String),
    /// `@sha256:…`; a tag beside it is ignored.
    Digest(String),
}

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// `Malformed` where a part breaks the grammar of the OCI distribution specification.
    pub fn parse(text: &str) -> Result<Self> {
        let malformed = || {
            Error::Malformed(format!(
                "'{text}' is not an image reference such as us-docker.pkg.dev/project/repository/name:tag"
            ))
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) if is_digest(digest) => (name, Some(digest)),
            Some(_) => return Err(malformed()),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path.to_owned()),
            Some(_) => ("docker.io", name.to_owned()),
            None => ("docker.io", format!("library/{name}")),
        };
        let pick = match (digest, tag) {
            (Some(digest), _) => Pick::Digest(digest.to_owned()),
            (None, tag) => Pick::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let ok =
            text.len() <= 512 && is_host(host) && path.split('/').all(is_component) && tag.is_none_or(is_tag);
        if ok { Ok(Reference { host: host.to_owned(), path, pick }) } else { Err(malformed()) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pick {
            Pick::Tag(tag) => write!(f, "{}/{}:{tag}", self.host, self.path),
            Pick::Digest(digest) => write!(f, "{}/{}@{digest}", self.host, self.path),
        }
    }
}

/// Whether this is `sha256:` and 64 lowercase hexadecimal digits.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'))
        && !text.starts_with(['.', '-', ':'])
}

fn is_component(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|b| inner(*b))
        && bytes.first().is_some_and(|b| edge(*b))
        && bytes.last().is_some_and(|b| edge(*b))
        && !text.contains("..")
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_left_out_is_filled_in() {
        for (typed, whole) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("grafana/loki:2.9", "docker.io/grafana/loki:2.9"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            (
                "us-docker.pkg.dev/cloudrun/container/hello",
                "us-docker.pkg.dev/cloudrun/container/hello:latest",
            ),
            ("gcr.io/p/app:v1.2-rc_3", "gcr.io/p/app:v1.2-rc_3"),
        ] {
            assert_eq!(Reference::parse(typed).unwrap().to_string(), whole);
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            Reference::parse(&format!("gcr.io/p/app:v1@{digest}")).unwrap().pick,
            Pick::Digest(digest)
        );
    }

    #[test]
    fn what_cannot_be_a_reference_is_refused() {
        for bad in [
            "",
            "UPPER/case",
            "gcr.io/p/app:",
            "gcr.io/p/../etc",
            "gcr.io//app",
            "a@sha256:12",
            "gcr.io/p/app:x y",
            "-a.b/c",
            "gcr.io/p/.hidden",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused_and_what_is_taken_reads_back(text in "\\PC{0,80}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
            }
        }
    }
}
