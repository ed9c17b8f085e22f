//! A command that hangs must not take the agent with it.
//!
//! What hangs is a file of a FUSE file system that only this agent sees (root), or the freeze hook (everybody; the hook
//! fails in the end, so that nothing is ever frozen).

mod causes;
mod matrix;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use qga_testkit::agent::end_of;
use qga_testkit::fuse::{CONTENT, Hanging, OPEN};
use qga_testkit::host::PATIENCE;
use qga_testkit::{Host, Program, Setup, TestAgent, wait};
use rustix::process::Signal;
use serde_json::json;

use matrix::{AT_ONCE, GRACE, ping, resync};

fn setup() -> Setup {
    Setup::new(&Program::ours(env!("CARGO_BIN_EXE_qemu-ga")))
}

/// An agent that sees a directory of files that hang.
fn with_hanging_files(test: &str) -> Option<(TestAgent, Hanging, PathBuf)> {
    let setup = setup();
    let dir = setup.dir().join("hanging");
    fs::create_dir(&dir).unwrap();
    let (setup, hanging) = Hanging::mount(test, setup, &dir)?;
    Some((setup.start(), hanging, dir))
}

/// An agent whose freeze hook hangs until a file appears, and then fails.
fn with_hanging_hook() -> (TestAgent, PathBuf) {
    let setup = setup().allow("guest-fsfreeze-freeze");
    let (hook, go) = (setup.dir().join("hook"), setup.dir().join("go"));
    let script = format!("#!/bin/sh\nwhile [ ! -e '{}' ]; do sleep 0.1; done\nexit 1\n", go.display());
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
    let option = format!("-F{}", hook.display());
    (setup.arg(option).start(), go)
}

fn open(host: &mut Host, path: PathBuf) -> i64 {
    host.call("guest-file-open", json!({ "path": path })).unwrap().as_i64().unwrap()
}

#[test]
fn while_a_read_hangs_a_resynchronisation_is_answered_at_once_and_all_goes_on() {
    let Some((agent, hanging, dir)) = with_hanging_files("a hanging read") else { return };
    let mut host = agent.host();
    let handle = open(&mut host, dir.join("a"));
    host.send("guest-file-read", &json!({ "handle": handle })).unwrap();
    hanging.wait_for(1);
    let took = resync(&mut host);
    eprintln!("resynchronised in {} ms", took.as_millis());
    assert!(took < AT_ONCE, "{took:?}");
    ping(&mut host);
    // Whatever needs a thread gets a fresh one.
    let other = agent.dir().join("other");
    fs::write(&other, "fine").unwrap();
    let other = open(&mut host, other);
    assert_eq!(host.call("guest-file-read", json!({ "handle": other })).unwrap()["count"], 4);
    // And a second host is not concerned at all.
    let begin = Instant::now();
    ping(&mut agent.host());
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

#[test]
fn the_late_reply_of_a_command_that_was_left_behind_never_comes() {
    let Some((agent, hanging, dir)) = with_hanging_files("a late reply") else { return };
    let mut host = agent.host();
    let handle = open(&mut host, dir.join("a"));
    host.send("guest-file-read", &json!({ "handle": handle, "count": CONTENT.len() })).unwrap();
    host.send("guest-info", &json!({})).unwrap();
    hanging.wait_for(1);
    resync(&mut host);
    hanging.release();
    // Now the read ends. Neither its reply nor the one that waited behind it is sent.
    assert_eq!(host.read_until_silence(Duration::from_millis(500)).unwrap(), b"");
    for id in 0..5 {
        assert_eq!(host.call("guest-sync", json!({ "id": id })).unwrap(), id);
    }
    // The handle works again.
    let read = host.call("guest-file-read", json!({ "handle": handle, "count": 4 })).unwrap();
    assert_eq!(read["buf-b64"], "bGF0ZQ==");
}

#[test]
fn while_an_open_hangs_a_plain_sync_is_answered_after_its_grace() {
    let Some((agent, hanging, dir)) = with_hanging_files("a hanging open") else { return };
    let mut host = agent.host();
    host.send("guest-file-open", &json!({ "path": dir.join(format!("{OPEN}a")) })).unwrap();
    hanging.wait_for(1);
    host.send("guest-info", &json!({})).unwrap();
    let begin = Instant::now();
    assert_eq!(host.call_within("guest-sync", json!({ "id": 1763812345678i64 }), PATIENCE).unwrap(), 1763812345678i64);
    let took = begin.elapsed();
    eprintln!("plain sync answered in {} ms", took.as_millis());
    assert!(took > GRACE / 2 && took < GRACE + AT_ONCE * 3, "{took:?}");
    ping(&mut host);
    hanging.release();
    assert_eq!(host.read_until_silence(Duration::from_millis(300)).unwrap(), b"");
}

#[test]
fn a_command_that_ends_within_the_grace_of_a_sync_is_answered_before_it() {
    let (agent, go) = with_hanging_hook();
    let mut host = agent.host();
    host.send("guest-fsfreeze-freeze", &json!({})).unwrap();
    host.send("guest-sync", &json!({ "id": 1 })).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    fs::write(go, "").unwrap();
    let first = host.read_json(PATIENCE).unwrap();
    // On a machine that stands still for a second the freeze is left behind, and that is right too.
    if first != json!({ "return": 1 }) {
        assert!(first["error"]["desc"].as_str().unwrap().contains("hook"), "{first}");
        assert_eq!(host.read_json(PATIENCE).unwrap(), json!({ "return": 1 }));
    }
}

#[test]
fn while_the_freeze_hook_hangs_the_agent_answers_and_never_says_thawed_too_early() {
    let (agent, go) = with_hanging_hook();
    let mut host = agent.host();
    host.send("guest-fsfreeze-freeze", &json!({})).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let took = resync(&mut host);
    assert!(took < AT_ONCE, "{took:?}");
    ping(&mut host);
    // The freeze is still at work, so its state is not known yet.
    host.send("guest-fsfreeze-status", &json!({})).unwrap();
    let early = host.read_until_silence(Duration::from_millis(300)).unwrap();
    assert!(!String::from_utf8_lossy(&early).contains("thawed"), "{early:?}");
    fs::write(go, "").unwrap();
    // Now the hook fails, nothing is frozen, and the one who asked is told so.
    if early.is_empty() {
        assert_eq!(host.read_json(PATIENCE).unwrap(), json!({ "return": "thawed" }));
    }
    let thawed = || (host.call("guest-fsfreeze-status", json!({})) == Ok(json!("thawed"))).then_some(());
    wait::until("the end of the freeze", PATIENCE, thawed);
}

#[test]
fn too_many_commands_that_hang_are_named_and_nothing_of_them_stays() {
    let Some((agent, hanging, dir)) = with_hanging_files("too many that hang") else { return };
    let mut host = agent.host();
    ping(&mut host);
    let fds = agent.fds();
    let files: Vec<i64> = (0..40).map(|number| open(&mut host, dir.join(number.to_string()))).collect();
    let mut refused = None;
    for (number, handle) in files.iter().enumerate() {
        host.send("guest-file-read", &json!({ "handle": handle })).unwrap();
        if let Ok(reply) = host.read_json(Duration::from_millis(300)) {
            refused = Some((number, reply));
            break;
        }
        resync(&mut host);
    }
    let (count, reply) = refused.expect("an end to the threads");
    assert!(count >= 2, "only {count} may hang");
    assert_eq!(reply["error"]["class"], "GenericError");
    let desc = reply["error"]["desc"].as_str().unwrap();
    assert_eq!(desc.matches("guest-file-read").count(), count, "{desc}");
    assert!(agent.threads() <= count as u64 + 3, "{} threads", agent.threads());
    // The core is there all the same.
    assert!(resync(&mut host) < AT_ONCE);
    ping(&mut host);
    host.call("guest-info", json!({})).unwrap();

    hanging.release();
    let works = || host.call("guest-file-read", json!({ "handle": files[0], "count": 4 })).ok();
    let read = wait::until("commands that work again", PATIENCE, works);
    assert_eq!(read["buf-b64"], "bGF0ZQ==");
    for handle in files {
        host.call("guest-file-close", json!({ "handle": handle })).unwrap();
    }
    wait::until("descriptors given back", PATIENCE, || (agent.fds() <= fds).then_some(()));
    wait::until("threads given back", PATIENCE, || (agent.threads() <= 2).then_some(()));
}

#[test]
fn an_agent_with_a_command_that_hangs_ends_when_told_to() {
    let Some((mut agent, hanging, dir)) = with_hanging_files("ending") else { return };
    let mut host = agent.host();
    let handle = open(&mut host, dir.join("a"));
    host.send("guest-file-read", &json!({ "handle": handle })).unwrap();
    hanging.wait_for(1);
    agent.signal(Signal::TERM).unwrap();
    // The kernel keeps what is left of a process until its last system call comes back; but it has ended.
    let dead = || agent.is_dead().then_some(());
    wait::until("the end of the agent", PATIENCE, dead);
    hanging.release();
    assert_eq!(agent.ended(PATIENCE).map(end_of), Some("exit status 0".into()));
}

#[test]
fn a_command_that_ends_soon_is_answered_although_the_agent_was_told_to_end() {
    let Some((mut agent, hanging, dir)) = with_hanging_files("a last command") else { return };
    let mut host = agent.host();
    let handle = open(&mut host, dir.join("a"));
    host.send("guest-file-read", &json!({ "handle": handle, "count": 4 })).unwrap();
    host.send("guest-file-flush", &json!({ "handle": handle })).unwrap();
    hanging.wait_for(1);
    agent.signal(Signal::TERM).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    hanging.release();
    assert_eq!(host.read_json(PATIENCE).unwrap()["return"]["buf-b64"], "bGF0ZQ==");
    // What waited behind it is not begun any more.
    assert_eq!(host.read_json(PATIENCE).unwrap()["error"]["desc"], "the agent is about to end");
    assert_eq!(agent.ended(PATIENCE).map(end_of), Some("exit status 0".into()));
}
