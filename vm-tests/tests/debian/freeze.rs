//! Freezing the root file system of a system that writes its journal to it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::wait;
use serde_json::json;
use vm_tests::process;

use crate::{Guest, SOON, UNIT};

/// The root, ext4 and xfs.
pub(crate) const FILE_SYSTEMS: u64 = 3;

const MIB: u64 = 1 << 20;

/// Long lines for the journal, as fast as it takes them, until /run/flood is removed.
const FLOOD: &str = "touch /run/flood; long=$(printf %0999d 0)
    (while [ -e /run/flood ]; do echo $long; done) 2>/dev/null \
        | systemd-cat --identifier=flood &
    echo $! >/run/flood.pid";

/// A write to the root file system, which says in a file that is never frozen when it is done.
pub(crate) const WRITE: &str = "rm -f /run/written; (echo late >/root/late; touch /run/written) >/dev/null 2>&1 &";

fn is_written(guest: &mut Guest) -> bool {
    guest.machine.shell.succeeds("[ -e /run/written ]")
}

#[track_caller]
pub(crate) fn wait_written(guest: &mut Guest) {
    wait::until("the stalled write", SOON, || is_written(guest).then_some(()));
}

pub(crate) fn with_the_root_and_the_journal_frozen_the_agent_answers_and_nothing_is_lost(guest: &mut Guest) {
    let mut agent = guest.machine.agent();
    guest.machine.shell.run("echo before >/root/before; logger --tag test before the freeze");
    guest.machine.shell.run(FLOOD);
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    guest.machine.shell.run(WRITE);
    // Until the journal's socket is full.
    let end = Instant::now() + Duration::from_secs(5);
    let mut answers = 0;
    while Instant::now() < end {
        assert_eq!(agent.call("guest-ping", json!({})), Ok(json!({})));
        assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("frozen")));
        agent.call("guest-file-open", json!({ "path": "/etc/hostname" })).unwrap_err();
        answers += 1;
        sleep(Duration::from_millis(20));
    }
    assert!(answers > 10, "{answers} answers in five seconds");
    assert!(!is_written(guest), "the root file system is not frozen");
    // The disk as a snapshot would see it: nothing to replay, and nothing wrong but files that are removed and in use,
    // which every running system has.
    let snapshot = guest.machine.root().unwrap().copy("snapshot.img");
    let header = process::run("dumpe2fs", &["-h".as_ref(), snapshot.path.as_os_str()]);
    assert!(!header.contains("needs_recovery"), "{header}");
    let check = process::output(process::command("e2fsck").args(["-f", "-p"]).arg(&snapshot.path));
    assert!(matches!(check.status.code(), Some(0 | 1)), "{}", process::text(&check));
    assert_eq!(snapshot.ext4_file("root/before"), b"before\n");

    guest.machine.shell.run("rm /run/flood");
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(FILE_SYSTEMS)));
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    wait_written(guest);
    guest.machine.shell.run("logger --tag test after the thaw");
    let shell = &mut guest.machine.shell;
    for line in ["-t test -g 'before the freeze'", "-t test -g 'after the thaw'", "-t qemu-ga -g 'logging re-enabled'"]
    {
        let find = format!("journalctl --boot --quiet --output=cat {line} | grep -q .");
        wait::until(line, SOON, || shell.succeeds(&find).then_some(()));
    }
    assert_eq!(shell.run("systemctl is-active systemd-journald"), "active");
    assert_eq!(shell.run("systemctl show --value --property=NRestarts systemd-journald"), "0");
}

pub(crate) fn a_service_stopped_while_frozen_thaws(guest: &mut Guest) {
    guest.wait_service("active");
    assert_eq!(guest.call("guest-fsfreeze-freeze", json!({})), json!(FILE_SYSTEMS));
    guest.machine.shell.run(WRITE);
    let begin = Instant::now();
    guest.machine.shell.run_within(&format!("systemctl stop {UNIT}"), SOON);
    // Long before systemd would have killed it.
    assert!(begin.elapsed() < Duration::from_secs(45), "{:?}", begin.elapsed());
    wait_written(guest);
    assert_eq!(guest.service("Result"), "success");
    guest.machine.shell.run(&format!("systemctl start {UNIT}"));
    assert_eq!(guest.call("guest-fsfreeze-status", json!({})), json!("thawed"));
}

pub(crate) fn an_agent_killed_while_frozen_is_started_again_and_thaws(guest: &mut Guest) {
    guest.wait_service("active");
    let pid = guest.service("MainPID");
    assert_eq!(guest.call("guest-fsfreeze-freeze", json!({})), json!(FILE_SYSTEMS));
    guest.machine.shell.run(WRITE);
    guest.machine.shell.run(&format!("kill -9 {pid}"));
    // systemd starts it from a file system that is frozen.
    let status = guest.call("guest-fsfreeze-status", json!({}));
    if status == json!("frozen") {
        assert_eq!(guest.call("guest-fsfreeze-thaw", json!({})), json!(FILE_SYSTEMS));
    }
    assert_eq!(guest.call("guest-fsfreeze-status", json!({})), json!("thawed"));
    wait_written(guest);
    guest
        .machine
        .shell
        .run("for directory in /root /mnt/ext4 /mnt/xfs; do echo x >$directory/late && rm $directory/late; done");
    assert_ne!(guest.service("MainPID"), pid);
}

pub(crate) fn a_port_unplugged_while_frozen_thaws(guest: &mut Guest) {
    guest.wait_service("active");
    assert_eq!(guest.call("guest-fsfreeze-freeze", json!({})), json!(FILE_SYSTEMS));
    guest.machine.shell.run(WRITE);
    // No host can ask for the thaw any more.
    guest.machine.unplug_agent_port();
    wait_written(guest);
    guest.wait_service("inactive");
    guest.machine.plug_agent_port();
    assert_eq!(guest.call("guest-fsfreeze-status", json!({})), json!("thawed"));
}

pub(crate) fn fstrim_gives_the_blocks_of_the_root_file_system_back(guest: &mut Guest) {
    let mut agent = guest.machine.agent();
    agent.call_within("guest-fstrim", json!({}), SOON).unwrap();
    let disk = guest.machine.root().unwrap();
    let before = disk.allocated();
    let shell = &mut guest.machine.shell;
    shell.run_within("dd if=/dev/zero of=/root/big bs=1M count=48 2>/dev/null; sync", SOON);
    let full = disk.allocated();
    assert!(full >= before + 40 * MIB, "{before} bytes before, {full} with a file of 48 MiB");
    shell.run("rm /root/big; sync");
    let reply = agent.call_within("guest-fstrim", json!({}), SOON).unwrap();
    let paths = reply["paths"].as_array().unwrap();
    for path in ["/", "/mnt/ext4", "/mnt/xfs"] {
        let entry = paths.iter().find(|entry| entry["path"] == path);
        assert!(entry.is_some_and(|entry| entry["trimmed"].is_u64()), "{path} in {reply}");
    }
    // The journal goes on writing.
    let after = disk.allocated();
    assert!(after + 36 * MIB <= full, "{full} bytes before, {after} after");
}
