//! The unit and the udev rule of `packaging/`.

use std::thread::sleep;
use std::time::Duration;

use qga_testkit::wait;

use crate::{Guest, SOON, UNIT};

const README: &str = include_str!("../../../README.md");

/// Where the rule and the unit are, with names for copies.
const FILES: [(&str, &str); 2] = [
    ("/etc/systemd/system/qemu-guest-agent.service", "/root/unit"),
    ("/etc/udev/rules.d/60-qemu-guest-agent.rules", "/root/rule"),
];

pub(crate) fn the_udev_rule_starts_the_service(guest: &mut Guest) {
    guest.wait_service("active");
    // Nothing but the rule asks for it.
    assert_eq!(guest.service("UnitFileState"), "disabled");
    let wanted_by = guest.service("WantedBy");
    // systemd quotes what has a backslash.
    let wanted_by = wanted_by.trim_matches('"');
    assert!(wanted_by.starts_with("sys-devices-") && wanted_by.ends_with(".device"), "{wanted_by}");
    let pid = guest.service("MainPID");
    assert_eq!(guest.machine.shell.run(&format!("readlink /proc/{pid}/exe")), "/usr/sbin/qemu-ga");
    assert_eq!(guest.machine.shell.run("pidof qemu-ga"), pid);
    guest.ping();
    assert_eq!(guest.service("NRestarts"), "0");
    assert_eq!(guest.service("Type"), "notify");
    assert_eq!(guest.service("WatchdogUSec"), "3min");
    assert_eq!(guest.service("StatusText"), "at channel '/dev/virtio-ports/org.qemu.guest_agent.0'");
}

pub(crate) fn a_killed_agent_is_started_again(guest: &mut Guest) {
    guest.wait_service("active");
    let (pid, restarts) = (guest.service("MainPID"), guest.service("NRestarts"));
    guest.machine.shell.run(&format!("kill -9 {pid}"));
    guest.ping();
    guest.wait_service("active");
    assert_ne!(guest.service("MainPID"), pid);
    let number = |text: &str| text.parse::<u32>().unwrap();
    assert_eq!(number(&guest.service("NRestarts")), number(&restarts) + 1);
    // And runs on.
    sleep(Duration::from_secs(2));
    assert_eq!(number(&guest.service("NRestarts")), number(&restarts) + 1);
}

pub(crate) fn the_service_goes_and_comes_with_the_port(guest: &mut Guest) {
    guest.wait_service("active");
    let starts = "journalctl --boot --output=cat --unit=qemu-guest-agent | grep -c 'Started qemu-guest-agent'";
    let before = guest.machine.shell.number(starts);
    guest.machine.unplug_agent_port();
    guest.wait_service("inactive");
    // Somebody asks for it: it waits for its port, which costs nothing.
    guest.machine.shell.run(&format!("systemctl start --no-block {UNIT}"));
    sleep(Duration::from_secs(3));
    assert!(!guest.machine.shell.succeeds("pidof qemu-ga"), "an agent runs without a port");
    assert_ne!(guest.service("ActiveState"), "failed");
    assert_eq!(guest.machine.shell.number(starts), before, "it was started without a port");
    assert_eq!(guest.service("NRestarts"), "0");
    guest.machine.shell.run(&format!("systemctl stop {UNIT}"));

    guest.machine.plug_agent_port();
    guest.ping();
    guest.wait_service("active");
    assert_eq!(guest.machine.shell.number(starts), before + 1);
    assert_eq!(guest.service("NRestarts"), "0");
}

pub(crate) fn installed_as_the_readme_says_it_starts_at_once(guest: &mut Guest) {
    let reload = commands_of_the_readme();
    let shell = &mut guest.machine.shell;
    shell.run(&format!("systemctl stop {UNIT}"));
    for (place, copy) in FILES {
        shell.run(&format!("mv {place} {copy}"));
    }
    shell.run_within("systemctl daemon-reload && udevadm control --reload", SOON);
    assert!(!shell.succeeds(&format!("systemctl cat {UNIT}")), "the unit is still there");
    assert!(!shell.succeeds("pidof qemu-ga"));

    for (place, copy) in FILES {
        shell.run(&format!("mv {copy} {place}"));
    }
    shell.run_within(&reload, SOON);
    guest.ping();
    guest.wait_service("active");
}

/// What the README tells to run after the files are in place.
fn commands_of_the_readme() -> String {
    let text = README.replace('\n', " ");
    let begin = text.find("`systemctl daemon-reload").expect("the commands in the README") + 1;
    text[begin..].split('`').next().unwrap_or_default().to_owned()
}

pub(crate) fn a_mistake_in_the_configuration_is_told_and_not_tried_for_ever(guest: &mut Guest) {
    assert_eq!(guest.service("StartLimitBurst"), "20");
    assert_eq!(guest.service("StartLimitIntervalUSec"), "1min");
    // The same in less time.
    guest.override_unit("limit", "[Unit]\nStartLimitBurst=3\n");
    let shell = &mut guest.machine.shell;
    shell.run("mkdir -p /etc/qemu; printf '[general]\nmethod=pigeon\n' >/etc/qemu/qemu-ga.conf");
    shell.run(&format!("systemctl reset-failed {UNIT}; systemctl --no-block restart {UNIT}"));
    guest.wait_service("failed");
    let shell = &mut guest.machine.shell;
    let told = wait::until("the reason in the journal", SOON, || {
        let lines = shell.run("journalctl --boot --output=cat --priority=3 _COMM=qemu-ga; :");
        lines.lines().last().map(str::to_owned)
    });
    assert!(told.contains("pigeon"), "{told}");
    let restarts = guest.service("NRestarts");
    sleep(Duration::from_secs(2));
    assert_eq!(guest.service("NRestarts"), restarts);

    guest
        .machine
        .shell
        .run(&format!("rm /etc/qemu/qemu-ga.conf; systemctl reset-failed {UNIT}; systemctl start {UNIT}"));
    guest.keep_unit("limit");
    guest.ping();
}
