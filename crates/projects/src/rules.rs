//! What Google demands of a project's settings.

use std::collections::BTreeMap;

use kernel::{Error, Result};

const MAX_LABELS: usize = 256;

/// Checks a display name: 4 to 30 letters, digits, hyphens, quotes, spaces and exclamation marks.
pub(crate) fn check_display_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-'\" !".contains(c);
    if (4..=30).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    let text = "field [display_name] has issue [project display name must be 4 to 30 characters: letters, numbers, \
                single and double quotes, hyphens, spaces and exclamation points]";
    Err(Error::bad_field("project.display_name", text))
}

/// Checks what a folder is called: 3 to 30 letters, digits, spaces, hyphens and underscores, a letter or digit first
/// and last.
pub(crate) fn check_folder_name(name: &str) -> Result<()> {
    let edge = |c: char| c.is_alphanumeric();
    let allowed = |c: char| c.is_alphanumeric() || " -_".contains(c);
    let fits = (3..=30).contains(&name.chars().count());
    if fits && name.starts_with(edge) && name.ends_with(edge) && name.chars().all(allowed) {
        return Ok(());
    }
    let text = "field [display_name] has issue [folder display name must be 3 to 30 characters: letters, digits, spaces, \
                hyphens and underscores, a letter or digit first and last]";
    Err(Error::bad_field("folder.display_name", text))
}

/// Checks labels: at most 256, of lowercase letters, digits, `_` and `-`, a letter first.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let is_value = |text: &str| text.len() <= 63 && text.chars().all(allowed);
    let is_key = |text: &str| text.starts_with(|c: char| c.is_ascii_lowercase()) && is_value(text);
    if labels.len() > MAX_LABELS {
        return Err(Error::bad_field(
            "project.labels",
            format!("A project has at most {MAX_LABELS} labels."),
        ));
    }
    match labels.iter().find(|(key, value)| !is_key(key) || !is_value(value)) {
        Some((key, value)) => Err(Error::bad_field(
            "project.labels",
            format!(
                "Label [{key}: {value}] is not valid: use up to 63 lowercase letters, digits, '_' and '-', a letter first in the key."
            ),
        )),
        None => Ok(()),
    }
}

/// Checks what a project is to belong to: `organizations/NUMBER`, `folders/NUMBER`, or nothing.
pub(crate) fn check_parent(parent: &str) -> Result<()> {
    let number = parent.strip_prefix("organizations/").or_else(|| parent.strip_prefix("folders/"));
    let is_number = |text: &str| (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if parent.is_empty() || number.is_some_and(is_number) {
        return Ok(());
    }
    Err(Error::bad_field(
        "project.parent",
        format!("Parent [{parent}] is not valid: use folders/N or organizations/N."),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_parents_follow_googles_rules() {
        for good in ["My Project", "a-b'c\"d!", "1234"] {
            assert!(check_display_name(good).is_ok(), "{good}");
        }
        for bad in ["", "abc", "émile", "a_b_c", &"x".repeat(31)] {
            assert!(check_display_name(bad).is_err(), "{bad}");
        }
        let label = |key: &str, value: &str| check_labels(&[(key.to_owned(), value.to_owned())].into());
        assert!(label("env", "").is_ok() && label("a_b-1", "1_-").is_ok());
        assert!(label("", "x").is_err() && label("1a", "x").is_err() && label("a", "X").is_err());
        assert!(check_parent("").is_ok() && check_parent("folders/12").is_ok());
        assert!(check_parent("folders/").is_err() && check_parent("projects/1").is_err());
    }
}
