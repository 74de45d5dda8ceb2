//! Paths that Cloud Run keeps to itself.
//!
//! `/eventlog`, whatever begins with `/_ah/`, and some paths that end with `z` (<https://cloud.google.com/run/docs/known-issues>).
//! Which of the last is said nowhere; known are `/healthz` and its like. Here such a request reaches its container, so
//! that it would not there is said in its log entry: as a fact of the first two, as something to expect where the last
//! part of a path is a word that ends with `z`, and not of what only happens to end so, such as an id or a file.

const KEPT: &str = "Cloud Run keeps this path to itself: there, the request would not reach the container.";
const MAYBE: &str = "Cloud Run keeps some paths that end with z to itself, such as /healthz: there, the request may not \
                     reach the container.";

/// What is to be said of a request's URL; empty when nothing is.
pub fn remark_on(url: &str) -> &'static str {
    let (_, after) = url.split_once("://").unwrap_or(("", url));
    let path = after.split_once('/').map_or("", |(_, path)| path);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if path == "eventlog" || path.starts_with("_ah/") {
        return KEPT;
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    let is_word = last.bytes().all(|byte| byte.is_ascii_lowercase());
    if is_word && last.ends_with('z') { MAYBE } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cloud_run_keeps_is_remarked_on() {
        let on = |path: &str| remark_on(&format!("http://tide.example.com:4560/{path}"));
        for path in ["eventlog", "eventlog?from=1", "_ah/warmup"] {
            assert_eq!(on(path), KEPT, "{path}");
        }
        for path in ["healthz", "a/readyz?x=1", "statusz#top"] {
            assert_eq!(on(path), MAYBE, "{path}");
        }
        for path in ["", "health", "eventlog/1", "?q=z", "z/a", "_ah", "notes/4fz", "backup.tar.xz", "Z"] {
            assert_eq!(on(path), "", "{path}");
        }
        assert_eq!(remark_on("http://tide.xyz"), "");
    }
}
