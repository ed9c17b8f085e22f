//! The project's own commands: `cargo xtask demo`, `test`, `fuzz`, `check`, `bench`, `man`, `dist`.

mod bench;
mod check;
mod debian_rust;
mod demo;
mod dist;
mod fuzz;
mod man;
mod packages;
mod process;
mod python;
mod shipped;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Build everything, boot a throw-away machine and show the agent at work in it
    Demo,
    /// Install what is missing and run every test
    Test(test::Options),
    /// Run fuzz targets for long
    Fuzz(fuzz::Options),
    /// Format, lints, documentation and the rules for source files
    Check,
    /// Measure the agent beside the C agent
    Bench(bench::Options),
    /// Write manual pages and shell completions of qga
    Man,
    /// Build the static programs and pack them with what a distribution needs
    Dist,
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Demo => demo::run(),
        Verb::Test(options) => test::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Check => check::run(),
        Verb::Bench(options) => bench::run(&options),
        Verb::Man => man::run(),
        Verb::Dist => dist::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("xtask: {complaint}");
            ExitCode::FAILURE
        }
    }
}

/// The directory of the workspace.
fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where cargo, and everything here, puts what it makes.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
