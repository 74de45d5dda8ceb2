//! Names of logs, and of what holds them.
//!
//! A log's id is percent-encoded within its name: `projects/p/logs/run.googleapis.com%2Fstdout`. Clients send
//! it so, or with the slash, or have it decoded once too often on the way; here every spelling becomes the one.

use std::fmt::Write;

use kernel::{Error, Result};

/// The longest id of a log, in characters.
const LONGEST_ID: usize = 511;

/// The parts of a log's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogName<'a> {
    /// The id or number of the project.
    pub(crate) project: &'a str,
    /// The log's id as the caller spelled it.
    id: &'a str,
}

impl LogName<'_> {
    /// The canonical name, with the project's id.
    pub(crate) fn canonical(&self, project_id: &str) -> String {
        format!("projects/{project_id}/logs/{}", encode(&decode(self.id)))
    }
}

/// Takes a log's name apart.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no such name; `UNIMPLEMENTED` for logs of folders, organizations and billing
/// accounts.
pub(crate) fn log(name: &str) -> Result<LogName<'_>> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let (collection, rest) = bare.split_once('/').ok_or_else(|| bad_log(name))?;
    let (project, id) = rest.split_once("/logs/").ok_or_else(|| bad_log(name))?;
    match collection {
        "projects" => {}
        "organizations" | "folders" | "billingAccounts" => return Err(only_projects()),
        _ => return Err(bad_log(name)),
    }
    let decoded = decode(id);
    let fits = (1..=LONGEST_ID).contains(&decoded.len());
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_-.".contains(&b);
    if project.is_empty() || project.contains('/') || !fits || !decoded.bytes().all(plain) {
        return Err(bad_log(name));
    }
    Ok(LogName { project, id })
}

/// The project of a parent: `projects/P`, or the view of all its logs.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no parent; `UNIMPLEMENTED` for other parents and other views.
pub(crate) fn parent(name: &str) -> Result<&str> {
    let bad = || Error::bad_field("resource_names", format!("Invalid resource name: '{name}'."));
    let (collection, rest) = name.split_once('/').ok_or_else(bad)?;
    match collection {
        "projects" => {}
        "organizations" | "folders" | "billingAccounts" => return Err(only_projects()),
        _ => return Err(bad()),
    }
    match rest.split_once('/') {
        None if !rest.is_empty() => Ok(rest),
        Some((project, "locations/global/buckets/_Default/views/_AllLogs")) if !project.is_empty() => {
            Ok(project)
        }
        Some((_, view)) if view.starts_with("locations/") => Err(Error::unimplemented(
            "Of buckets and views, only 'locations/global/buckets/_Default/views/_AllLogs' is served here.",
        )),
        _ => Err(bad()),
    }
}

fn bad_log(name: &str) -> Error {
    Error::bad_field("log_name", format!("Invalid log name: '{name}'."))
}

fn only_projects() -> Error {
    Error::unimplemented("Only logs of projects are served here.")
}

/// Percent-decodes an id. What is no escape stays as it is.
pub(crate) fn decode(id: &str) -> String {
    let mut bytes = Vec::with_capacity(id.len());
    let mut rest = id.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = escape.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encodes an id.
pub(crate) fn encode(id: &str) -> String {
    let mut encoded = String::with_capacity(id.len() + 2);
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_a_log_is_one_name() {
        let stdout = "projects/my-project/logs/run.googleapis.com%2Fstdout";
        for spelled in [
            stdout,
            "projects/123/logs/run.googleapis.com/stdout",
            "/projects/my-project/logs/run.googleapis.com%2fstdout",
        ] {
            assert_eq!(log(spelled).unwrap().canonical("my-project"), stdout);
        }
        for bad in
            ["", "projects", "projects/p/logs/", "projects//logs/x", "projects/p/logs/a b", "x/p/logs/y"]
        {
            assert!(log(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parents_are_projects() {
        assert_eq!(parent("projects/p").unwrap(), "p");
        assert_eq!(parent("projects/p/locations/global/buckets/_Default/views/_AllLogs").unwrap(), "p");
        for bad in
            ["projects/", "p", "projects/p/x", "folders/1", "projects/p/locations/eu/buckets/b/views/v"]
        {
            assert!(parent(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn ids_survive_encoding(id in "[a-z%/. é]{0,20}") {
            prop_assert_eq!(decode(&encode(&id)), id.clone());
            let _ = (decode(&id), log(&id), parent(&id));
        }
    }
}
