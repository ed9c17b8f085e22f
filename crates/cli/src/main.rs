//! `qga`: talks to the QEMU guest agent of a virtual machine.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod exit;
mod json;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use qga_client::printable;

use crate::cli::{Cli, Verb};
use crate::commands::Outcome;
use crate::exit::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.verb {
        Verb::Ping => commands::ping::run(&cli),
        Verb::Info => commands::info::run(&cli),
        Verb::Call(call) => commands::call::run(&cli, call),
    };
    match result {
        Ok(outcome) => show(&outcome),
        Err(failure) => complain(&failure, cli.json),
    }
}

/// Prints a result. A reader that has gone away, such as `head`, is no failure.
fn show(outcome: &Outcome) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(outcome.text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => complain(&Failure::Output(error), false),
        _ => {
            if let Some(note) = outcome.note {
                note_on_stderr(&format!("qga: {note}"));
            }
            ExitCode::SUCCESS
        }
    }
}

/// Prints what went wrong and what to do about it on standard error.
fn complain(failure: &Failure, as_json: bool) -> ExitCode {
    if as_json {
        note_on_stderr(&json::compact(&failure.to_json()));
    } else {
        note_on_stderr(&format!("qga: {}", printable(&failure.to_string())));
        if let Some(hint) = failure.hint() {
            note_on_stderr(&format!("hint: {hint}"));
        }
    }
    ExitCode::from(failure.code())
}

/// One line on standard error; there is nowhere to complain about a standard error that does not work.
fn note_on_stderr(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
