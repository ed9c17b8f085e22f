//! Shutdown and suspend through systemd, seen in QEMU's events, in the journal and on the disk.

use std::time::Duration;

use qga_testkit::wait;
use serde_json::json;
use vm_tests::debian::MACHINE_ID;
use vm_tests::machine::BOOT;
use vm_tests::{process, qga};

use crate::Guest;

/// The limit for a guest to go down, which the emulation may make long.
const DOWN: Duration = Duration::from_secs(120);

/// What lives only as long as one boot of the kernel.
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

/// What operators look for.
const MESSAGE: &str = "hypervisor initiated shutdown";

pub(crate) fn suspend_ram_goes_through_systemd(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    machine.qmp.drop_events();
    agent.send("guest-suspend-ram", &json!({})).unwrap();
    machine.qmp.wait_event("SUSPEND", DOWN);
    assert_eq!(machine.qmp.execute("query-status", json!({}))["status"], "suspended");
    machine.qmp.execute("system_wakeup", json!({}));
    machine.qmp.wait_event("WAKEUP", DOWN);
    machine.shell.wait_ready(BOOT).unwrap();
    // Success has no reply: the next one is that of guest-ping, on the connection of before.
    assert_eq!(agent.call_within("guest-ping", json!({}), BOOT), Ok(json!({})));
    let starts = machine.shell.run("journalctl --boot --output=cat --unit=systemd-suspend | grep -c ^Starting");
    assert_eq!(starts, "1");
}

pub(crate) fn suspend_disk_goes_through_systemd_and_the_next_boot_goes_on(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let boot = machine.shell.run(BOOT_ID);
    machine.shell.run("kept='in a variable of the shell'; echo 'in memory' >/run/kept");
    let mut agent = machine.agent();
    machine.qmp.drop_events();
    agent.send("guest-suspend-disk", &json!({})).unwrap();
    machine.qmp.wait_event("SUSPEND_DISK", DOWN);
    machine.qmp.wait_event("SHUTDOWN", DOWN);

    machine.start_again();
    let shell = &mut machine.shell;
    assert_eq!(shell.run("echo $kept; cat /run/kept; rm /run/kept"), "in a variable of the shell\nin memory");
    assert_eq!(shell.run(BOOT_ID), boot);
    assert_eq!(shell.run("journalctl --boot --output=cat --unit=systemd-hibernate | grep -c ^Starting"), "1");
    guest.ping();
    guest.wait_service("active");
}

pub(crate) fn shutdown_mode_reboot_boots_anew_and_the_journal_says_why(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let boot = machine.shell.run(BOOT_ID);
    let mut agent = machine.agent();
    machine.qmp.drop_events();
    agent.send("guest-shutdown", &json!({ "mode": "reboot" })).unwrap();
    let event = machine.qmp.wait_event("RESET", DOWN);
    assert_eq!(event, json!({ "guest": true, "reason": "guest-reset" }));
    // QEMU lets in one host at a time.
    drop(agent);
    // The one who waits finds no agent at first, then one in a system that is starting.
    let target = format!("unix:{}", machine.agent_socket().display());
    let wait = ["-t", &target, "--timeout", "300", "wait", "--for", "boot"];
    let waited = process::output(&mut qga::command(&qga::program(), &wait));
    assert!(waited.status.success(), "{}", process::text(&waited));
    machine.shell.wait_ready(BOOT).unwrap();
    assert_ne!(machine.shell.run(BOOT_ID), boot);
    assert_eq!(machine.shell.run("systemctl is-system-running"), "running");
    guest.wait_started();
    guest.ping();
    // By its number, since an earlier case sets the clock back and forth, and boots are counted by the clock. Only what
    // it is about, since another fills the journal, and from the request on.
    let about = format!(
        "journalctl --boot={} --output=cat --all | grep -a -e qemu-guest-agent -e guest-shutdown -e hypervisor; :",
        boot.replace('-', "")
    );
    let journal = guest.machine.shell.run(&about);
    let begin = journal.find("guest-shutdown called, mode: reboot").unwrap_or_else(|| panic!("{journal}"));
    let journal = &journal[begin..];
    assert!(journal.contains(MESSAGE), "{journal}");
    assert!(journal.contains("Stopped qemu-guest-agent.service"), "{journal}");
    // And not because of its start limit, a time-out or a signal.
    assert!(!journal.contains("qemu-guest-agent.service: Failed"), "{journal}");
}

pub(crate) fn shutdown_mode_powerdown_ends_in_order_and_the_journal_on_the_disk_says_why(guest: &mut Guest) {
    guest.is_spent = true;
    let machine = &mut guest.machine;
    machine.shell.run("echo unsaved >/root/unsaved");
    let mut agent = machine.agent();
    machine.qmp.drop_events();
    agent.send("guest-shutdown", &json!({})).unwrap();
    let event = machine.qmp.wait_event("SHUTDOWN", DOWN);
    assert_eq!(event, json!({ "guest": true, "reason": "guest-shutdown" }));
    let disk = machine.root().unwrap();
    assert_eq!(disk.ext4_file("root/unsaved"), b"unsaved\n");
    let header = process::run("dumpe2fs", &["-h".as_ref(), disk.path.as_os_str()]);
    assert!(!header.contains("needs_recovery"), "{header}");
    let journal = disk.ext4_file(&format!("var/log/journal/{MACHINE_ID}/system.journal"));
    let has = |text: &str| journal.windows(text.len()).any(|window| window == text.as_bytes());
    for text in [MESSAGE, "guest-shutdown called, mode: powerdown", "Reached target poweroff.target"] {
        assert!(has(text), "the journal lacks: {text}");
    }
}

pub(crate) fn shutdown_mode_halt_stops_the_processors(guest: &mut Guest) {
    guest.is_spent = true;
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    machine.qmp.drop_events();
    agent.send("guest-shutdown", &json!({ "mode": "halt" })).unwrap();
    wait::until("a halted guest", DOWN, || machine.console().contains("reboot: System halted").then_some(()));
    wait::until("two stopped processors", DOWN, || {
        (machine.qmp.human("info registers -a").matches("HLT=1").count() == 2).then_some(())
    });
    // Halted is neither off nor started again.
    assert_eq!(machine.qmp.event("SHUTDOWN", Duration::from_secs(2)), None);
    assert_eq!(machine.qmp.event("RESET", Duration::from_millis(10)), None);
    assert_eq!(machine.qmp.execute("query-status", json!({}))["status"], "running");
}
