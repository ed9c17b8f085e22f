//! The program itself: what it prints, where, and how it exits.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::spawn;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

fn qga(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qga"));
    command.args(args).env_remove("QGA_TARGET").stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("only ASCII is printed")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("only text is printed")
}

/// A directory with a socket in it that answers each request after the handshake with the next of these lines, and
/// nothing once they are used up.
fn fake(answers: &'static [&'static str]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve(&stream, answers);
    });
    (dir, path)
}

fn serve(mut stream: &UnixStream, answers: &[&str]) {
    let mut answers = answers.iter();
    for line in BufReader::new(stream.try_clone().unwrap()).split(b'\n') {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_slice(line.strip_prefix(b"\xFF").unwrap_or(&line)).unwrap();
        if request["execute"] == "guest-sync-delimited" {
            stream.write_all(b"\xFF").unwrap();
            writeln!(stream, "{{\"return\": {}}}", request["arguments"]["id"]).unwrap();
        } else if let Some(answer) = answers.next() {
            writeln!(stream, "{answer}").unwrap();
        }
    }
}

fn run(socket: &Path, args: &[&str]) -> Output {
    qga(&[&["--target", socket.to_str().unwrap()], args].concat()).output().unwrap()
}

#[test]
fn ping_says_that_the_agent_is_there() {
    let (_dir, socket) = fake(&["{\"return\": {}}", "{\"return\": {}}"]);
    let output = run(&socket, &["ping"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("the agent is there and answers in "), "{}", stdout(&output));
}

#[test]
fn the_target_may_come_from_the_environment() {
    let (_dir, socket) = fake(&["{\"return\": {}}", "{\"return\": {}}"]);
    let output = qga(&["ping", "--json"]).env("QGA_TARGET", &socket).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let result: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(result["alive"], true);
}

#[test]
fn without_a_target_it_is_a_matter_of_usage() {
    let output = qga(&["ping"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("-t TARGET"), "{}", stderr(&output));
}

#[test]
fn arguments_that_are_no_object_are_refused_before_anything_is_sent() {
    for (json, complaint) in [("[1]", "must be a JSON object"), ("{", "no JSON"), ("{'a': 1}", "no JSON")] {
        let output = run(Path::new("/nonexistent"), &["call", "guest-ping", json]);
        assert_eq!(output.status.code(), Some(2), "{json}");
        assert!(stderr(&output).contains(complaint), "{json}: {}", stderr(&output));
    }
}

#[test]
fn a_result_is_printed_readable_or_on_one_line_and_never_reaches_the_terminal_raw() {
    const ANSWER: &[&str] =
        &["{\"return\": {\"name\": \"\\u001b[2J \u{9b} \u{e9}\", \"count\": 18446744073709551615}}"];
    let (_dir, socket) = fake(ANSWER);
    let output = run(&socket, &["call", "guest-x"]);
    let expected = "{\n  \"count\": 18446744073709551615,\n  \"name\": \"\\u001b[2J \\u009B \\u00E9\"\n}\n";
    assert_eq!(stdout(&output), expected);

    let (_dir, socket) = fake(ANSWER);
    let output = run(&socket, &["call", "guest-x", "--compact"]);
    assert_eq!(stdout(&output), "{\"count\":18446744073709551615,\"name\":\"\\u001b[2J \\u009B \\u00E9\"}\n");
}

#[test]
fn arguments_come_from_standard_input_with_a_dash() {
    let (_dir, socket) = fake(&["{\"return\": 1000}"]);
    let mut child = qga(&["--target", socket.to_str().unwrap(), "call", "guest-file-open", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"path\": \"/x\"}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(stdout(&output), "1000\n");
}

#[test]
fn every_kind_of_failure_has_its_exit_code() {
    let refusal = "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command guest-x has not been found\"}}";
    let disabled = "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Command guest-x has been disabled: the agent is in frozen state\"}}";
    let failed = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no \\u001b[31mdisk\"}}";
    let cases: [(&'static [&'static str], i32, &str); 4] = [
        (Box::leak(Box::new([refusal])), 127, "the agent does not know guest-x"),
        (Box::leak(Box::new([disabled])), 126, "guest-x is not allowed while the file systems are frozen"),
        (Box::leak(Box::new([failed])), 1, "guest-x failed: no \\x1b[31mdisk"),
        (&[], 124, "guest-x has not answered within 3 s"),
    ];
    for (answers, code, complaint) in cases {
        let (_dir, socket) = fake(answers);
        let output = run(&socket, &["--timeout", "3", "call", "guest-x"]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).starts_with(&format!("qga: {complaint}\n")), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    let output = run(Path::new("/nonexistent/sock"), &["ping"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("\nhint: "), "{}", stderr(&output));
}

#[test]
fn failures_as_json_name_the_layer() {
    let output = run(Path::new("/nonexistent/sock"), &["--json", "ping"]);
    let failure: Value = serde_json::from_str(stderr(&output)).unwrap();
    assert_eq!(failure["error"]["layer"], "channel");
    assert_eq!(failure["error"]["exit"], 125);
}

#[test]
fn help_lists_the_exit_codes() {
    let output = qga(&["--help"]).output().unwrap();
    for code in ["124", "125", "126", "127"] {
        assert!(stdout(&output).contains(&format!("\n  {code}  ")), "{code}");
    }
}

/// The C agent, ended with the value.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_c_agent_is_shown_with_its_block_list() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    let child = Command::new("/usr/sbin/qemu-ga")
        .args(["-m", "unix-listen", "-b", "guest-get-time", "-p"])
        .arg(&socket)
        .arg("-t")
        .arg(dir.path())
        .spawn();
    let agent = match child {
        Ok(child) => Agent(child),
        Err(error) if error.kind() == ErrorKind::NotFound => return eprintln!("SKIPPED: no /usr/sbin/qemu-ga"),
        Err(error) => panic!("cannot start the C agent: {error}"),
    };
    let start = Instant::now();
    let output = loop {
        let output = run(&socket, &["info"]);
        if output.status.success() || start.elapsed() > Duration::from_secs(30) {
            break output;
        }
    };
    assert!(stdout(&output).contains(" of them switched off\n"), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).lines().any(|line| line.split_whitespace().eq(["guest-get-time", "no", "always"])));
    let output = run(&socket, &["call", "guest-get-time"]);
    assert_eq!(output.status.code(), Some(126), "{}", stderr(&output));
    drop(agent);
}
