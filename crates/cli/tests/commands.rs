//! What the commands send and show.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use qga_testkit::fake::Agent;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

fn qga(agent: &Agent, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qga"));
    command.args(args).env("QGA_TARGET", agent.path()).stdin(Stdio::null());
    command
}

fn text(output: Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).expect("only text is printed")
}

/// The one request that a command sends to an agent that says `{}` to everything like it.
fn request(name: &str, args: &[&str]) -> Value {
    let agent = Agent::start(&[(name, "{}")]);
    text(qga(&agent, args).output().unwrap());
    let mut requests = agent.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = requests.remove(0);
    assert_eq!(request["execute"], name);
    request["arguments"].clone()
}

#[test]
fn json_is_exactly_what_the_agent_said() {
    let said = r#"[{"name":"vda1","mountpoint":"/","type":"ext4","new-member":[1,null]}]"#;
    let agent = Agent::start(&[("guest-get-fsinfo", said)]);
    let shown: Value = serde_json::from_str(&text(qga(&agent, &["df", "--json"]).output().unwrap())).unwrap();
    assert_eq!(shown, serde_json::from_str::<Value>(said).unwrap());
    let table = text(qga(&agent, &["df"]).output().unwrap());
    assert_eq!(table.lines().next_back().unwrap().split_whitespace().next_back(), Some("/"));
}

#[test]
fn no_table_has_an_escape_sequence_without_a_terminal() {
    let users = r#"[{"user": "\u001b]0;x\u0007", "login-time": 1.5}]"#;
    let agent = Agent::start(&[("guest-get-users", users)]);
    let table = text(qga(&agent, &["users"]).output().unwrap());
    assert!(!table.contains('\x1b') && table.contains("\\x1b]0;x\\x07"), "{table}");
}

#[test]
fn a_command_that_an_agent_may_not_have_leaves_a_gap_and_no_error() {
    let agent = Agent::start(&[
        ("guest-get-osinfo", r#"{"id": "debian"}"#),
        ("guest-get-timezone", r#"{"error": {"class": "GenericError", "desc": "no"}}"#),
    ]);
    let shown: Value = serde_json::from_str(&text(qga(&agent, &["os", "--json"]).output().unwrap())).unwrap();
    assert_eq!(shown, json!({"id": "debian", "host-name": null, "timezone": null}));
    assert_eq!(text(qga(&agent, &["os"]).output().unwrap()), "id  debian\n");
}

#[test]
fn trim_says_how_small_is_too_small() {
    assert_eq!(request("guest-fstrim", &["trim"]), json!({}));
    assert_eq!(request("guest-fstrim", &["trim", "--minimum", "4096"]), json!({"minimum": 4096}));
}

#[test]
fn the_clock_is_set_to_that_of_this_host() {
    let agent = Agent::start(&[("guest-set-time", "{}"), ("guest-get-time", "1700000000000000000")]);
    let shown = text(qga(&agent, &["time", "--set"]).output().unwrap());
    assert!(shown.starts_with("2023-11-14T22:13:20Z, ") && shown.ends_with(" behind this host\n"), "{shown}");
    let set = agent.requests()[0]["arguments"]["time"].as_i64().unwrap();
    assert!(set > 1_700_000_000_000_000_000, "{set}");
    assert_eq!(agent.requests()[0]["execute"], "guest-set-time");
}

#[test]
fn keys_come_from_the_command_line_and_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.pub");
    fs::write(&file, "# mine\nssh-ed25519 AAAA ann@host\n\nssh-rsa BBBB\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        request("guest-ssh-add-authorized-keys", &["keys", "add", "ann", "ssh-rsa CCCC", "-f", file, "--reset"]),
        json!({"username": "ann", "keys": ["ssh-rsa CCCC", "ssh-ed25519 AAAA ann@host", "ssh-rsa BBBB"], "reset": true})
    );
    assert_eq!(
        request("guest-ssh-remove-authorized-keys", &["keys", "remove", "ann", "-f", file]),
        json!({"username": "ann", "keys": ["ssh-ed25519 AAAA ann@host", "ssh-rsa BBBB"]})
    );
    let agent = Agent::start(&[("guest-ssh-get-authorized-keys", r#"{"keys": ["ssh-rsa A\u001b", "ssh-rsa B"]}"#)]);
    assert_eq!(text(qga(&agent, &["keys", "list", "ann"]).output().unwrap()), "ssh-rsa A\\x1b\nssh-rsa B\n");
}

#[test]
fn a_private_key_is_never_sent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("id_rsa");
    fs::write(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n").unwrap();
    let agent = Agent::start(&[]);
    let output = qga(&agent, &["keys", "add", "ann", "-f", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("private key"));
    assert!(agent.requests().is_empty());
}

#[test]
fn a_password_is_one_line_of_standard_input() {
    let agent = Agent::start(&[("guest-set-user-password", "{}")]);
    for (input, password, args) in [
        ("pass word\nrest\n", "cGFzcyB3b3Jk", &["passwd", "ann"][..]),
        ("$6$x", "JDYkeA==", &["passwd", "ann", "--crypted"]),
    ] {
        let mut child = qga(&agent, args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert_eq!(text(child.wait_with_output().unwrap()), "the password is set\n");
        let sent = agent.requests().pop().unwrap()["arguments"].clone();
        assert_eq!(sent, json!({"username": "ann", "password": password, "crypted": args.len() == 3}));
    }
    let output = qga(&agent, &["passwd", "ann"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "an empty password is none");
}

#[test]
fn shutdown_reboot_and_suspend_say_that_silence_is_success() {
    // An agent that goes down closes the connection, so that there is nothing to wait for.
    for (args, name, mode) in [
        (&["shutdown"][..], "guest-shutdown", json!({"mode": "powerdown"})),
        (&["shutdown", "--halt"], "guest-shutdown", json!({"mode": "halt"})),
        (&["reboot"], "guest-shutdown", json!({"mode": "reboot"})),
        (&["suspend"], "guest-suspend-ram", json!({})),
        (&["suspend", "hybrid"], "guest-suspend-hybrid", json!({})),
    ] {
        let agent = Agent::start(&[(name, "")]);
        let output = qga(&agent, &[&["--timeout", "0.5"], args].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stderr).contains("sent; this command answers only when it fails"));
        assert_eq!(agent.requests()[0]["arguments"], mode);
    }
    let refusal = r#"{"error": {"class": "GenericError", "desc": "no"}}"#;
    let agent = Agent::start(&[("guest-suspend-disk", refusal)]);
    assert_eq!(qga(&agent, &["suspend", "disk"]).output().unwrap().status.code(), Some(1));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let agent = Agent::start(&[]);
    for shell in ["bash", "zsh", "fish"] {
        let script = text(qga(&agent, &["completion", shell]).output().unwrap());
        for word in ["routes", "passwd", "completion"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    text(qga(&agent, &["man", dir.path().to_str().unwrap()]).output().unwrap());
    for page in ["qga.1", "qga-df.1", "qga-keys-add.1"] {
        let page = fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
}

#[test]
fn a_password_typed_at_a_terminal_is_not_shown_and_must_be_typed_twice_alike() {
    for (second, code) in [("s3cret", 0), ("s3cert", 2)] {
        let agent = Agent::start(&[("guest-set-user-password", "{}")]);
        let qemu = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&qemu).unwrap();
        unlockpt(&qemu).unwrap();
        let name = ptsname(&qemu, Vec::new()).unwrap().into_string().unwrap();
        // A session of its own, with this terminal: that is where the program asks.
        let script = "exec \"$0\" passwd ann <\"$1\" >\"$1\" 2>\"$1\"";
        let mut child = Command::new("setsid")
            .args(["--ctty", "--wait", "sh", "-c", script, env!("CARGO_BIN_EXE_qga"), &name])
            .env("QGA_TARGET", agent.path())
            .stdin(fs::OpenOptions::new().read(true).write(true).open(&name).unwrap())
            .spawn()
            .unwrap();
        let mut terminal = fs::File::from(qemu);
        let mut shown = String::new();
        for (question, answer) in [("New password for ann: ", "s3cret\n"), ("Again: ", &format!("{second}\n"))] {
            read_until(&mut terminal, &mut shown, question);
            terminal.write_all(answer.as_bytes()).unwrap();
        }
        let status = child.wait().unwrap();
        read_until(
            &mut terminal,
            &mut shown,
            if code == 0 { "the password is set" } else { "the two passwords differ" },
        );
        assert_eq!(status.code(), Some(code), "{shown}");
        assert!(!shown.contains("s3c"), "{shown}");
        assert_eq!(agent.requests().len(), usize::from(code == 0));
    }
}

/// Reads what a program shows until a text is there.
fn read_until(terminal: &mut fs::File, shown: &mut String, text: &str) {
    let mut buffer = [0; 1024];
    while !shown.contains(text) {
        let count = terminal.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after: {shown}"));
        shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}
