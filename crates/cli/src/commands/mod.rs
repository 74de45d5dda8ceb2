//! A command is a file: its arguments, whose doc comments are its help, and what it does.

pub mod api;
pub mod deploy;
pub mod down;
mod entries;
pub mod env;
pub mod exec;
pub mod iam;
pub mod images;
pub mod logs;
pub mod reset;
pub mod rollout;
pub mod sql;
pub mod status;
pub mod up;

/// Whom `--as` names.
fn address(text: &str) -> Result<String, String> {
    match text.split_once('@') {
        Some((name, host)) if !name.is_empty() && !host.is_empty() => Ok(text.into()),
        _ => Err("give an e-mail address, such as ada@example.com or a service account's".into()),
    }
}
