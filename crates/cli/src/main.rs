//! `qga`: talks to the QEMU guest agents of virtual machines.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod exit;
mod fleet;
mod json;
mod output;
mod secret;
mod session;
mod table;
mod target;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(commands::run(&cli::command().get_matches()))
}
