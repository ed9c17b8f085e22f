//! Block and allow lists.

use qga_testkit::{Host, Kind};
use serde_json::json;

use crate::{PROGRAM, ask, failed, refused, setup};

/// Whether the agent has `-a`, which came after 7.2.
fn has_allow_list() -> bool {
    !matches!(PROGRAM.kind(), Kind::C(..8))
}

fn is_enabled(host: &mut Host, name: &str) -> bool {
    let info = host.call("guest-info", json!({})).unwrap();
    let entries = info["supported_commands"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["name"] == name);
    entry.unwrap_or_else(|| panic!("{name} is not listed"))["enabled"].as_bool().unwrap()
}

#[test]
fn a_blocked_command_is_refused_before_its_arguments_are_looked_at() {
    let agent = setup().arg("-b").arg("guest-ping").start();
    let mut host = agent.host();
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-ping\"}"), refused("guest-ping"));
    let with_id = ask(&mut host, "{\"execute\":\"guest-ping\",\"arguments\":{\"x\":1},\"id\":1}");
    assert_eq!(with_id, refused("guest-ping").replacen('{', "{\"id\": 1, ", 1));
    assert!(!is_enabled(&mut host, "guest-ping"));
    assert!(is_enabled(&mut host, "guest-sync"));
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-sync\",\"arguments\":{\"id\":3}}"), "{\"return\": 3}");
}

#[test]
fn block_lists_add_up() {
    let agent = setup().arg("-b").arg("guest-ping,guest-info").arg("--block-rpcs=guest-file-open").start();
    let mut host = agent.host();
    for name in ["guest-ping", "guest-info", "guest-file-open", "guest-shutdown"] {
        assert_eq!(ask(&mut host, &format!("{{\"execute\":\"{name}\"}}")), refused(name));
    }
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-file-close\"}"), failed("Parameter 'handle' is missing"));
}

#[test]
fn with_an_allow_list_only_what_is_on_it_is_allowed() {
    if !has_allow_list() {
        return;
    }
    let agent = setup().arg("-a").arg("guest-ping,guest-info,guest-shutdown").start();
    let mut host = agent.host();
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
    let sync = "{\"execute\":\"guest-sync\",\"arguments\":{\"id\":1}}";
    assert_eq!(ask(&mut host, sync), refused("guest-sync"));
    // It is on the block list too, and that wins.
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-shutdown\"}"), refused("guest-shutdown"));
    assert!(is_enabled(&mut host, "guest-ping") && !is_enabled(&mut host, "guest-sync"));
}

#[test]
fn an_empty_allow_list_is_none() {
    if !has_allow_list() {
        return;
    }
    let agent = setup().arg("--allow-rpcs=").start();
    assert_eq!(ask(&mut agent.host(), "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
}

#[test]
fn an_allow_list_of_nothing_but_a_comma_allows_nothing() {
    if !has_allow_list() {
        return;
    }
    let agent = setup().arg("--allow-rpcs=,").start();
    assert_eq!(ask(&mut agent.host(), "{\"execute\":\"guest-ping\"}"), refused("guest-ping"));
}

#[test]
fn lists_of_the_configuration_file_and_the_command_line_add_up() {
    let setup = setup();
    let file = setup.dir().join("conf");
    std::fs::write(&file, "[general]\nblock-rpcs=guest-ping\n").unwrap();
    let agent = setup.env("QGA_CONF", &file).arg("-b").arg("guest-file-open").start();
    let mut host = agent.host();
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-ping\"}"), refused("guest-ping"));
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-file-open\"}"), refused("guest-file-open"));
}

#[test]
fn a_semicolon_does_not_separate_names() {
    let agent = setup().arg("-b").arg("guest-ping;guest-info").start();
    assert_eq!(ask(&mut agent.host(), "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
}
