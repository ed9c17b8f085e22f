//! Disks that fail or do not answer.

use std::time::{Duration, Instant};

use qga_testkit::{Host, wait};
use serde_json::{Value, json};
use vm_tests::Machine;

use super::{AT_ONCE, BOUNDED, Health, STATE, answers, close, everything_works, open, refused, restart, restore};
use crate::Guest;

/// A disk in memory with a file system that writes at once; `$disk` is its name.
const SIMULATED: &str = "
    modprobe scsi_debug dev_size_mb=32
    cd /sys/bus/pseudo/drivers/scsi_debug/adapter0
    while set -- host*/target*/*/block/*; [ ! -e \"$1\" ] || [ ! -b /dev/${1##*/} ]; do usleep 50000; done; cd /
    disk=${1##*/}
    /usr/sbin/mke2fs -q -t ext4 /dev/$disk && mount -t ext4 /dev/$disk /mnt/other
    head -c 1000000 /dev/zero >/mnt/other/old; sync; mount -o remount,sync /mnt/other";

pub(crate) fn a_disk_that_fails_every_access_is_answered_with_errors_and_works_again_afterwards(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.shell.run_within(SIMULATED, BOUNDED * 2);
    let mut agent = machine.agent();
    everything_works(&mut agent, machine, "/mnt/other/file");
    let before = Health::of(machine, "qga");
    let (old, new) = (open(&mut agent, "/mnt/other/old", "r"), open(&mut agent, "/mnt/other/new", "w"));
    machine.shell.run("echo 3 >/proc/sys/vm/drop_caches; echo offline >/sys/block/$disk/device/state");

    let desc = refused(&mut agent, "guest-file-read", json!({ "handle": old }));
    assert_eq!(desc, "failed to read file: Input/output error");
    let desc = refused(&mut agent, "guest-file-write", json!({ "handle": new, "buf-b64": "bmV3" }));
    assert_eq!(desc, "failed to write to file: Input/output error");
    // What is in memory, and commands that do not touch the disk, are there.
    agent.call("guest-file-flush", json!({ "handle": new })).unwrap();
    let info = agent.call_within("guest-get-fsinfo", json!({}), BOUNDED).unwrap();
    assert!(info.as_array().unwrap().iter().any(|system| system["mountpoint"] == "/mnt/other"), "{info}");
    agent.call_within("guest-get-disks", json!({}), BOUNDED).unwrap();
    let trimmed = agent.call_within("guest-fstrim", json!({}), BOUNDED).unwrap();
    let path = |name| trimmed["paths"].as_array().unwrap().iter().find(|path| path["path"] == name).cloned().unwrap();
    assert!(path("/mnt/other")["error"].is_string() && path("/mnt/ext4")["error"].is_null(), "{trimmed}");
    let desc = refused(&mut agent, "guest-fsfreeze-freeze", json!({}));
    assert_eq!(desc, "failed to freeze /mnt/other: Input/output error");
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    machine.shell.run("echo >/mnt/ext4/thawed; echo >/mnt/xfs/thawed; rm /mnt/ext4/thawed /mnt/xfs/thawed");
    answers(&mut agent);

    machine.shell.run("echo running >/sys/block/$disk/device/state");
    close(&mut agent, &old);
    close(&mut agent, &new);
    // Its journal was given up: that is for an administrator to mend.
    machine.shell.run("umount /mnt/other; mount -t ext4 /dev/$disk /mnt/other");
    everything_works(&mut agent, machine, "/mnt/other/file");
    before.wait_again(machine, "qga");
    machine.shell.run("umount /mnt/other; rmmod scsi_debug");
}

/// The disk of /mnt/ext4 takes next to nothing, or all again.
fn throttle(machine: &mut Machine, bytes_per_second: u64) {
    machine.qmp.execute(
        "block_set_io_throttle",
        json!({ "device": "ext4", "bps": bytes_per_second, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0 }),
    );
}

/// Sends a command that hangs, and gets away from it.
fn hangs(agent: &mut Host, command: &str, arguments: &Value) {
    agent.send(command, arguments).unwrap();
    let reply = agent.read_json(Duration::from_secs(1));
    assert!(reply.is_err(), "{command} does not hang: {reply:?}");
    let begin = Instant::now();
    agent.sync(BOUNDED).unwrap();
    assert!(begin.elapsed() < AT_ONCE, "{command}: a resynchronisation took {:?}", begin.elapsed());
}

pub(crate) fn a_disk_that_does_not_answer_holds_only_the_commands_that_need_it(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.shell.run("head -c 1000000 /dev/zero >/mnt/ext4/old; sync");
    // Its log lies there too.
    let mut agent = restart(machine, ":", &format!("{STATE} --fsfreeze-limit 2 -v -l /mnt/ext4/log"));
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    let before = Health::of(machine, "qga");
    let (old, new) = (open(&mut agent, "/mnt/ext4/old", "r"), open(&mut agent, "/mnt/ext4/new", "w"));
    machine.shell.run("sync; echo 3 >/proc/sys/vm/drop_caches");
    throttle(machine, 1);
    // The first access still comes through.
    machine.shell.run(
        "(dd if=/dev/vda of=/dev/null bs=64k count=8 iflag=direct; echo >/run/read) >/dev/null 2>&1 & usleep 500000",
    );

    hangs(&mut agent, "guest-file-read", &json!({ "handle": old }));
    answers(&mut agent);
    // Into memory.
    agent.call_within("guest-file-write", json!({ "handle": new, "buf-b64": "bmV3" }), BOUNDED).unwrap();
    agent.call_within("guest-get-fsinfo", json!({}), BOUNDED).unwrap();
    let desc = refused(&mut agent, "guest-fsfreeze-freeze", json!({}));
    assert_eq!(desc, "failed to freeze /mnt/ext4: it is not done after 2 seconds; it is thawed as soon as it is");
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    machine.shell.run("echo >/mnt/xfs/thawed; rm /mnt/xfs/thawed");
    // It may need the disk, and may be through without it.
    agent.send("guest-fstrim", &json!({})).unwrap();
    let _ = agent.read_json(Duration::from_secs(2));
    agent.sync(AT_ONCE).unwrap();
    answers(&mut agent);
    assert!(!machine.shell.succeeds("[ -e /run/read ]"), "the disk answers");

    throttle(machine, 0);
    wait::until("the disk", BOUNDED, || machine.shell.succeeds("[ -e /run/read ]").then_some(()));
    assert_eq!(agent.read_until_silence(Duration::from_secs(1)).unwrap(), b"", "a reply comes late");
    close(&mut agent, &old);
    close(&mut agent, &new);
    wait::until("the end of the freeze", BOUNDED, || {
        agent.call_within("guest-fsfreeze-freeze", json!({}), BOUNDED).ok()
    });
    agent.call_within("guest-fsfreeze-thaw", json!({}), BOUNDED).unwrap();
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    machine.shell.run("grep -q 'earlier lines of the log were lost' /mnt/ext4/log");
    // Besides the worker there may be the thread that writes to the log.
    before.wait_again(machine, "qga");
    drop(agent);
    restore(machine);
    machine.shell.run("rm /mnt/ext4/old /mnt/ext4/new /mnt/ext4/log /run/read");
}
