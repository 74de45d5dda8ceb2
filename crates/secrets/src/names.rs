//! The names a caller may give: `projects/P/secrets/S[/versions/V]`, with P an id or a number, and of regional secrets
//! `projects/P/locations/L/secrets/S[/versions/V]`.
//!
//! Only syntax is decided here; whether anything exists is asked later.

use kernel::{
    Error, Result, names,
    regions::{REGIONS, is_region},
};

/// The longest id a secret may have, in characters.
const MAX_SECRET_ID: usize = 255;

/// Where secrets are, as a caller names it: in a project, or in a region of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'n> {
    /// The project's id or number.
    pub(crate) project: &'n str,
    /// The region, of regional secrets.
    pub(crate) location: Option<&'n str>,
}

/// A secret as a caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SecretPath<'n> {
    /// Where it is.
    pub(crate) place: Place<'n>,
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

impl Place<'_> {
    /// The beginning of the names of secrets there, with the project by this name: `projects/P/secrets/`.
    pub(crate) fn secrets(&self, project: impl std::fmt::Display) -> String {
        match self.location {
            Some(location) => format!("projects/{project}/locations/{location}/secrets/"),
            None => format!("projects/{project}/secrets/"),
        }
    }
}

/// Reads `projects/P` or `projects/P/locations/L`.
pub(crate) fn place(name: &str) -> Result<Place<'_>> {
    if let Some([project]) = names::parse(name, ["projects"]) {
        return Ok(Place { project, location: None });
    }
    match names::parse(name, ["projects", "locations"]) {
        Some([project, location]) if is_location(location) => Ok(Place { project, location: Some(location) }),
        _ => Err(malformed(name)),
    }
}

/// Reads `projects/P/secrets/S`.
pub(crate) fn secret(name: &str) -> Result<SecretPath<'_>> {
    let parts = name.rsplit_once("/secrets/").filter(|(_, secret)| is_secret_id(secret));
    let Some((above, secret)) = parts else { return Err(malformed(name)) };
    Ok(SecretPath { place: place(above).map_err(|_| malformed(name))?, secret })
}

/// Reads `projects/P/secrets/S/versions/V`.
pub(crate) fn version(name: &str) -> Result<VersionPath<'_>> {
    let parts = name.rsplit_once("/versions/").and_then(|(above, version)| Some((above, pick(version)?)));
    let Some((above, version)) = parts else { return Err(malformed(name)) };
    Ok(VersionPath { secret: secret(above).map_err(|_| malformed(name))?, version })
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

/// A region of Google's that Secret Manager is not in (<https://cloud.google.com/secret-manager/docs/locations>).
const ABSENT: &str = "asia-southeast3";

/// The regions that secrets can be in, in order.
pub(crate) fn regions() -> impl Iterator<Item = &'static str> {
    REGIONS.into_iter().filter(|region| *region != ABSENT)
}

/// Whether secrets can be there: in a region, such as `europe-west1`.
pub(crate) fn is_location(text: &str) -> bool {
    is_region(text) && text != ABSENT
}

/// The location in the name of a key, `projects/P/locations/L/keyRings/R/cryptoKeys/K`. `None` for what is no such name.
pub(crate) fn key_location(name: &str) -> Option<&str> {
    let parts = names::parse(name, ["projects", "locations", "keyRings", "cryptoKeys"])?;
    let is_id = |id: &&str| id.len() <= 63 && id.bytes().all(is_word_byte);
    parts[2..].iter().all(is_id).then_some(parts[1])
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
    fn regional_names_say_where() {
        let path = version("projects/p/locations/europe-west1/secrets/s/versions/2").unwrap();
        assert_eq!(path.secret.place, Place { project: "p", location: Some("europe-west1") });
        assert_eq!(path.secret.place.secrets(7), "projects/7/locations/europe-west1/secrets/");
        assert_eq!(place("projects/p/locations/europe-west1").unwrap().location, Some("europe-west1"));
        for bad in [
            "projects/p/locations/",
            "projects/p/locations/EU",
            "projects/p/locations/atlantis-west1",
            "projects/p/locations/asia-southeast3",
            "projects/p/regions/eu",
            "projects/p/locations/a/b",
        ] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_have_a_location() {
        assert_eq!(key_location("projects/p/locations/global/keyRings/r/cryptoKeys/k"), Some("global"));
        for bad in [
            "",
            "k",
            "projects/p/locations/global/keyRings/r/cryptoKeys/",
            "projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
            "projects/p/locations/global/keyRings/a b/cryptoKeys/k",
        ] {
            assert_eq!(key_location(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_never_panic_and_say_what_they_read(text in "\\PC{0,60}") {
            if let Ok(path) = secret(&text) {
                prop_assert_eq!([&*path.place.secrets(path.place.project), path.secret].concat(), text.clone());
            }
            if let Ok(VersionPath { secret, version: Pick::Number(number) }) = version(&text) {
                let above = secret.place.secrets(secret.place.project);
                let again = format!("{above}{}/versions/{number}", secret.secret);
                prop_assert_eq!(again, text.clone());
            }
            let _ = (place(&text), key_location(&text));
        }

        #[test]
        fn every_valid_name_is_read(project in "[a-z]{6,9}|[0-9]{12}", id in "[A-Za-z0-9_-]{1,255}", n in 1u64..) {
            let name = format!("projects/{project}/secrets/{id}/versions/{n}");
            let path = version(&name).unwrap();
            prop_assert_eq!((path.secret.place.project, path.secret.secret), (&*project, &*id));
            prop_assert_eq!(path.version, Pick::Number(n));
        }
    }
}
