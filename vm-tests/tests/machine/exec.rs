//! Programs started by the host; what they did is looked at in the guest.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qga_testkit::{Host, wait};
use serde_json::{Value, json};
use vm_tests::qga;

use crate::Guest;
use crate::file::{hash, noise};

const LONG: Duration = Duration::from_secs(120);

/// The result of a program, once it has ended.
fn run(agent: &mut Host, arguments: Value) -> Value {
    let started = agent.call_within("guest-exec", arguments, LONG).unwrap();
    let end = Instant::now() + LONG;
    loop {
        let status = agent.call_within("guest-exec-status", started.clone(), LONG).unwrap();
        if status["exited"] == true {
            return status;
        }
        assert!(Instant::now() < end, "{started} does not end");
    }
}

fn sh(script: &str, capture: impl Into<Value>) -> Value {
    json!({ "path": "sh", "arg": ["-c", script], "capture-output": capture.into() })
}

fn bytes(data: &Value) -> Vec<u8> {
    STANDARD.decode(data.as_str().unwrap_or_default()).unwrap()
}

pub(crate) fn a_program_is_run_in_each_capture_mode(guest: &mut Guest) {
    let mut agent = guest.machine.agent();
    for (mode, out, err) in [
        (json!(false), None, None),
        (json!(true), Some("out\n"), Some("err\n")),
        (json!("none"), None, None),
        (json!("stdout"), Some("out\n"), None),
        (json!("stderr"), None, Some("err\n")),
        (json!("separated"), Some("out\n"), Some("err\n")),
        (json!("merged"), Some("out\nerr\n"), None),
    ] {
        for round in 0..3 {
            let script = format!("echo out; echo err >&2; echo {round} >/run/exec-test; exit 3");
            let result = run(&mut agent, sh(&script, mode.clone()));
            let mut expected = json!({ "exited": true, "exitcode": 3 });
            for (name, text) in [("out", out), ("err", err)] {
                if let Some(text) = text {
                    expected[format!("{name}-data")] = STANDARD.encode(text).into();
                    expected[format!("{name}-truncated")] = false.into();
                }
            }
            assert_eq!(result, expected, "{mode}");
            assert_eq!(guest.machine.shell.number("cat /run/exec-test"), round);
        }
    }
    guest.machine.shell.run("rm /run/exec-test");
}

pub(crate) fn input_arrives_whole_and_output_comes_back_whole(guest: &mut Guest) {
    let mut agent = guest.machine.agent();
    let input = noise(1_500_000);
    let copy = json!({
        "path": "tee", "arg": ["/run/exec-copy"], "input-data": STANDARD.encode(&input), "capture-output": true,
    });
    let result = run(&mut agent, copy);
    assert_eq!(hash(&bytes(&result["out-data"])), hash(&input));
    let seen = guest.machine.shell.run("sha256sum </run/exec-copy; rm /run/exec-copy");
    assert_eq!(seen.split(' ').next(), Some(hash(&input).as_str()));
}

pub(crate) fn a_reply_with_output_stays_below_what_the_port_carries(guest: &mut Guest) {
    let mut agent = guest.machine.agent();
    let script = "head -c 16777216 /dev/zero; head -c 16777216 /dev/zero >&2; exit 6";
    let result = run(&mut agent, sh(script, true));
    assert_eq!(
        (&result["exitcode"], &result["out-truncated"], &result["err-truncated"]),
        (&json!(6), &json!(true), &json!(true))
    );
    let lengths = ["out-data", "err-data"].map(|name| result[name].as_str().unwrap().len());
    // libvirt gives a reply of 10 MiB up; ours has 8 MiB at most, and uses them.
    let total: usize = lengths.iter().sum();
    assert!((7 << 20) < total && total < (8 << 20), "{lengths:?}");
    assert_eq!(agent.call("guest-ping", json!({})).unwrap(), json!({}));
}

pub(crate) fn a_service_started_in_the_background_runs_on_and_no_zombie_stays(guest: &mut Guest) {
    let mut agent = guest.machine.agent();
    let script = "(while :; do sleep 1; done) & echo $! >/run/exec-service; echo started";
    let result = run(&mut agent, sh(script, true));
    let expected =
        json!({ "exited": true, "exitcode": 0, "out-data": STANDARD.encode("started\n"), "out-truncated": false });
    assert_eq!(result, expected);
    assert!(guest.machine.shell.succeeds("kill -0 $(cat /run/exec-service)"));
    for _ in 0..20 {
        agent.call("guest-exec", json!({ "path": "true" })).unwrap();
    }
    let zombies = "sleep 2; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
    assert_eq!(guest.machine.shell.number(zombies), 0);
    guest.machine.shell.run("kill $(cat /run/exec-service); rm /run/exec-service");
}

/// `qga exec` with these arguments, its streams piped.
fn qga_exec(guest: &Guest, args: &[&str]) -> Child {
    let socket = guest.machine.agent_socket();
    let mut command: Command =
        qga::command(&qga::program(), &[&["-t", socket.to_str().unwrap(), "exec"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Seconds of the ticker: 6, or what `QGA_TICKER` says.
fn ticker_seconds() -> usize {
    env::var("QGA_TICKER").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

pub(crate) fn qga_shows_each_line_of_a_program_while_it_runs(guest: &mut Guest) {
    let count = ticker_seconds();
    let script = format!("i=0; while [ $i -lt {count} ]; do cat /proc/uptime; i=$((i+1)); sleep 1; done; exit 9");
    let mut child = qga_exec(guest, &["-n", "--", "sh", "-c", &script]);
    let start = Instant::now();
    let mut gaps = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let arrived = start.elapsed().as_secs_f64();
        let printed: f64 = line.unwrap().split(' ').next().unwrap().parse().unwrap();
        gaps.push(arrived - printed);
    }
    assert_eq!((gaps.len(), child.wait().unwrap().code()), (count, Some(9)));
    // The clocks are not the same; the line that was fastest shows how far they are apart.
    let fastest = gaps.iter().copied().fold(f64::INFINITY, f64::min);
    let latest = gaps.iter().map(|gap| gap - fastest).fold(0.0, f64::max);
    println!("{count} lines, the latest {latest:.3} s later than the fastest");
    assert!(latest < 3.0, "a line came {latest} s late: {gaps:?}");
    guest.machine.shell.run("! ls -d /run/qga-exec-* /tmp/qga-exec-* 2>/dev/null");
}

pub(crate) fn qga_passes_on_streams_and_signals_and_leaves_nothing(guest: &mut Guest) {
    let input = noise(1_500_000);
    let mut child = qga_exec(guest, &["--", "sh", "-c", "tee /run/exec-copy; echo done >&2; exit 5"]);
    let (mut stdin, sent) = (child.stdin.take().unwrap(), input.clone());
    let writer = thread::spawn(move || stdin.write_all(&sent).unwrap());
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writer.join().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(5), &b"done\n"[..]));
    assert_eq!(hash(&out), hash(&input));
    let seen = guest.machine.shell.run("sha256sum </run/exec-copy; rm /run/exec-copy");
    assert_eq!(seen.split(' ').next(), Some(hash(&input).as_str()));

    for (signal, code) in [("INT", Some(130)), ("KILL", None)] {
        let mut child = qga_exec(guest, &["-n", "--keep", "3", "--", "sh", "-c", "echo on; sleep 7777 & sleep 7777"]);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "on\n");
        let status = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(status.success());
        assert_eq!(child.wait().unwrap().code(), code, "{signal}");
        let is_clean = "! ls -d /run/qga-exec-* 2>/dev/null && ! pgrep -f '^sleep 7777'";
        wait::until("an empty guest", LONG, || guest.machine.shell.succeeds(is_clean).then_some(()));
    }
}
