//! `qemu-ga`: the QEMU guest agent. Everything is in the library; this is the way in.

use std::process::ExitCode;

fn main() -> ExitCode {
    qemu_ga::start::main()
}
