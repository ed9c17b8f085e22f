//! systemd as the one who watches: a loop that hangs is ended and started again, and nothing else is.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::freeze::{FILE_SYSTEMS, WRITE, wait_written};
use crate::{Guest, SOON, UNIT};

/// The watchdog's time in these tests, in seconds: shorter than that of the unit, and long enough for a busy host.
const LIMIT: u64 = 12;

/// Starts the service with a watchdog that is quicker than the unit's.
fn with_quick_watchdog(guest: &mut Guest) {
    guest.override_unit("watchdog", &format!("[Service]\nWatchdogSec={LIMIT}\n"));
    guest.machine.shell.run_within(&format!("systemctl restart {UNIT}"), SOON);
    assert_eq!(guest.service("WatchdogUSec"), format!("{LIMIT}s"));
    guest.ping();
}

fn without_quick_watchdog(guest: &mut Guest) {
    guest.keep_unit("watchdog");
    guest.machine.shell.run_within(&format!("systemctl restart {UNIT}"), SOON);
    guest.ping();
}

/// Stops the agent, so that its loop does not turn, and waits for systemd to start another.
fn stop_and_wait_for_another(guest: &mut Guest) {
    let (pid, restarts) = (guest.service("MainPID"), guest.service("NRestarts").parse::<u32>().unwrap());
    guest.machine.shell.run(&format!("kill -STOP {pid}"));
    qga_testkit::wait::until("another agent", SOON * 2, || {
        let other = guest.service("MainPID");
        (other != "0" && other != pid).then_some(())
    });
    guest.wait_service("active");
    assert_eq!(guest.service("NRestarts").parse::<u32>().unwrap(), restarts + 1);
}

pub(crate) fn an_agent_that_hangs_is_ended_by_the_watchdog_and_started_again(guest: &mut Guest) {
    with_quick_watchdog(guest);
    let told = "journalctl --boot --output=cat _PID=1 | grep -c 'qemu-guest-agent.service: Watchdog timeout'; :";
    let before = guest.machine.shell.number(told);
    stop_and_wait_for_another(guest);
    guest.ping();
    assert_eq!(guest.machine.shell.number(told), before + 1);
}

pub(crate) fn an_agent_that_hangs_while_frozen_leaves_nothing_frozen(guest: &mut Guest) {
    with_quick_watchdog(guest);
    assert_eq!(guest.call("guest-fsfreeze-freeze", json!({})), json!(FILE_SYSTEMS));
    let status = guest.service("StatusText");
    assert!(status.starts_with("frozen since 20") && status.ends_with(" UTC: 3 file systems"), "{status}");
    guest.machine.shell.run(WRITE);
    stop_and_wait_for_another(guest);
    wait_written(guest);
    assert_eq!(guest.call("guest-fsfreeze-status", json!({})), json!("thawed"));
    // The host is told that its snapshot is not what it thinks, once.
    let error = guest.machine.agent().call("guest-fsfreeze-thaw", json!({})).unwrap_err();
    assert!(error.desc.contains("thawed"), "{}", error.desc);
    assert_eq!(guest.call("guest-fsfreeze-thaw", json!({})), json!(0));
    assert!(!guest.machine.shell.succeeds("pidof qemu-ga-guardian"), "a guardian is left");
}

pub(crate) fn a_machine_that_stood_still_is_no_reason_to_end_the_agent(guest: &mut Guest) {
    with_quick_watchdog(guest);
    let pid = guest.service("MainPID");
    // As for a snapshot of the machine, or a migration.
    guest.machine.qmp.execute("stop", json!({}));
    sleep(Duration::from_secs(LIMIT + 3));
    guest.machine.qmp.execute("cont", json!({}));
    guest.ping();
    // Had its clock gone on, the time would be over by now.
    sleep(Duration::from_secs(3));
    guest.ping();
    assert_eq!(guest.service("MainPID"), pid);
    assert_eq!(guest.service("NRestarts"), "0");
    without_quick_watchdog(guest);
}

/// A service of an agent that waits for the second port, which no unit of udev stands for.
const WAITING: &str = "waiting.service";

pub(crate) fn an_agent_whose_port_is_absent_waits_and_is_not_started_again(guest: &mut Guest) {
    const PORT: &str = "/dev/virtio-ports/org.test.plugged.0";
    let property = |guest: &mut Guest, name: &str| {
        guest.machine.shell.run(&format!("systemctl show --value --property={name} {WAITING}"))
    };
    let wait_status = |guest: &mut Guest, expected: String| {
        qga_testkit::wait::until(&expected, SOON, || (property(guest, "StatusText") == expected).then_some(()));
    };
    let start = format!(
        "mkdir -p /run/waiting; systemd-run --quiet --unit={WAITING} --property=Type=notify --property=Restart=always \
         --property=RestartSec=0 --property=WatchdogSec={LIMIT} \
         /usr/sbin/qemu-ga --retry-path --path={PORT} --statedir=/run/waiting"
    );
    // Ready: it would answer if somebody could ask.
    guest.machine.shell.run_within(&start, SOON);
    assert_eq!(property(guest, "ActiveState"), "active");
    let pid = property(guest, "MainPID");
    wait_status(guest, format!("waiting for channel '{PORT}'"));
    for _ in 0..2 {
        sleep(Duration::from_secs(4));
        assert_eq!(property(guest, "StatusText"), format!("waiting for channel '{PORT}'"));
        guest.machine.plug_port();
        assert_eq!(guest.machine.plugged_agent().call("guest-ping", json!({})), Ok(json!({})));
        wait_status(guest, format!("at channel '{PORT}'"));
        guest.machine.unplug_port();
        wait_status(guest, format!("waiting for channel '{PORT}'"));
    }
    assert_eq!(property(guest, "MainPID"), pid);
    assert_eq!(property(guest, "NRestarts"), "0");
    // "lost", "waiting for" and "is open" for each time, and what systemd says of the start.
    let lines = guest.machine.shell.number(&format!("journalctl --boot --quiet --output=cat --unit={WAITING} | wc -l"));
    assert!((4..20).contains(&lines), "{lines} lines in the journal");
    guest.machine.shell.run_within(&format!("systemctl stop {WAITING}"), SOON);
}
