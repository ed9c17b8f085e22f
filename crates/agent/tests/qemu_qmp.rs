//! The client library of QEMU's own Python tools, as it is published (`qemu.qmp`), against our agent.

use std::process::Command;

use qga_testkit::agent::finish;
use qga_testkit::{Program, Setup, python};

#[test]
fn qemus_own_client_library_is_served() {
    let Some(interpreter) = python::interpreter("the client library of QEMU") else { return };
    let agent = Setup::new(&Program::ours(env!("CARGO_BIN_EXE_qemu-ga"))).start();
    let mut command = Command::new(interpreter);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/qemu_qmp.py")).arg(agent.socket()).arg(agent.dir());
    let output = finish(command);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), agent.stderr());
}
