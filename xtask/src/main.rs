//! Maintenance commands.
//!
//! `cargo xtask apis` makes the interface tables under `crates/apis/tables` again from what Google publishes;
//! `cargo xtask apis --check` makes them in memory and fails when the committed ones differ.

mod discovery;
mod fetch;
mod list;
mod names;
mod protos;
mod rest;
mod tables;

use std::{env, error::Error, process::ExitCode};

/// What goes wrong here is told to the person at the terminal and needs no kinds.
type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["apis"] => tables::make().and_then(|made| made.write()),
        ["apis", "--check"] => tables::make().and_then(|made| made.check()),
        _ => {
            eprintln!("usage: cargo xtask apis [--check]");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
