//! What is in the journal of the agent.

use std::time::Duration;

use qga_testkit::wait;
use serde_json::{Value, json};

use crate::{Guest, SOON};

/// The agent's own lines of this boot.
fn lines(guest: &mut Guest) -> Vec<Value> {
    let script = "journalctl --boot --quiet --output=json \
        --output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT _COMM=qemu-ga";
    let text = guest.machine.shell.run_within(script, SOON);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

pub(crate) fn lines_in_the_journal_carry_their_severity(guest: &mut Guest) {
    // A request that is noted, and one that goes wrong with a warning of the agent.
    let mut agent = guest.machine.agent();
    let handle = agent.call("guest-file-open", json!({ "path": "/etc/hostname" })).unwrap();
    agent.call("guest-file-close", json!({ "handle": handle })).unwrap();
    agent.call("guest-fsfreeze-freeze", json!({})).unwrap();
    agent.call("guest-fsfreeze-thaw", json!({})).unwrap();
    for (text, priority) in [("guest-file-open called, filepath: /etc/hostname", "6"), ("logging re-enabled", "4")] {
        let line = wait::until(text, Duration::from_secs(20), || {
            lines(guest).into_iter().rev().find(|line| line["MESSAGE"].as_str().is_some_and(|it| it.contains(text)))
        });
        assert_eq!(line["PRIORITY"], priority, "{line}");
        assert_eq!(line["SYSLOG_IDENTIFIER"], "qemu-ga", "{line}");
        assert_eq!(line["_SYSTEMD_UNIT"], "qemu-guest-agent.service", "{line}");
    }
    for line in lines(guest) {
        let text = line["MESSAGE"].as_str().unwrap_or_else(|| panic!("not text: {line}"));
        assert!(!text.starts_with('<') && !text.starts_with(|c: char| c.is_ascii_digit()), "a prefix in {line}");
    }
}

/// What earlier cases have brought about: starts of the sentences.
const EXPECTED: &[&str] = &[
    "logging re-enabled due to filesystem unfreeze",
    "lost channel '/dev/virtio-ports/org.qemu.guest_agent.0'",
    "waiting for channel '/dev/virtio-ports/org.qemu.guest_agent.0'",
    "channel '/dev/virtio-ports/org.qemu.guest_agent.0' is open",
    "file systems are frozen, logging is off until they are thawed",
    "about to end while frozen: all file systems are thawed",
    "waiting for channel '/dev/virtio-ports/org.test.plugged.0'",
    "lost channel '/dev/virtio-ports/org.test.plugged.0'",
    "channel '/dev/virtio-ports/org.test.plugged.0' is open",
    "the agent before this one ended while file systems were frozen; its guardian has thawed them",
    "file systems were thawed before this request, because the guardian of the freeze was told to end",
    "unsupported channel method/type: pigeon",
];

/// What a guardian leaves in the kernel's log when it has thawed for an agent that is gone.
const FROM_A_GUARDIAN: &str = "qemu-ga: the agent was gone while file systems were frozen; they are thawed";

pub(crate) fn the_journal_has_no_complaint_by_or_about_the_agent(guest: &mut Guest) {
    let is_grave = |line: &Value| line["PRIORITY"].as_str().is_some_and(|priority| priority < "5");
    for line in lines(guest).into_iter().filter(is_grave) {
        let text = line["MESSAGE"].as_str().unwrap_or_default();
        assert!(EXPECTED.iter().any(|expected| text.starts_with(expected)), "{line}");
    }
    let shell = &mut guest.machine.shell;
    let kernel = shell.run("journalctl --dmesg --boot --output=cat | grep -i -e qemu-ga -e apparmor=.DENIED -e avc; :");
    let unexpected = kernel.lines().find(|line| *line != FROM_A_GUARDIAN);
    assert_eq!(unexpected, None);
    // No crash, and nothing in the unit or the rule that systemd or udev does not understand.
    let manager = shell
        .run("journalctl --boot --output=cat _PID=1 | grep -e qemu-guest | grep -i -e unknown -e ignor -e core; :");
    assert_eq!(manager, "");
    let udev = shell.run("journalctl --boot --output=cat --unit=systemd-udevd | grep 60-qemu-guest-agent; :");
    assert_eq!(udev, "");
    assert_eq!(shell.run("systemd-analyze verify --man=no /etc/systemd/system/qemu-guest-agent.service 2>&1; :"), "");
}
