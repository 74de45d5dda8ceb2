//! The `haar` binary: arguments, and the place where products are joined to the port.
//!
//! A command is a file under [`commands`]: its arguments, whose doc comments are the help text, and one
//! function. [`server`] is the composition root, the only place that knows every product. Everything that a
//! command prints for a person goes to standard error, except what the person asked for.

// A binary has no outside: `pub` here means visible to the other modules.
#![allow(unreachable_pub)]
// They panic where nobody reads any more; see `report`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod address;
mod args;
mod capture;
mod client;
mod commands;
mod data;
mod environment;
mod report;
mod run_directory;
mod server;
mod supervisor;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

fn main() -> ExitCode {
    // Both take this process over if it was started for them: the helper that starts instances must have no threads.
    sandbox::helper::entry();
    if let Err(error) = images::serve_if_asked() {
        report::tell!("cannot serve: {error}");
        return ExitCode::FAILURE;
    }
    // The kernel registers a process for cheap barriers at once while it has one thread, and within 15 ms later.
    kernel::mirror::prepare();
    // How a running haar is told from another process that got its pid, whatever its file is called.
    let _ = rustix::thread::set_name(data::PROCESS_NAME);
    // Not left to clap, to which a variable such as HAAR_DATA is an argument too.
    if std::env::args_os().len() < 2 {
        report::say(format_args!("{}", args::Haar::command().render_help()));
        return ExitCode::from(2);
    }
    match args::Haar::parse().run() {
        Ok(code) => code,
        Err(error) => {
            error.print();
            ExitCode::FAILURE
        }
    }
}
