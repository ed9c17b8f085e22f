//! `guest-info`.

use serde_json::{Value, json};

use crate::{PROGRAM, agent, setup};

/// The commands of release 11.1 in the order in which `guest-info` lists them.
pub(crate) const COMMANDS: &[&str] = &[
    "guest-network-get-route",
    "guest-get-load",
    "guest-get-cpustats",
    "guest-get-diskstats",
    "guest-ssh-remove-authorized-keys",
    "guest-ssh-add-authorized-keys",
    "guest-ssh-get-authorized-keys",
    "guest-get-osinfo",
    "guest-get-timezone",
    "guest-get-users",
    "guest-get-host-name",
    "guest-exec",
    "guest-exec-status",
    "guest-get-memory-block-info",
    "guest-set-memory-blocks",
    "guest-get-memory-blocks",
    "guest-set-user-password",
    "guest-get-fsinfo",
    "guest-get-disks",
    "guest-set-vcpus",
    "guest-get-vcpus",
    "guest-network-get-interfaces",
    "guest-suspend-hybrid",
    "guest-suspend-ram",
    "guest-suspend-disk",
    "guest-fstrim",
    "guest-fsfreeze-thaw",
    "guest-fsfreeze-freeze-list",
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-status",
    "guest-file-flush",
    "guest-file-seek",
    "guest-file-write",
    "guest-file-read",
    "guest-file-close",
    "guest-file-open",
    "guest-shutdown",
    "guest-info",
    "guest-set-time",
    "guest-get-time",
    "guest-ping",
    "guest-sync",
    "guest-sync-delimited",
];

/// The commands that every agent under test has.
pub(crate) const FOUNDING: &[&str] = &[
    "guest-network-get-interfaces",
    "guest-suspend-hybrid",
    "guest-suspend-ram",
    "guest-suspend-disk",
    "guest-fstrim",
    "guest-fsfreeze-thaw",
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-status",
    "guest-file-flush",
    "guest-file-seek",
    "guest-file-write",
    "guest-file-read",
    "guest-file-close",
    "guest-file-open",
    "guest-shutdown",
    "guest-info",
    "guest-ping",
    "guest-sync",
    "guest-sync-delimited",
];

fn entries(info: &Value) -> Vec<Value> {
    info["supported_commands"].as_array().expect("a list of commands").clone()
}

fn names(info: &Value) -> Vec<String> {
    entries(info).iter().map(|entry| entry["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn the_version_is_three_numbers_that_fit_a_byte() {
    let (_agent, mut host) = agent();
    let info = host.call("guest-info", json!({})).unwrap();
    let version = info["version"].as_str().unwrap();
    let numbers: Vec<u8> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert_eq!(numbers.len(), 3, "{version}");
    if PROGRAM.is_ours() {
        assert_eq!(version, "11.1.3");
    }
}

#[test]
fn commands_are_listed_in_the_order_of_the_schema_reversed() {
    let (_agent, mut host) = agent();
    let names = names(&host.call("guest-info", json!({})).unwrap());
    let known: Vec<&str> = COMMANDS.iter().copied().filter(|name| names.iter().any(|listed| listed == name)).collect();
    assert_eq!(names.iter().filter(|name| COMMANDS.contains(&name.as_str())).collect::<Vec<_>>(), known);
    let founding: Vec<&str> = known.iter().copied().filter(|name| FOUNDING.contains(name)).collect();
    assert_eq!(founding, FOUNDING);
    if let qga_testkit::Kind::Ours | qga_testkit::Kind::C(11..) = PROGRAM.kind() {
        assert_eq!(names, COMMANDS);
    }
}

#[test]
fn an_entry_is_what_ansible_compares_it_with() {
    let agent = setup().allow_all().start();
    let info = agent.host().call("guest-info", json!({})).unwrap();
    // Release 7.2 has one more, for Windows, that is switched off.
    for entry in entries(&info).iter().filter(|entry| entry["name"] != "guest-get-devices") {
        let name = entry["name"].as_str().unwrap();
        let answers = !(name == "guest-shutdown" || name.starts_with("guest-suspend-"));
        assert_eq!(*entry, json!({ "enabled": true, "name": name, "success-response": answers }));
    }
}

#[test]
fn members_come_in_the_order_of_the_c_agent() {
    let agent = setup().allow_all().start();
    let line = crate::ask(&mut agent.host(), "{\"execute\":\"guest-info\"}");
    let (version, list) = line.split_once(", \"supported_commands\": [").unwrap();
    assert!(version.starts_with("{\"return\": {\"version\": \""), "{version}");
    assert!(list.ends_with("]}}"), "{list}");
    let last = "{\"enabled\": true, \"name\": \"guest-sync-delimited\", \"success-response\": true}]}}";
    assert!(list.ends_with(last), "{list}");
}

#[test]
fn a_command_that_is_not_there_is_told_apart_from_one_that_fails() {
    let (_agent, mut host) = agent();
    let error = host.call("guest-nope", json!({})).unwrap_err();
    assert_eq!(error.class, "CommandNotFound");
    assert_eq!(error.desc, "The command guest-nope has not been found");
    let error = host.call("guest-info", json!({ "x": 1 })).unwrap_err();
    assert_eq!((error.class.as_str(), error.desc.as_str()), ("GenericError", "Parameter 'x' is unexpected"));
}
