//! One command hangs; everything else has to go on.
//!
//! What hangs is the freeze hook, which ends by itself after a while and then refuses the freeze: nothing is frozen.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use qga_testkit::agent::{Program, Setup, TestAgent};
use qga_testkit::host::{Host, PATIENCE};
use serde_json::{Value, json};

/// How long the hook takes. Whatever is answered before was not waiting for it.
const HANGS: Duration = Duration::from_secs(40);

/// An agent, and a connection on which `guest-fsfreeze-freeze` hangs in its hook.
fn stuck() -> (TestAgent, Host, Instant) {
    let setup = Setup::new(&Program::ours(env!("CARGO_BIN_EXE_qemu-ga"))).allow("guest-fsfreeze-freeze");
    let (hook, called) = (setup.dir().join("hook"), setup.dir().join("called"));
    let script =
        format!("#!/bin/sh\n[ $1 = freeze ] || exit 0\n: >{}\nsleep {}\nexit 1\n", called.display(), HANGS.as_secs());
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let agent = setup.arg(format!("-F{}", hook.display())).start();
    let mut host = agent.host();
    let since = Instant::now();
    host.send("guest-fsfreeze-freeze", &json!({})).unwrap();
    qga_testkit::wait::until("the call of the hook", PATIENCE, || called.exists().then_some(()));
    (agent, host, since)
}

fn answer(host: &mut Host) -> Value {
    host.read_json(PATIENCE).unwrap()
}

#[test]
fn a_hanging_command_holds_up_neither_a_resync_nor_what_follows() {
    let (_agent, mut host, since) = stuck();
    // What was asked for before the resync is dropped with the command that it waited for.
    host.send_raw(b"{\"execute\":\"guest-ping\",\"id\":\"before\"}\n").unwrap();
    host.send_raw(b"\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":7}}\n").unwrap();
    assert_eq!(host.read_line(PATIENCE).unwrap(), b"\xff{\"return\": 7}");
    host.send_raw(b"{\"execute\":\"guest-ping\",\"id\":1}\n").unwrap();
    assert_eq!(answer(&mut host), json!({ "return": {}, "id": 1 }));
    // Not only what runs on the loop.
    host.send("guest-file-open", &json!({ "path": "/proc/self/stat" })).unwrap();
    assert_eq!(answer(&mut host), json!({ "return": 1000 }));
    assert!(since.elapsed() < HANGS, "all this waited for the hook");
}

#[test]
fn a_plain_sync_is_answered_while_a_command_hangs() {
    let (_agent, mut host, since) = stuck();
    host.send_raw(b"{\"execute\":\"guest-sync\",\"arguments\":{\"id\":8}}\n").unwrap();
    assert_eq!(answer(&mut host), json!({ "return": 8 }));
    assert!(since.elapsed() < HANGS, "the answer waited for the hook");
}

#[test]
fn a_command_that_hangs_for_one_client_does_not_hold_up_another() {
    let (agent, _host, since) = stuck();
    let mut other = agent.host();
    assert_eq!(other.call("guest-ping", json!({})), Ok(json!({})));
    assert_eq!(other.call("guest-file-open", json!({ "path": "/proc/self/stat" })), Ok(json!(1000)));
    // What depends on the freeze says how it stands, and not "thawed".
    let status = other.call("guest-fsfreeze-status", json!({})).unwrap_err();
    assert!(status.desc.starts_with("freezing file systems has been going on for "), "{status}");
    assert!(since.elapsed() < HANGS, "all this waited for the hook");
}

#[test]
fn a_command_that_hangs_does_not_keep_the_agent_from_ending() {
    let (mut agent, _host, since) = stuck();
    agent.signal(rustix::process::Signal::TERM).unwrap();
    let status = agent.ended(HANGS).expect("an end");
    assert!(status.success());
    assert!(since.elapsed() < HANGS, "the end waited for the hook");
}
