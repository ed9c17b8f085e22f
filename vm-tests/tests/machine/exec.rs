//! Programs started by the host; what they did is looked at in the guest.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qga_testkit::Host;
use serde_json::{Value, json};

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
