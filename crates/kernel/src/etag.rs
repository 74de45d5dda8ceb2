//! Etags: what a client sends back to say which state of a resource it means to change.
//!
//! They come from the revision that wrote the resource, so nothing is stored and none is ever used twice.
//! There are two forms, as in Google's APIs: a quoted string in most resources, and bytes in IAM policies
//! (base64 in JSON; clients decode and encode them again). Policies that were never set have one etag in common.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::store::Revision;

/// The etag of a policy that was never set: `ACAB` in base64.
pub const UNSET: [u8; 3] = [0x00, 0x20, 0x01];

/// The etag of a resource: quoted hex, such as `"00000000001f4a"` with its quotes.
pub fn quoted(revision: Revision) -> String {
    format!("\"{revision:014x}\"")
}

/// The etag of a policy: eight bytes, `BwX…` in base64.
pub fn bytes(revision: Revision) -> Vec<u8> {
    if revision == 0 {
        return UNSET.to_vec();
    }
    let mut etag = revision.to_be_bytes();
    etag[0] = 0x07;
    etag.to_vec()
}

/// The etag of a resource whose state is not one record: made from its content. Quoted base64.
pub fn of_content(content: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    format!("\"{}\"", STANDARD.encode(&digest.as_ref()[..15]))
}

/// Whether a client's etag allows a change of what has this one. None given and `*` allow any; the quotes may
/// be missing, because shells eat them.
pub fn allows(given: &str, current: &str) -> bool {
    matches!(given, "" | "*") || unquoted(given) == unquoted(current)
}

/// Whether a client's etag allows a change of the policy written by this revision (0: never set).
pub fn allows_bytes(given: &[u8], revision: Revision) -> bool {
    given.is_empty() || given == bytes(revision)
}

fn unquoted(etag: &str) -> &str {
    etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_names_one_revision() {
        assert_eq!(quoted(0x1f4a), "\"00000000001f4a\"");
        assert!(allows(&quoted(7), &quoted(7)) && !allows(&quoted(7), &quoted(8)));
        assert!(allows("00000000000007", &quoted(7)), "without quotes");
        assert!(allows("", &quoted(7)) && allows("*", &quoted(7)));
    }

    #[test]
    fn policy_etags_survive_base64() {
        assert_eq!(STANDARD.encode(bytes(0)), "ACAB");
        assert!(STANDARD.encode(bytes(1234)).starts_with("Bw"));
        let returned = STANDARD.decode(STANDARD.encode(bytes(1234))).unwrap();
        assert!(allows_bytes(&returned, 1234) && !allows_bytes(&returned, 1235) && allows_bytes(&[], 5));
    }

    #[test]
    fn content_etags_differ_with_content() {
        assert_eq!(of_content(b"a"), of_content(b"a"));
        assert_ne!(of_content(b"a"), of_content(b"b"));
    }
}
