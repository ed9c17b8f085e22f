//! What a benchmark of `iai-callgrind` starts to count its instructions. It has to be of the crate's very version: built
//! here, both come from one lock file and nobody has to install it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match iai_callgrind_runner::runner::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
