//! What guest-fstrim gives back, seen in the disk image on the host and in the map of a simulated disk.

use std::time::Duration;

use qga_testkit::wait;
use serde_json::{Value, json};
use vm_tests::shell::Shell;

use crate::Guest;

const MIB: u64 = 1 << 20;

/// The bytes that a reply says were trimmed at a mount point.
fn trimmed(reply: &Value, path: &str) -> u64 {
    let mut entries = reply["paths"].as_array().unwrap().iter();
    let entry = entries.find(|entry| entry["path"] == path).unwrap_or_else(|| panic!("no {path} in {reply}"));
    entry["trimmed"].as_u64().unwrap_or_else(|| panic!("not trimmed: {entry}"))
}

pub(crate) fn fstrim_gives_the_blocks_of_a_removed_file_back_on_the_host(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    // Once before: what is free already must not count.
    agent.call("guest-fstrim", json!({})).unwrap();
    let image = machine.disks.as_ref().unwrap().xfs.clone();
    let before = image.allocated();

    machine
        .shell
        .run_within("dd if=/dev/zero of=/mnt/xfs/big bs=1M count=64 2>/dev/null; sync", Duration::from_secs(90));
    let full = image.allocated();
    assert!(full >= before + 60 * MIB, "{before} bytes before, {full} with a file of 64 MiB");
    machine.shell.run("rm /mnt/xfs/big; sync");
    assert!(image.allocated() >= full - 4 * MIB, "the blocks were given back without fstrim");

    // XFS frees the blocks of a removed file a little later.
    let mut total = 0;
    wait::until("the blocks given back", Duration::from_secs(60), || {
        total = trimmed(&agent.call("guest-fstrim", json!({})).unwrap(), "/mnt/xfs").max(total);
        (image.allocated() <= before + 4 * MIB).then_some(())
    });
    assert!(total >= 60 * MIB, "{total} bytes reported");
}

/// The bytes of the simulated disk that hold data, from ranges of sectors as in `0-15,64-127`.
fn mapped(shell: &mut Shell) -> u64 {
    let map = shell.run("cat /sys/bus/pseudo/drivers/scsi_debug/map");
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("a map of ranges: {map}"));
    let ranges = map.split(',').filter(|range| !range.is_empty());
    let sectors: u64 = ranges
        .map(|range| match range.split_once('-') {
            Some((first, last)) => number(last) - number(first) + 1,
            None => 1,
        })
        .sum();
    sectors * 512
}

pub(crate) fn fstrim_shrinks_the_map_of_a_simulated_disk_back_to_metadata(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let shell = &mut machine.shell;
    shell.run("modprobe scsi_debug dev_size_mb=64 lbpu=1 lbpws=1");
    let script = "cd /sys/bus/pseudo/drivers/scsi_debug/adapter0; echo host*/target*/*/block/*; cd /";
    let disk = wait::until("the simulated disk", Duration::from_secs(30), || {
        let path = shell.run(script);
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        (name != "*" && shell.succeeds(&format!("[ -b /dev/{name} ]"))).then_some(name)
    });
    shell.run(&format!(
        "/usr/sbin/mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 /dev/{disk}
         mount -t ext4 /dev/{disk} /mnt/other; sync"
    ));
    let fresh = mapped(shell);
    assert!(fresh > 0 && fresh < 16 * MIB, "{fresh} bytes in a fresh file system");

    assert!(!shell.succeeds("dd if=/dev/zero of=/mnt/other/fill bs=1M"), "the disk never gets full");
    shell.run("sync");
    let full = mapped(shell);
    assert!(full > 50 * MIB, "{full} bytes of a full disk");
    shell.run("rm /mnt/other/fill; sync");
    assert!(mapped(shell) >= full - MIB, "the blocks were given back without fstrim");

    let reply = machine.agent().call("guest-fstrim", json!({})).unwrap();
    assert!(trimmed(&reply, "/mnt/other") > 40 * MIB, "{reply}");
    let after = mapped(&mut machine.shell);
    assert!(after <= fresh + 2 * MIB, "{fresh} bytes when fresh, {full} when full, {after} after fstrim");
    machine.shell.run("umount /mnt/other; rmmod scsi_debug");
}
