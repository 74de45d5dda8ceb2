//! `haar api --list`: the calls that are answered here, and what each asks of its caller.

use std::{fmt::Write, process::ExitCode};

use serde_json::Value;

use crate::{
    client,
    data::Running,
    report::{self, Doing, Result, Trouble},
};

/// Prints the calls that have this word in their method, address or permissions, whatever its case.
pub fn list(running: &Running, word: &str, json: bool) -> Result<ExitCode> {
    let word = word.to_lowercase();
    let served = client::control(running, "GET", "methods", None)?;
    let wanted: Vec<&Value> = served
        .as_array()
        .into_iter()
        .flatten()
        .filter(|method| method.to_string().to_lowercase().contains(&word))
        .collect();
    if wanted.is_empty() {
        return Err(Trouble::new(format!("no call that is answered here has '{word}' in it"))
            .next("all of them: haar api --list"));
    }
    report::print(match json {
        true => serde_json::to_string_pretty(&wanted).doing("write JSON")? + "\n",
        false => wanted.iter().map(|method| told(method)).collect(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A method for people: its name, then each way to call it, then what it asks.
fn told(method: &Value) -> String {
    let host = method["host"].as_str().unwrap_or_default();
    let mut lines = method["method"].as_str().unwrap_or_default().to_owned() + "\n";
    for call in method["rest"].as_array().into_iter().flatten() {
        let (verb, path) = (call["verb"].as_str().unwrap_or_default(), call["path"].as_str());
        let _ = writeln!(lines, "  {verb:6} {host}{}", path.unwrap_or_default());
    }
    for asked in method["permissions"].as_array().into_iter().flatten() {
        let on = asked["resource"].as_str().unwrap_or_default();
        let _ = writeln!(lines, "  asks   {} on {on}", asked["permission"].as_str().unwrap_or_default());
    }
    lines
}
