//! The names a caller may give: `projects/P/secrets/S[/versions/V]`, with P an id or a number.
//!
//! Only syntax is decided here; whether anything exists is asked later. Regional names
//! (`projects/P/locations/L/secrets/S`) are recognised so that they can be declined by what they are.

use kernel::{Error, Result, names};

/// The longest id a secret may have, in characters.
const MAX_SECRET_ID: usize = 255;

/// A secret as a caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SecretPath<'n> {
    /// The project's id or number.
    pub(crate) project: &'n str,
    /// The secret's id.
    pub(crate) secret: &'n str,
}

/// A version as a caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VersionPath<'n> {
    /// The secret it belongs to.
    pub(crate) secret: SecretPath<'n>,
    /// Which one.
    pub(crate) version: Pick<'n>,
}

/// How a caller picks a version of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick<'n> {
    /// By its number.
    Number(u64),
    /// `latest`: the one added last, whatever its state.
    Latest,
    /// By an alias of the secret.
    Alias(&'n str),
}

/// Reads the project out of `projects/P`.
pub(crate) fn project(name: &str) -> Result<&str> {
    decline_regional(name)?;
    match names::parse(name, ["projects"]) {
        Some([project]) => Ok(project),
        None => Err(malformed(name)),
    }
}

/// Reads `projects/P/secrets/S`.
pub(crate) fn secret(name: &str) -> Result<SecretPath<'_>> {
    decline_regional(name)?;
    match names::parse(name, ["projects", "secrets"]) {
        Some([project, secret]) if is_secret_id(secret) => Ok(SecretPath { project, secret }),
        _ => Err(malformed(name)),
    }
}

/// Reads `projects/P/secrets/S/versions/V`.
pub(crate) fn version(name: &str) -> Result<VersionPath<'_>> {
    decline_regional(name)?;
    let parts = names::parse(name, ["projects", "secrets", "versions"]);
    let Some([project, secret, version]) = parts else { return Err(malformed(name)) };
    match pick(version) {
        Some(version) if is_secret_id(secret) => {
            Ok(VersionPath { secret: SecretPath { project, secret }, version })
        }
        _ => Err(malformed(name)),
    }
}

/// Checks the id of a secret that is to be created.
///
/// # Errors
/// `INVALID_ARGUMENT` unless it has 1 to 255 ASCII letters, digits, hyphens and underscores.
pub(crate) fn check_secret_id(id: &str) -> Result<()> {
    if is_secret_id(id) {
        return Ok(());
    }
    let rule = "Secret ids have 1 to 255 letters, digits, hyphens and underscores.";
    Err(Error::bad_field("secret_id", format!("Secret ID [{id}] is not in a valid format. {rule}")))
}

/// Whether text can be an alias: a letter, then letters, digits, hyphens and underscores, 63 in all, and
/// neither `latest` nor `NEW`.
pub(crate) fn is_alias(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(is_word_byte)
        && !matches!(text, "latest" | "NEW")
}

fn pick(version: &str) -> Option<Pick<'_>> {
    match version {
        "latest" => Some(Pick::Latest),
        alias if is_alias(alias) => Some(Pick::Alias(alias)),
        number => canonical_number(number).map(Pick::Number),
    }
}

/// A version's number in the one form it has: decimal digits, no sign, no leading zero.
fn canonical_number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}

fn is_secret_id(id: &str) -> bool {
    (1..=MAX_SECRET_ID).contains(&id.len()) && id.bytes().all(is_word_byte)
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn malformed(name: &str) -> Error {
    Error::invalid(format!("Resource ID [{name}] is not in a valid format."))
}

fn decline_regional(name: &str) -> Result<()> {
    let mut segments = name.split('/');
    if segments.next() == Some("projects") && segments.nth(1) == Some("locations") {
        return Err(Error::unimplemented("Regional secrets are not served; use projects/*/secrets/*."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kernel::Code;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_picked_by_number_alias_or_latest() {
        let pick = |name| version(name).map(|path| path.version).map_err(|error| error.code());
        assert_eq!(pick("projects/p/secrets/s/versions/12"), Ok(Pick::Number(12)));
        assert_eq!(pick("projects/p/secrets/s/versions/latest"), Ok(Pick::Latest));
        assert_eq!(pick("projects/p/secrets/s/versions/prod-1"), Ok(Pick::Alias("prod-1")));
        for bad in ["0", "01", "+1", "-1", "1a", "NEW", "99999999999999999999", "", "a/b"] {
            let name = format!("projects/p/secrets/s/versions/{bad}");
            assert_eq!(version(&name).map_err(|error| error.code()), Err(Code::InvalidArgument), "{name}");
        }
    }

    #[test]
    fn secret_ids_follow_googles_rule() {
        for good in ["a", "A-b_9", "-", "0", &"x".repeat(255)] {
            assert!(check_secret_id(good).is_ok(), "{good}");
        }
        for bad in ["", "a b!", "a/b", "a.b", "é", &"x".repeat(256)] {
            assert!(check_secret_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn regional_names_are_declined_by_what_they_are() {
        let error = secret("projects/p/locations/europe-west1/secrets/s").unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
        assert_eq!(project("projects/p/locations/europe-west1").unwrap_err().code(), Code::Unimplemented);
    }

    proptest! {
        #[test]
        fn names_never_panic_and_say_what_they_read(text in "\\PC{0,60}") {
            if let Ok(path) = secret(&text) {
                prop_assert_eq!(format!("projects/{}/secrets/{}", path.project, path.secret), text.clone());
            }
            if let Ok(VersionPath { secret, version: Pick::Number(number) }) = version(&text) {
                let again = format!("projects/{}/secrets/{}/versions/{number}", secret.project, secret.secret);
                prop_assert_eq!(again, text.clone());
            }
            let _ = project(&text);
        }

        #[test]
        fn every_valid_name_is_read(project in "[a-z]{6,9}|[0-9]{12}", id in "[A-Za-z0-9_-]{1,255}", n in 1u64..) {
            let name = format!("projects/{project}/secrets/{id}/versions/{n}");
            let path = version(&name).unwrap();
            prop_assert_eq!((path.secret.project, path.secret.secret), (&*project, &*id));
            prop_assert_eq!(path.version, Pick::Number(n));
        }
    }
}
