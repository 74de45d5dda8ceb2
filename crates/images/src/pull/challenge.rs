//! What a registry wants before it answers: the `WWW-Authenticate` header (RFC 9110, 11.6.1).
//!
//! Only what registries use is understood: `Bearer` with a realm, a service and a scope, and `Basic`. A header may
//! hold several challenges; `Bearer` is preferred. Anything that breaks the grammar ends the reading there.

/// The longest header that is read.
const LONGEST: usize = 8 << 10;

/// How a registry wants its callers to prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from another place, as the distribution specification's token flow has it.
    Bearer {
        /// Where tokens are given out.
        realm: String,
        /// What the token is for; empty when not said.
        service: String,
        /// What the token must allow; empty when not said.
        scope: String,
    },
    /// User and password themselves.
    Basic,
}

impl Challenge {
    /// The first challenge that can be met, of the values of all `WWW-Authenticate` headers.
    pub(crate) fn pick<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut all: Vec<Challenge> = headers.flat_map(read).collect();
        let bearer =
            all.iter().position(|challenge| matches!(challenge, Challenge::Bearer { .. })).unwrap_or(0);
        (!all.is_empty()).then(|| all.swap_remove(bearer))
    }
}

fn read(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = if header.len() > LONGEST { "" } else { header };
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((scheme, after)) = token(rest) else { return found };
        let (parameters, after) = parameters(after);
        found.extend(challenge(scheme, &parameters));
        rest = after;
    }
}

fn challenge(scheme: &str, parameters: &[(&str, String)]) -> Option<Challenge> {
    let value = |name: &str| {
        let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    };
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    Some(Challenge::Bearer {
        realm: value("realm")?,
        service: value("service").unwrap_or_default(),
        scope: value("scope").unwrap_or_default(),
    })
}

/// The `name=value` pairs that follow a scheme, and what comes after them.
fn parameters(text: &str) -> (Vec<(&str, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let start = rest.trim_start_matches([' ', '\t', ',']);
        // What no `=` follows is the next scheme, or nothing that is known.
        let Some((name, after)) = token(start) else { return (found, start) };
        let Some(after) = after.trim_start().strip_prefix('=') else { return (found, start) };
        let Some((value, after)) = value(after.trim_start()) else { return (found, "") };
        found.push((name, value));
        rest = after;
    }
}

/// A value, in quotes or not.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(word, rest)| (word.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

fn token(text: &str) -> Option<(&str, &str)> {
    let belongs = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.into(), scope: scope.into() })
    }

    fn pick(header: &str) -> Option<Challenge> {
        Challenge::pick([header].into_iter())
    }

    #[test]
    fn what_registries_send_is_understood() {
        let hub = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        assert_eq!(
            pick(hub),
            bearer("https://auth.example/token", "registry.example", "repository:a/b:pull,push")
        );
        assert_eq!(
            pick(r#"bearer REALM = "https://a/\"t\"" , service=s"#),
            bearer(r#"https://a/"t""#, "s", "")
        );
        assert_eq!(pick(r#"Basic realm="r", Bearer realm="https://a/t""#), bearer("https://a/t", "", ""));
        assert_eq!(pick(r#"Basic realm="r""#), Some(Challenge::Basic));
        assert_eq!(Challenge::pick(["Negotiate abc==", "Basic realm=r"].into_iter()), Some(Challenge::Basic));
    }

    #[test]
    fn what_cannot_be_met_is_none() {
        for header in
            ["", "Bearer", "Bearer service=s", "Digest realm=\"x\"", "Bearer realm=\"open", "=,=\"", "\u{e9}"]
        {
            assert_eq!(pick(header), None, "{header}");
        }
        assert_eq!(pick(&format!("Basic realm={}", "a".repeat(LONGEST))), None);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "\\PC{0,200}", near in "(Bearer|Basic|[a-z]*|[ ,=\"\\\\])*") {
            let _ = Challenge::pick([text.as_str(), near.as_str()].into_iter());
        }
    }
}
