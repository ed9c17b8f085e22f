//! `qga freeze` and `qga thaw` against an agent that gives prepared answers: no file system of this host is frozen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use qga_testkit::fake::Agent;
use qga_testkit::wait;
use serde_json::Value;

/// Enough for a busy machine.
const ENOUGH: Duration = Duration::from_secs(30);

const STATUS: (&str, &str) = ("guest-fsfreeze-status", "\"thawed\"");
const FREEZE: (&str, &str) = ("guest-fsfreeze-freeze", "2");
const THAW: (&str, &str) = ("guest-fsfreeze-thaw", "2");

fn healthy() -> Agent {
    Agent::start(&[STATUS, FREEZE, THAW])
}

fn qga(agents: &[&Agent], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qga"));
    command.env_remove("QGA_TARGET").stdin(Stdio::null());
    for agent in agents {
        command.arg("-t").arg(agent.path());
    }
    command.args(args);
    command
}

fn run(agents: &[&Agent], args: &[&str]) -> Output {
    qga(agents, args).output().unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// The commands that an agent has got.
fn asked(agent: &Agent) -> Vec<String> {
    agent.requests().iter().map(|request| request["execute"].as_str().unwrap().to_owned()).collect()
}

fn report(output: &Output) -> Value {
    serde_json::from_str(stderr(output)).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

/// A `qga freeze` that is in the middle of its command, which has written its number to a file.
struct Held {
    qga: Child,
    command: u32,
    _directory: tempfile::TempDir,
}

fn held(agents: &[&Agent], args: &[&str]) -> Held {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let script = format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 300", file.display());
    let args = [&["freeze"], args, &["--", "sh", "-c", &script]].concat();
    let mut command = qga(agents, &args);
    // A pipe of standard error would stay open as long as the command does.
    let qga = command.stderr(fs::File::create(directory.path().join("err")).unwrap()).spawn().unwrap();
    let command = wait::until("the command", ENOUGH, || fs::read_to_string(&file).ok());
    Held { qga, command: command.trim().parse().unwrap(), _directory: directory }
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// A process that has ended may still be waited for by somebody.
fn is_gone(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_none_or(|rest| rest.trim().is_empty() || rest.trim().starts_with(['Z', 'X']))
}

#[test]
fn the_command_runs_while_the_guest_is_frozen_and_its_exit_code_is_passed_on() {
    let agent = healthy();
    let output = run(&[&agent], &["freeze", "--", "sh", "-c", "echo \"$QGA_TARGET $QGA_FROZEN\"; exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("unix:{} 2\n", agent.path().display()));
    assert!(stderr(&output).starts_with("qga: 2 file systems frozen for 0."), "{}", stderr(&output));
    assert_eq!(asked(&agent), ["guest-fsfreeze-status", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]);
}

#[test]
fn the_report_as_json_has_the_counts_the_seconds_and_the_exit_code() {
    let agent = healthy();
    let output = run(&[&agent], &["--json", "freeze", "--", "true"]);
    let report = report(&output);
    let guest = &report["targets"][0];
    assert_eq!((&guest["frozen"], &guest["thawed"], &guest["thawed-early"]), (&2.into(), &2.into(), &false.into()));
    assert!(report["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    assert_eq!((&report["command"]["exit"], &report["end"], &report["exit"]), (&0.into(), &"done".into(), &0.into()));
}

#[test]
fn mount_points_are_passed_on() {
    let agent = Agent::start(&[STATUS, ("guest-fsfreeze-freeze-list", "1"), ("guest-fsfreeze-thaw", "1")]);
    let output = run(&[&agent], &["freeze", "-m", "/", "--mountpoint", "/srv", "--", "true"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(agent.requests()[1]["arguments"]["mountpoints"], serde_json::json!(["/", "/srv"]));
}

#[test]
fn a_command_that_cannot_be_started_leaves_the_guest_thawed() {
    let agent = healthy();
    let output = run(&[&agent], &["freeze", "--", "/nonexistent/program"]);
    assert_eq!(output.status.code(), Some(127), "{}", stderr(&output));
    assert_eq!(asked(&agent).last().unwrap(), "guest-fsfreeze-thaw");
}

#[test]
fn when_the_time_is_over_the_command_is_told_to_end_and_the_guest_thawed() {
    let agent = healthy();
    let output = run(&[&agent], &["freeze", "--for", "1s", "--", "sleep", "300"]);
    assert_eq!(output.status.code(), Some(124), "{}", stderr(&output));
    assert!(stderr(&output).contains("the time was over"), "{}", stderr(&output));
    assert_eq!(asked(&agent).last().unwrap(), "guest-fsfreeze-thaw");
    // Without a command that is what was asked for.
    let agent = healthy();
    let output = run(&[&agent], &["freeze", "--for", "0.2"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(asked(&agent).last().unwrap(), "guest-fsfreeze-thaw");
}

#[test]
fn a_signal_ends_the_command_and_thaws() {
    for (name, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        let agent = healthy();
        let mut held = held(&[&agent], &[]);
        signal(name, held.qga.id());
        assert_eq!(held.qga.wait().unwrap().code(), Some(128 + number));
        assert!(is_gone(held.command), "the command goes on after {name}");
        assert_eq!(asked(&agent).last().unwrap(), "guest-fsfreeze-thaw");
    }
}

#[test]
fn the_watchdog_thaws_when_qga_is_killed_and_tells_the_command_to_end() {
    let agents = [healthy(), healthy()];
    let mut held = held(&[&agents[0], &agents[1]], &[]);
    held.qga.kill().unwrap();
    held.qga.wait().unwrap();
    for agent in &agents {
        wait::until("a thaw", ENOUGH, || (asked(agent).last()? == "guest-fsfreeze-thaw").then_some(()));
    }
    wait::until("the end of the command", ENOUGH, || is_gone(held.command).then_some(()));
}

#[test]
fn several_guests_are_frozen_for_one_run_of_the_command() {
    let agents = [healthy(), healthy(), healthy()];
    let output =
        run(&agents.each_ref(), &["freeze", "--", "sh", "-c", "echo $QGA_FROZEN; echo \"$QGA_TARGETS\" | wc -l"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "6\n3\n");
    assert_eq!(stderr(&output).matches("2 file systems frozen for").count(), 3, "{}", stderr(&output));
}

#[test]
fn if_one_guest_cannot_be_frozen_the_others_are_thawed_and_the_command_is_not_run() {
    let refusal = r#"{"error": {"class": "GenericError", "desc": "failed to freeze /: Input/output error"}}"#;
    let agents = [healthy(), Agent::start(&[STATUS, ("guest-fsfreeze-freeze", refusal)])];
    let output = run(&agents.each_ref(), &["freeze", "--", "echo", "run"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(output.stdout.is_empty() && stderr(&output).contains("failed to freeze /: Input/output error"));
    let asked = asked(&agents[0]);
    let freezes = asked.iter().filter(|name| *name == "guest-fsfreeze-freeze").count();
    let thaws = asked.iter().filter(|name| *name == "guest-fsfreeze-thaw").count();
    assert_eq!(freezes, thaws, "{asked:?}");
}

#[test]
fn a_guest_that_somebody_else_has_frozen_is_left_alone() {
    let agent = Agent::start(&[("guest-fsfreeze-status", "\"frozen\""), FREEZE, THAW]);
    let output = run(&[&agent], &["freeze", "--", "true"]);
    assert_eq!(output.status.code(), Some(122), "{}", stderr(&output));
    assert_eq!(asked(&agent), ["guest-fsfreeze-status"]);
    let output = run(&[&agent], &["freeze", "--status"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "frozen\n");
    let output = run(&[&agent], &["thaw"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 file systems are thawed\n");
}

#[test]
fn an_exceeded_window_of_the_agent_has_an_exit_code_of_its_own() {
    let ours = "file systems were thawed before this request, after 3 s: no freeze may last longer";
    let windows = "couldn't hold writes: fsfreeze is limited up to 10 seconds";
    for desc in [ours, windows] {
        let error = format!(r#"{{"error": {{"class": "GenericError", "desc": "{desc}"}}}}"#);
        let agent = Agent::start(&[STATUS, FREEZE, ("guest-fsfreeze-thaw", &error)]);
        let output = run(&[&agent], &["freeze", "--", "true"]);
        assert_eq!(output.status.code(), Some(123), "{}", stderr(&output));
        assert!(stderr(&output).contains(desc) && stderr(&output).contains("cannot be relied on"));
    }
    let agent = Agent::start(&[STATUS, FREEZE, ("guest-fsfreeze-thaw", "0")]);
    assert_eq!(report(&run(&[&agent], &["--json", "freeze", "--", "true"]))["targets"][0]["thawed-early"], true);
}

#[test]
fn without_an_agent_or_with_nothing_to_freeze_the_command_is_not_run() {
    let agent = Agent::start(&[STATUS, ("guest-fsfreeze-freeze", "0"), ("guest-fsfreeze-thaw", "0")]);
    let output = run(&[&agent], &["freeze", "--", "echo", "run"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{}", stderr(&output));
    let absent = PathBuf::from("/nonexistent/sock");
    let output = qga(&[], &["-t", &absent.to_string_lossy(), "freeze", "--", "echo", "run"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0), "{}", stderr(&output));
    assert!(!Path::new("/nonexistent").exists());
}

#[test]
fn a_qga_that_is_stopped_is_ended_by_its_watchdog_when_its_time_is_over() {
    let agent = healthy();
    let mut held = held(&[&agent], &["--for", "1s"]);
    signal("STOP", held.qga.id());
    wait::until("a thaw", Duration::from_secs(90), || (asked(&agent).last()? == "guest-fsfreeze-thaw").then_some(()));
    assert_eq!(held.qga.wait().unwrap().code(), None);
}
