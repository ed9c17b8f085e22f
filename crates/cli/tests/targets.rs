//! One target or many, and libvirt's in particular.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use qga_testkit::fake::Agent;
use serde_json::{Value, json};
use tempfile::TempDir;

fn qga(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qga"));
    command.args(args).env_remove("QGA_TARGET").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    qga(args).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("only text is printed")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("only text is printed")
}

fn load(one: f64) -> Agent {
    let load = format!(r#"{{"load1m": {one}, "load5m": 0, "load15m": 0.5}}"#);
    Agent::start(&[("guest-get-load", &load)])
}

/// The lines of standard output as JSON, in the order of their targets.
fn lines(output: &Output) -> Vec<Value> {
    let mut lines: Vec<Value> = stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["target"].as_str().unwrap_or_default().to_owned());
    lines
}

#[test]
fn each_of_many_targets_has_its_name_in_front_of_its_lines() {
    let (a, b) = (load(1.0), load(2.0));
    let (a, b) = (a.path(), b.path());
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let output = run(&["-t", a, "load", "--target", "/nonexistent/sock"]);
    // What stands behind the command replaces what stands in front of it, as for all options.
    assert_eq!(output.status.code(), Some(125));

    let output = run(&["-t", a, "-t", b, "load"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut found: Vec<&str> = stdout(&output).lines().collect();
    found.sort_by_key(|line| line.contains(b));
    assert_eq!(found, [format!("{a}: 1.00 0.00 0.50"), format!("{b}: 2.00 0.00 0.50")]);
}

#[test]
fn many_targets_give_one_line_of_json_each_whether_they_fail_or_not() {
    let agent = load(1.25);
    let path = agent.path();
    let path = path.to_str().unwrap();
    let output = run(&["-t", path, "-t", "unix:/nonexistent/sock", "--json", "load"]);
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(stderr(&output), "");
    let lines = lines(&output);
    assert_eq!(lines[0], json!({"target": path, "result": {"load1m": 1.25, "load5m": 0, "load15m": 0.5}}));
    assert_eq!(lines[1]["target"], "unix:/nonexistent/sock");
    assert_eq!((&lines[1]["error"]["layer"], &lines[1]["error"]["exit"]), (&json!("channel"), &json!(125)));
}

#[test]
fn different_failures_end_in_one_exit_code() {
    let agent = Agent::start(&[]);
    let path = agent.path();
    let output = run(&["-t", path.to_str().unwrap(), "-t", "/nonexistent/sock", "load"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("the agent does not know guest-get-load"), "{}", stderr(&output));
    assert!(stderr(&output).contains("qga: /nonexistent/sock: no such socket"), "{}", stderr(&output));
}

#[test]
fn a_target_that_is_silent_does_not_delay_the_others() {
    let silent = Agent::start(&[("guest-get-load", "")]);
    let others: Vec<Agent> = (0..6).map(|number| load(f64::from(number))).collect();
    let paths: Vec<String> =
        [&silent].into_iter().chain(&others).map(|agent| agent.path().to_str().unwrap().to_owned()).collect();
    let mut args: Vec<&str> = paths.iter().flat_map(|path| ["-t", path]).collect();
    args.extend(["--jobs", "2", "--timeout", "5", "--json", "load"]);
    let mut child = qga(&args).stdout(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    for _ in &others {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert!(line.contains("load1m"), "{line}");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "the results came after {:?}", start.elapsed());
    assert_eq!(child.wait().unwrap().code(), Some(124));
}

#[test]
fn a_target_that_cannot_be_one_is_a_matter_of_usage() {
    let output = run(&["-t", "tcp:host:22", "ping"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("'tcp' is none of unix, vsock, serial, libvirt"), "{}", stderr(&output));
}

/// A program that behaves like virsh as far as its input and output are concerned: it repeats each command behind a
/// prompt, and answers those about a machine `vm` and a broken machine `dead`.
const VIRSH: &str = r##"#!/bin/sh
printf '%s\n' "$*" >>"$VIRSH_LOG"
while IFS= read -r line; do
    printf 'virsh # %s\n' "$line"
    printf '%s\n' "$line" >>"$VIRSH_LOG"
    eval "set -- $line"
    case "$1 $2" in
    "echo --err") echo "error: $3" >&2 ;;
    "echo "*) printf '%s' "$2" ;;
    "list --name") printf 'vm\ndead\n\n' ;;
    "qemu-agent-command --timeout")
        case "$5 $6" in
        "vm "*guest-ping*) printf '{"return":{}}\n\n' ;;
        "vm "*guest-get-load*) printf '{"return":{"load1m":1,"load5m":2,"load15m":3}}\n\n' ;;
        "vm "*guest-set-user-password*) printf '{"return":{}}\n\n' ;;
        "vm "*guest-get-host-name*)
            echo "error: internal error: unable to execute QEMU agent command 'guest-get-host-name': Command guest-get-host-name has been disabled: the command is not allowed" >&2 ;;
        "vm "*guest-fsfreeze-status*) printf '{"return":"thawed"}\n\n' ;;
        "vm "*guest-hang*) exec sleep 60 ;;
        "dead "*) echo "error: Guest agent is not responding: QEMU guest agent is not connected" >&2 ;;
        *) echo "error: failed to get domain '$5'" >&2 ;;
        esac ;;
    *) echo "error: unknown command: '$1'" >&2 ;;
    esac
done
"##;

/// A directory with that program, and the log of what it was told.
struct Libvirt(TempDir);

impl Libvirt {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let virsh = dir.path().join("virsh");
        fs::write(&virsh, VIRSH).unwrap();
        fs::set_permissions(&virsh, fs::Permissions::from_mode(0o755)).unwrap();
        Libvirt(dir)
    }

    fn qga(&self, args: &[&str]) -> Command {
        let mut command = qga(args);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.0.path().display())).env("VIRSH_LOG", self.log_path());
        command
    }

    fn log_path(&self) -> impl AsRef<Path> + AsRef<std::ffi::OsStr> + use<> {
        self.0.path().join("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.path().join("log")).unwrap_or_default()
    }
}

#[test]
fn a_machine_of_libvirts_is_asked_through_one_virsh() {
    let libvirt = Libvirt::new();
    let output = libvirt.qga(&["-t", "libvirt:qemu+ssh://host/system/vm", "load"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "1.00 2.00 3.00\n");
    let log = libvirt.log();
    let starts = log.lines().filter(|line| line.starts_with("--quiet")).collect::<Vec<_>>();
    assert_eq!(starts, ["--quiet --connect qemu+ssh://host/system"]);
    assert!(log.contains("--domain 'vm' '{\"execute\":\"guest-get-load\",\"arguments\":{}}'"), "{log}");
}

#[test]
fn all_running_machines_are_asked_and_the_dead_one_is_named() {
    let libvirt = Libvirt::new();
    let output = libvirt.qga(&["--all", "--connect", "qemu:///system", "--json", "load"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", stderr(&output));
    let lines = lines(&output);
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["target"], &lines[0]["error"]["layer"]), (&json!("dead"), &json!("port")));
    assert_eq!((&lines[1]["target"], &lines[1]["result"]["load1m"]), (&json!("vm"), &json!(1)));
}

#[test]
fn what_libvirt_says_has_its_exit_code() {
    let libvirt = Libvirt::new();
    let cases = [
        ("libvirt:vm", "guest-get-host-name", 126, "guest-get-host-name is switched off in the agent"),
        ("libvirt:dead", "guest-ping", 125, "no agent is connected in the machine dead"),
        ("libvirt:nobody", "guest-ping", 125, "libvirt knows no machine named nobody"),
        ("libvirt:vm", "guest-hang", 124, "guest-hang has not answered within 1 s"),
    ];
    for (target, command, code, complaint) in cases {
        let output = libvirt.qga(&["-t", target, "--timeout", "1", "call", command]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).starts_with(&format!("qga: {complaint}\n")), "{}", stderr(&output));
    }
}

#[test]
fn without_virsh_that_is_what_is_said() {
    let output = qga(&["-t", "libvirt:vm", "ping"]).env("PATH", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        stderr(&output).contains("virsh, the program to ask libvirt with, is not installed"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("libvirt-clients"), "{}", stderr(&output));
}

#[test]
fn a_password_goes_neither_over_a_command_line_nor_to_the_terminal() {
    let libvirt = Libvirt::new();
    let mut child = libvirt
        .qga(&["-t", "libvirt:vm", "passwd", "ann"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"s3cret\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let log = libvirt.log();
    // It came through the pipe, as base64, and the one command line there was has nothing of it.
    assert!(log.contains(r#""username":"ann","password":"czNjcmV0","crypted":false"#), "{log}");
    assert_eq!(log.lines().next(), Some("--quiet"));
    assert!(!stdout(&output).contains("s3cret") && !stderr(&output).contains("s3cret"));
    assert!(!stdout(&output).contains("czNjcmV0") && !stderr(&output).contains("czNjcmV0"));
}
