//! Freezing, seen by a writer in the guest and in the disk image on the host.

use std::thread::sleep;
use std::time::Duration;

use qga_testkit::wait;
use serde_json::json;
use vm_tests::shell::Shell;

use crate::Guest;

/// Appends numbered lines to a file on ext4, and says in a file that is never frozen how many it wrote.
const WRITER: &str = "
    touch /run/write; rm -f /mnt/ext4/numbers
    (i=0; while [ -e /run/write ]; do echo $i >>/mnt/ext4/numbers; i=$((i + 1)); echo $i >/run/written; done) \
        >/dev/null 2>&1 &
    echo $! >/run/writer";

/// How many lines were written so far. The file is empty for a moment whenever it changes.
fn written(shell: &mut Shell) -> u64 {
    shell.number("until read -r n </run/written && [ \"$n\" ]; do usleep 1000; done; echo $n")
}

/// Both file systems of the machine.
const FILE_SYSTEMS: u64 = 2;

pub(crate) fn freeze_stalls_a_writer_and_thaw_lets_it_go_on_with_nothing_lost(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    machine.shell.run(WRITER);
    wait::until("a writer in the guest", Duration::from_secs(60), || {
        (machine.shell.succeeds("[ -s /run/written ]") && written(&mut machine.shell) > 100).then_some(())
    });

    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("frozen")));
    sleep(Duration::from_millis(300));
    let stalled = written(&mut machine.shell);
    machine.shell.run("(touch /mnt/xfs/touched; touch /run/xfs-written) >/dev/null 2>&1 &");
    sleep(Duration::from_secs(2));
    assert_eq!(written(&mut machine.shell), stalled, "the writer goes on in a frozen file system");
    assert!(!machine.shell.succeeds("[ -e /run/xfs-written ]"), "xfs is written while frozen");
    let refused = agent.call("guest-file-open", json!({ "path": "/mnt/ext4/numbers" })).unwrap_err();
    assert!(refused.desc.contains("guest-file-open"), "{refused}");

    // The disk as a snapshot would see it: whole, and with everything written before.
    let snapshot = machine.disks.as_ref().unwrap().ext4.copy("snapshot.img");
    let (is_whole, report) = snapshot.check_ext4();
    assert!(is_whole, "{report}");
    assert_eq!(numbers(&snapshot.ext4_file("numbers")), stalled);

    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(FILE_SYSTEMS)));
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    wait::until("the writer going on", Duration::from_secs(30), || {
        (written(&mut machine.shell) > stalled).then_some(())
    });
    wait::until("xfs written", Duration::from_secs(30), || {
        machine.shell.succeeds("[ -e /run/xfs-written ]").then_some(())
    });

    machine.shell.run("rm /run/write; while [ -d /proc/$(cat /run/writer) ]; do usleep 50000; done; sync");
    let all = written(&mut machine.shell);
    let on_disk = machine.disks.as_ref().unwrap().ext4.copy("after.img").ext4_file("numbers");
    assert_eq!(numbers(&on_disk), all);
    machine.shell.run("rm -f /mnt/ext4/numbers /mnt/xfs/touched /run/xfs-written /run/written");
}

/// Counts the lines and checks that each has its own number.
pub(crate) fn numbers(bytes: &[u8]) -> u64 {
    let mut count = 0;
    for line in std::str::from_utf8(bytes).unwrap().lines() {
        assert_eq!(line, count.to_string(), "line {count} is lost or twice there");
        count += 1;
    }
    count
}

pub(crate) fn an_agent_killed_while_frozen_and_started_again_thaws(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    machine.shell.run("(echo late >/mnt/ext4/late; touch /run/late) >/dev/null 2>&1 &");
    machine.shell.run("kill -9 $(cat /run/qga/pid); while [ -d /proc/$(cat /run/qga/pid) ]; do usleep 50000; done");
    machine.shell.run("start-agent");
    // QEMU lets in one host at a time.
    drop(agent);

    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("frozen")));
    assert!(!machine.shell.succeeds("[ -e /run/late ]"), "the death of the agent thawed the file system");
    let thawed = agent.call("guest-fsfreeze-thaw", json!({})).unwrap();
    assert!(thawed.as_u64() >= Some(1), "{thawed}");
    wait::until("the stalled write", Duration::from_secs(30), || {
        machine.shell.succeeds("[ -e /run/late ]").then_some(())
    });
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    machine.shell.run("rm /run/late /mnt/ext4/late; echo whole >/mnt/xfs/late; rm /mnt/xfs/late");
}
