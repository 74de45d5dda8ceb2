//! The cookie that binds a client to an instance. Cloud Run documents a life of 30 days and best effort.

use std::hash::{Hash, Hasher};

use http::{HeaderMap, HeaderValue, header};

const NAME: &str = "GAESA=";

/// What stands for a name in the cookie.
pub(crate) fn short_hash(name: &str) -> u32 {
    let mut hasher = std::hash::DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() as u32
}

/// To what a client is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) revision: u32,
    pub(crate) instance: u32,
}

impl Bound {
    /// What the request's cookies say, if they say something.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Bound> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = lines.flat_map(|line| line.split(';'));
        let value = cookies.find_map(|cookie| cookie.trim().strip_prefix(NAME))?;
        let (revision, instance) = value.split_at_checked(8)?;
        let number = |digits: &str| u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8);
        Some(Bound { revision: number(revision)?, instance: number(instance)? })
    }

    /// The header that binds a client.
    pub(crate) fn set_cookie(self) -> Option<HeaderValue> {
        let Bound { revision, instance } = self;
        HeaderValue::from_str(&format!("{NAME}{revision:08x}{instance:08x}; Max-Age=2592000; Path=/")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_understood_and_nothing_else_is() {
        let bound = Bound { revision: 0xab, instance: u32::MAX };
        let set = bound.set_cookie().unwrap();
        let value = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        let of = |cookie: &str| Bound::of(&HeaderMap::from_iter([(header::COOKIE, cookie.parse().unwrap())]));
        assert_eq!(of(&format!("a=b; {value}; c=d")), Some(bound));
        for bad in [
            "",
            "GAESA=",
            "GAESA=1",
            "GAESA=000000ab00000",
            "GAESA=+00000ab000000001x",
            "XGAESA=000000ab00000001",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
