//! Shutdown and suspend, seen in QEMU's events.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use qga_testkit::wait;
use serde_json::json;
use vm_tests::machine::BOOT;
use vm_tests::process;

use crate::Guest;

/// The limit for a guest to go down, which the emulation may make long.
const DOWN: Duration = Duration::from_secs(90);

/// What lives only as long as one boot of the kernel.
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

pub(crate) fn suspend_ram_sleeps_until_the_host_wakes_it(guest: &mut Guest) {
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
}

pub(crate) fn suspend_hybrid_writes_an_image_and_sleeps_until_the_host_wakes_it(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let boot = machine.shell.run(BOOT_ID);
    let mut agent = machine.agent();
    machine.qmp.drop_events();
    agent.send("guest-suspend-hybrid", &json!({})).unwrap();
    let asleep = wait::poll(DOWN, || {
        // Success has no reply: one is the reason why the guest stays awake.
        if let Ok(reply) = agent.read_line(Duration::from_millis(100)) {
            panic!("the guest does not sleep: {}", String::from_utf8_lossy(&reply));
        }
        machine.qmp.event("SUSPEND", Duration::from_millis(100))
    });
    assert!(asleep.is_some(), "no event SUSPEND");
    assert_eq!(swap_signature(guest), "S1SUSPEND", "no image was written before the sleep");
    let machine = &mut guest.machine;
    machine.qmp.execute("system_wakeup", json!({}));
    machine.qmp.wait_event("WAKEUP", DOWN);
    machine.shell.wait_ready(BOOT).unwrap();
    assert_eq!(machine.shell.run(BOOT_ID), boot);
    assert_eq!(agent.call_within("guest-ping", json!({}), BOOT), Ok(json!({})));
    assert_eq!(swap_signature(guest), "SWAPSPACE2", "the image is still marked for the next boot");
}

pub(crate) fn suspend_disk_ends_the_machine_and_the_next_one_goes_on(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let boot = machine.shell.run(BOOT_ID);
    machine.shell.run("kept='in a variable of the shell'; echo 'in memory' >/run/kept");
    let mut agent = machine.agent();
    machine.qmp.drop_events();
    agent.send("guest-suspend-disk", &json!({})).unwrap();
    machine.qmp.wait_event("SUSPEND_DISK", DOWN);
    machine.qmp.wait_event("SHUTDOWN", DOWN);
    assert_eq!(swap_signature(guest), "S1SUSPEND", "no image on the swap disk");

    guest.machine.start_again();
    let shell = &mut guest.machine.shell;
    assert_eq!(shell.run("echo $kept; cat /run/kept; rm /run/kept"), "in a variable of the shell\nin memory");
    assert_eq!(shell.run(BOOT_ID), boot);
    assert_eq!(guest.machine.agent().call("guest-ping", json!({})), Ok(json!({})));
}

/// How the swap header ends, read on the host: it says whether there is a hibernated machine in it.
fn swap_signature(guest: &Guest) -> String {
    let mut signature = [0; 10];
    let file = File::open(&guest.machine.disks.as_ref().unwrap().swap.path).unwrap();
    file.read_exact_at(&mut signature, 4096 - 10).unwrap();
    String::from_utf8_lossy(&signature).trim_end_matches('\0').to_owned()
}

pub(crate) fn shutdown_mode_reboot_resets_the_machine(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let boot = machine.shell.run(BOOT_ID);
    let mut agent = machine.agent();
    machine.qmp.drop_events();
    agent.send("guest-shutdown", &json!({ "mode": "reboot" })).unwrap();
    let event = machine.qmp.wait_event("RESET", DOWN);
    assert_eq!(event, json!({ "guest": true, "reason": "guest-reset" }));
    machine.shell.wait_ready(BOOT).unwrap();
    assert_ne!(machine.shell.run(BOOT_ID), boot);
    // QEMU lets in one host at a time.
    drop(agent);
    assert_eq!(machine.agent().call("guest-ping", json!({})), Ok(json!({})));
}

pub(crate) fn shutdown_mode_powerdown_turns_the_machine_off(guest: &mut Guest) {
    let machine = &mut guest.machine;
    guest.is_spent = true;
    machine.shell.run("echo unsaved >/mnt/ext4/unsaved");
    let mut agent = machine.agent();
    machine.qmp.drop_events();
    agent.send("guest-shutdown", &json!({})).unwrap();
    let event = machine.qmp.wait_event("SHUTDOWN", DOWN);
    assert_eq!(event, json!({ "guest": true, "reason": "guest-shutdown" }));
    // An orderly end: init unmounted the disk.
    let disk = &machine.disks.as_ref().unwrap().ext4;
    assert_eq!(disk.ext4_file("unsaved"), b"unsaved\n");
    let header = process::run("dumpe2fs", &["-h".as_ref(), disk.path.as_os_str()]);
    assert!(!header.contains("needs_recovery"), "{header}");
}

pub(crate) fn shutdown_mode_halt_stops_the_processors(guest: &mut Guest) {
    let machine = &mut guest.machine;
    guest.is_spent = true;
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
