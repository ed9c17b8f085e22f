//! `qga wait`, `ip` and `doctor`, against agents of every make and in every state that does this host no harm.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use qga_testkit::agent::{Program, Setup};
use qga_testkit::fake::Agent;
use serde_json::Value;

const BLOCKED: &str =
    r#"{"error": {"class": "CommandNotFound", "desc": "Command has been disabled for this instance"}}"#;
const FROZEN: &str =
    r#"{"error": {"class": "CommandNotFound", "desc": "Command has been disabled: the agent is in frozen state"}}"#;
const NO_FILE: &str = r#"{"error": {"class": "GenericError", "desc": "failed to open file '/x' (mode: 'r'): No such file or directory"}}"#;

fn qga(socket: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qga"));
    command.env_remove("QGA_TARGET").stdin(Stdio::null()).arg("-t").arg(socket).args(args).output().unwrap()
}

#[track_caller]
fn exits(output: &Output, code: i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The agents that are here: ours, where it is built, and the distribution's.
fn agents() -> Vec<Program> {
    Program::each("a test with real agents", &Path::new(env!("CARGO_BIN_EXE_qga")).with_file_name("qemu-ga"))
}

/// The checks that did not come out well, with their state.
fn faults(output: &Output) -> Vec<(String, String)> {
    let value: Value = serde_json::from_str(stdout(output)).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = value["checks"].as_array().unwrap();
    let bad = checks.iter().filter(|check| check["state"] != "ok");
    bad.map(|check| (text(&check["check"]), text(&check["state"]))).collect()
}

#[test]
fn an_agent_is_waited_for_that_comes_late() {
    for program in agents() {
        let setup = Setup::new(&program);
        let socket = setup.socket();
        let waiting = thread::spawn(move || qga(&socket, &["wait", "--for", "agent", "--timeout", "30s"]));
        thread::sleep(Duration::from_millis(500));
        let _agent = setup.start();
        exits(&waiting.join().unwrap(), 0);
    }
}

#[test]
fn a_file_is_waited_for_and_one_that_does_not_come_is_told_from_an_absent_agent() {
    for program in agents() {
        let agent = Setup::new(&program).start();
        let file = agent.dir().join("file");
        let name = file.to_str().unwrap().to_owned();
        exits(&qga(agent.socket(), &["wait", "--for", &name, "--timeout", "1"]), 121);
        let made = thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            fs::write(file, "").unwrap();
        });
        exits(&qga(agent.socket(), &["wait", "--for", &name, "--timeout", "30"]), 0);
        made.join().unwrap();
        exits(&qga(&agent.dir().join("other"), &["wait", "--for", &name, "--timeout", "1"]), 125);
    }
}

#[test]
fn blocked_frozen_and_starting_are_told_apart() {
    let cases = [
        ("/x", ("guest-file-open", BLOCKED), 126),
        ("/x", ("guest-file-open", FROZEN), 122),
        ("/x", ("guest-file-open", NO_FILE), 121),
        ("/x", ("guest-ping", "{}"), 127),
        ("ip", ("guest-network-get-interfaces", "[]"), 121),
        ("ip", ("guest-network-get-interfaces", ""), 124),
        ("agent", ("guest-ping", "{}"), 0),
        ("agent", ("guest-ping", BLOCKED), 0),
    ];
    for (what, answer, code) in cases {
        let status = if code == 122 { "\"frozen\"" } else { "\"thawed\"" };
        let agent = Agent::start(&[answer, ("guest-fsfreeze-status", status)]);
        exits(&qga(&agent.path(), &["wait", "--for", what, "--timeout", "1"]), code);
    }
}

#[test]
fn a_system_that_has_started_is_seen_by_every_agent() {
    for program in agents() {
        let agent = Setup::new(&program).start();
        let output = qga(agent.socket(), &["--json", "wait", "--for", "boot", "--timeout", "2"]);
        // What this host says of itself is not up to us; but it is one of the two.
        assert!(matches!(output.status.code(), Some(0 | 121)), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn addresses_are_shown_for_people_and_for_scripts() {
    const INTERFACES: &str = r#"[
        {"name": "lo", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}]},
        {"name": "docker0", "hardware-address": "02:42:00:00:00:01",
         "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "172.17.0.1", "prefix": 16}]},
        {"name": "eth0", "hardware-address": "52:54:00:00:00:01", "ip-addresses": [
            {"ip-address-type": "ipv6", "ip-address": "fe80::1", "prefix": 64},
            {"ip-address-type": "ipv6", "ip-address": "2001:db8::1", "prefix": 64},
            {"ip-address-type": "ipv4", "ip-address": "192.0.2.1", "prefix": 24}]}]"#;
    let agent = Agent::start(&[("guest-network-get-interfaces", INTERFACES)]);
    let lines = |args: &[&str]| {
        let output = qga(&agent.path(), &[&["ip"], args].concat());
        exits(&output, 0);
        let first = |line: &str| line.split_whitespace().next().unwrap().to_owned();
        stdout(&output).lines().map(first).collect::<Vec<_>>()
    };
    assert_eq!(lines(&[]), ["ADDRESS", "192.0.2.1", "2001:db8::1", "172.17.0.1"]);
    assert_eq!(lines(&["--first"]), ["192.0.2.1"]);
    assert_eq!(lines(&["--first", "--family", "6"]), ["2001:db8::1"]);
    assert_eq!(lines(&["--first", "--mac", "02-42-00-00-00-01"]), ["172.17.0.1"]);
    assert_eq!(lines(&["--all-addresses"]).len(), 6);
    exits(&qga(&agent.path(), &["ip", "--mac", "52:54:00:00:00:02"]), 1);
    exits(&qga(&agent.path(), &["ip", "--mac", "02:42:00:00:00:01", "--family", "6"]), 1);
    exits(&qga(&agent.path(), &["wait", "--for", "ip"]), 0);
}

#[test]
fn the_doctor_names_what_is_switched_off_in_either_agent() {
    for program in agents() {
        let agent = Setup::new(&program).allow_all().arg("-b").arg("guest-exec,guest-get-users").start();
        let output = qga(agent.socket(), &["--json", "doctor"]);
        exits(&output, 126);
        let faults = faults(&output);
        for check in ["commands", "exec"] {
            assert!(faults.contains(&(check.into(), "warn".into())), "{faults:?}");
        }
        assert!(!faults.iter().any(|(check, state)| check == "files" || state == "fail"), "{faults:?}");
        let text = qga(agent.socket(), &["doctor"]);
        for name in ["guest-exec", "guest-get-users", "block-rpcs"] {
            assert!(stdout(&text).contains(name), "{}", stdout(&text));
        }
    }
}

#[test]
fn the_doctor_finds_an_agent_of_ours_well() {
    for program in agents().into_iter().filter(Program::is_ours) {
        // Nothing here asks it to do any of what is usually blocked.
        let agent = Setup::new(&program).allow_all().start();
        let output = qga(agent.socket(), &["--json", "doctor"]);
        exits(&output, 0);
        assert!(faults(&output).is_empty());
    }
}

#[test]
fn the_doctor_and_wait_see_that_a_c_agent_is_frozen() {
    for program in agents().into_iter().filter(|program| !program.is_ours()) {
        let setup = Setup::new(&program);
        // It believes this file, although nothing is frozen.
        fs::write(setup.state_dir().join("qga.state.isfrozen"), "").unwrap();
        let agent = setup.start();
        let output = qga(agent.socket(), &["--json", "doctor"]);
        exits(&output, 122);
        assert_eq!(faults(&output), [("freeze".into(), "fail".into())]);
        exits(&qga(agent.socket(), &["wait", "--for", "/etc/passwd", "--timeout", "1"]), 122);
        exits(&qga(agent.socket(), &["wait", "--for", "agent"]), 0);
    }
}

#[test]
fn the_doctor_names_the_layer_that_is_broken() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.as_path(), Path::new("/nonexistent/sock")] {
        let output = qga(path, &["--json", "doctor"]);
        exits(&output, 125);
        assert_eq!(faults(&output), [("socket".into(), "fail".into())]);
    }
    // Something that listens and never says a word.
    let socket = directory.path().join("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let output = qga(&socket, &["--json", "doctor", "--timeout", "1"]);
    exits(&output, 125);
    assert_eq!(faults(&output), [("agent".into(), "fail".into())]);
}

#[test]
fn the_doctor_sees_a_clock_that_is_wrong_and_a_release_with_a_hole() {
    const INFO: &str = r#"{"version": "7.2.0", "supported_commands": [
        {"name": "guest-ssh-add-authorized-keys", "enabled": true, "success-response": true}]}"#;
    let agent = Agent::start(&[
        ("guest-ping", "{}"),
        ("guest-fsfreeze-status", "\"thawed\""),
        ("guest-info", INFO),
        ("guest-get-time", "0"),
    ]);
    let output = qga(&agent.path(), &["doctor"]);
    assert!(stdout(&output).contains("CVE-2026-12080"), "{}", stdout(&output));
    assert!(stdout(&output).contains("behind this host's"), "{}", stdout(&output));
}
