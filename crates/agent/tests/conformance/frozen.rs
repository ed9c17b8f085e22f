//! An agent that starts with file systems frozen by an earlier one.

use std::fs;

use qga_testkit::{Setup, TestAgent};
use serde_json::json;

use crate::differences::{differs, today_or_7};
use crate::info::FOUNDING;
use crate::{agent, ask, refused, refused_because, setup};

const WHILE_FROZEN: &[&str] =
    &["guest-ping", "guest-info", "guest-sync", "guest-sync-delimited", "guest-fsfreeze-status", "guest-fsfreeze-thaw"];

/// Leaves the mark of an agent that froze, with the number of the boot it did so in.
fn mark(setup: Setup, boot: &str) -> Setup {
    fs::write(setup.state_dir().join("qga.state.isfrozen"), boot).unwrap();
    setup
}

fn this_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap()
}

fn frozen_agent() -> TestAgent {
    // Thawing what is not frozen harms nothing, and needs root's powers.
    mark(setup().powerful(), &this_boot()).start()
}

#[test]
fn only_six_commands_are_allowed_while_frozen() {
    let agent = frozen_agent();
    let mut host = agent.host();
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-fsfreeze-status\"}"), "{\"return\": \"frozen\"}");
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-sync\",\"arguments\":{\"id\":1}}"), "{\"return\": 1}");
    let delimited = ask(&mut host, "{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":2}}");
    assert_eq!(delimited, "\\xff{\"return\": 2}");
    for name in FOUNDING.iter().filter(|name| !WHILE_FROZEN.contains(name)) {
        // Release 7.2 gave another reason where the name is on the block list too.
        let other = if qga_testkit::agent::DANGEROUS.contains(name) { "" } else { ": the agent is in frozen state" };
        let refusal = refused_because(name, today_or_7(": the command is not allowed", other));
        assert_eq!(ask(&mut host, &format!("{{\"execute\":\"{name}\"}}")), refusal);
    }
    let nope = ask(&mut host, "{\"execute\":\"guest-nope\"}");
    assert!(nope.contains("The command guest-nope has not been found"), "{nope}");
    let info = host.call("guest-info", json!({})).unwrap();
    for entry in info["supported_commands"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        assert_eq!(entry["enabled"], WHILE_FROZEN.contains(&name), "{name}");
    }
}

#[test]
fn a_thaw_ends_the_frozen_state_for_good() {
    let agent = frozen_agent();
    let mut host = agent.host();
    let thawed = host.call("guest-fsfreeze-thaw", json!({})).unwrap();
    assert_eq!(thawed, json!(0));
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-fsfreeze-status\"}"), "{\"return\": \"thawed\"}");
    assert!(!agent.dir().join("state/qga.state.isfrozen").exists());
    let path = agent.dir().join("file");
    fs::write(&path, "x").unwrap();
    host.call("guest-file-open", json!({ "path": path })).unwrap();
}

#[test]
fn the_lists_have_no_say_while_frozen() {
    let agent = mark(setup().powerful().arg("-b").arg("guest-ping"), &this_boot()).start();
    let mut host = agent.host();
    let ping = ask(&mut host, "{\"execute\":\"guest-ping\"}");
    assert_eq!(ping, today_or_7("{\"return\": {}}".to_owned(), refused("guest-ping")));
    host.call("guest-fsfreeze-thaw", json!({})).unwrap();
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-ping\"}"), refused("guest-ping"));
}

#[test]
fn a_mark_of_another_boot_means_nothing() {
    let agent = mark(setup(), "00000000-0000-4000-8000-000000000000\n").start();
    let status = ask(&mut agent.host(), "{\"execute\":\"guest-fsfreeze-status\"}");
    assert_eq!(status, differs("freeze-stale-mark", "{\"return\": \"thawed\"}", "{\"return\": \"frozen\"}"));
}

#[test]
fn without_a_mark_nothing_is_frozen_and_a_thaw_thaws_nothing() {
    let (_agent, mut host) = agent();
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-fsfreeze-status\"}"), "{\"return\": \"thawed\"}");
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-fsfreeze-thaw\"}"), "{\"return\": 0}");
}
