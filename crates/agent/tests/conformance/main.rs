//! The same cases against our agent and, where `QGA_UNDER_TEST` names one, against a C agent.
//!
//! A case in which the two differ names an entry of `docs/differences.md`, and fails when there is none: what we do
//! differently is done on purpose and written down.

mod accounts;
mod activation;
mod clients;
mod command_line;
mod damage;
mod devices;
mod differences;
mod exec;
mod files;
mod frozen;
mod info;
mod limits;
mod listening;
mod network;
mod policy;
mod system;
mod vectors;

use std::sync::LazyLock;

use qga_testkit::host::PATIENCE;
use qga_testkit::{Host, Program, Setup, TestAgent};

/// The agent under test.
static PROGRAM: LazyLock<Program> = LazyLock::new(|| Program::under_test(env!("CARGO_BIN_EXE_qemu-ga")));

/// An agent to be set up further.
fn setup() -> Setup {
    Setup::new(&PROGRAM)
}

/// A running agent with nothing special about it, and a connection to it.
fn agent() -> (TestAgent, Host) {
    let agent = setup().start();
    let host = agent.host();
    (agent, host)
}

/// Sends one line as it is and gives the reply as it came, without its line end; the byte 0xFF as `\xff`.
#[track_caller]
fn ask(host: &mut Host, request: &str) -> String {
    host.send_raw(format!("{request}\n").as_bytes()).expect("the agent takes a request");
    read(host)
}

/// The next reply as it came.
#[track_caller]
fn read(host: &mut Host) -> String {
    match host.read_line(PATIENCE) {
        Ok(line) => readable(&line),
        Err(error) => panic!("no reply: {error}"),
    }
}

/// Bytes as text, what is not ASCII as `\xHH`.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            0x20..=0x7e => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// An error reply of class `GenericError`, in the form of [`ask`].
fn failed(desc: &str) -> String {
    format!("{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"{desc}\"}}}}")
}

/// The error reply for a command that may not be called.
fn refused(name: &str) -> String {
    refused_because(name, differences::today_or_7(": the command is not allowed", ""))
}

fn refused_because(name: &str, reason: &str) -> String {
    let desc = format!("Command {name} has been disabled{reason}");
    format!("{{\"error\": {{\"class\": \"CommandNotFound\", \"desc\": \"{desc}\"}}}}")
}
