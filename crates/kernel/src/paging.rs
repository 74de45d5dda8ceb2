//! Pages of a listing, and the tokens between them.
//!
//! A token holds the position (the last name of the page before) and a hash of the request it belongs to, so
//! that it cannot be used with another parent or filter (<https://google.aip.dev/158>); the page size may
//! change. It is no secret and grants nothing: a made-up one is at most another position in the same listing.
//!
//! ```
//! use kernel::paging::{Limits, Page};
//! let limits = Limits { usual: 25, most: 100 };
//! let first = Page::new(limits, 2, "", &["projects/p", "filter"])?;
//! let token = first.token("projects/p/secrets/b");
//! let second = Page::new(limits, 2, &token, &["projects/p", "filter"])?;
//! assert_eq!(second.after(), "projects/p/secrets/b");
//! assert!(Page::new(limits, 2, &token, &["projects/other", "filter"]).is_err());
//! # Ok::<_, kernel::Error>(())
//! ```

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{Error, Result};

/// The sizes of a method's pages.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The size when none is asked for.
    pub usual: usize,
    /// The largest one; more is brought down to it, as Google does.
    pub most: usize,
}

/// Which page is asked for.
#[derive(Clone, Debug)]
pub struct Page {
    after: String,
    size: usize,
    binding: Binding,
}

/// The hash that ties a token to its request.
type Binding = [u8; 8];

/// The first byte of every token.
const VERSION: u8 = 1;
/// No token of ours is longer: names have far fewer characters.
const LONGEST: usize = 8192;

impl Page {
    /// The page that a request asks for. `request` is what must stay the same from page to page: the parent,
    /// the filter, the order.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a negative size, and for a token that is not ours or belongs to another request.
    pub fn new(limits: Limits, page_size: i32, page_token: &str, request: &[&str]) -> Result<Self> {
        let size = match usize::try_from(page_size) {
            Ok(0) => limits.usual,
            Ok(size) => size.min(limits.most),
            Err(_) => return Err(Error::bad_field("page_size", "page_size must not be negative")),
        };
        let binding = bind(request);
        let after = if page_token.is_empty() { String::new() } else { position(page_token, binding)? };
        Ok(Page { after, size, binding })
    }

    /// The name after which the page begins; empty for the first page.
    pub fn after(&self) -> &str {
        &self.after
    }

    /// The most entries the page may have.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The token of the page after the one that ends with this name.
    pub fn token(&self, last: &str) -> String {
        let mut token = vec![VERSION];
        token.extend_from_slice(&self.binding);
        token.extend_from_slice(last.as_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Cuts what was read with [`Page::size`]` + 1` as the limit to the page, and gives the next page's token,
    /// empty when this is the last one.
    pub fn cut<T>(&self, mut read: Vec<T>, name: impl FnOnce(&T) -> &str) -> (Vec<T>, String) {
        if read.len() <= self.size {
            return (read, String::new());
        }
        read.truncate(self.size);
        let token = read.last().map_or_else(String::new, |last| self.token(name(last)));
        (read, token)
    }
}

fn position(token: &str, binding: Binding) -> Result<String> {
    let bytes = match token.len() {
        0..=LONGEST => URL_SAFE_NO_PAD.decode(token).ok(),
        _ => None,
    };
    let (bound, position) = bytes
        .as_deref()
        .and_then(|bytes| bytes.strip_prefix(&[VERSION]))
        .and_then(|bytes| bytes.split_first_chunk::<8>())
        .ok_or_else(|| Error::bad_field("page_token", "page_token is not valid"))?;
    if *bound != binding {
        return Err(Error::bad_field("page_token", "page_token doesn't match arguments from the request"));
    }
    String::from_utf8(position.to_vec())
        .map_err(|_| Error::bad_field("page_token", "page_token is not valid"))
}

/// Hashes the parts, each with its length in front, so that no two requests look alike.
fn bind(request: &[&str]) -> Binding {
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in request {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut binding = Binding::default();
    binding.copy_from_slice(&hash.finish().as_ref()[..8]);
    binding
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Code;

    const LIMITS: Limits = Limits { usual: 3, most: 5 };

    #[test]
    fn sizes_follow_the_method() {
        let size = |asked| Page::new(LIMITS, asked, "", &[]).map(|page| page.size());
        assert_eq!((size(0).unwrap(), size(4).unwrap(), size(99).unwrap()), (3, 4, 5));
        let refusal = size(-1).unwrap_err();
        assert_eq!((refusal.code(), refusal.details().len()), (Code::InvalidArgument, 1));
    }

    #[test]
    fn a_listing_is_walked_page_by_page() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let page = Page::new(LIMITS, 3, &token, &["parent"]).unwrap();
            let rest = names.into_iter().filter(|name| *name > page.after());
            let (part, next) = page.cut(rest.take(page.size() + 1).collect(), |name| name);
            seen.extend(part);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, names);
    }

    #[test]
    fn a_token_belongs_to_its_request() {
        let token = Page::new(LIMITS, 1, "", &["ab", "c"]).unwrap().token("x");
        assert!(Page::new(LIMITS, 4, &token, &["ab", "c"]).is_ok(), "the size may change");
        let refusal = Page::new(LIMITS, 1, &token, &["a", "bc"]).unwrap_err();
        assert_eq!(refusal.message(), "page_token doesn't match arguments from the request");
    }

    proptest! {
        #[test]
        fn made_up_tokens_are_refused(token in ".{1,60}") {
            let refused = Page::new(LIMITS, 1, &token, &["p"]).map(|_| ());
            prop_assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
