//! Freezing on top of device-mapper, md, loop devices and an overlay, and on devices that fail or do not answer.

use std::time::Duration;

use qga_testkit::wait;
use serde_json::json;
use vm_tests::Machine;
use vm_tests::shell::Shell;

use crate::Guest;
use crate::guardian::{end_agent, restart, wait_no_guardian, wait_written, write_late};

/// Those that the machine has anyway.
const FILE_SYSTEMS: u64 = 2;

/// What the scripts below use. There is no udev that would wait for nodes or make them; the kernel makes those in /dev.
const TOOLS: &str = "
    modprobe -a loop dm_mod raid1 overlay
    ext4() { /usr/sbin/mke2fs -q -F -t ext4 $1; mkdir -p $2; mount -t ext4 $1 $2; }
    looped() { truncate -s $2 $1; losetup -f >/run/loop; losetup $(cat /run/loop) $1; }
    sectors() { cat /sys/class/block/${1##*/}/size; }
    dm() { dmsetup --noudevsync --noudevrules \"$@\"; }
    # linear NAME DEVICE: a device-mapper device; its node is /dev/mapper/NAME.
    linear() { dm create $1 --table \"0 $(sectors $2) linear $2 0\"; dmsetup mknodes; }
    dirty() { dd if=/dev/zero of=$1/dirty bs=64k count=32 2>/dev/null; }
";

/// Makes an md device of two members, as `mdadm --build` would.
const BUILD_MD: &str = "
    echo md0 >/sys/module/md_mod/parameters/new_array
    cd /sys/block/md0/md
    echo none >metadata_version; echo raid1 >level; echo 2 >raid_disks
    for n in 0 1; do echo 7:$n >new_dev; echo $n >dev-loop$n/slot; done
    echo 12288 >component_size; echo none >resync_start; echo active >array_state
    cd /
";

fn prepare(shell: &mut Shell) {
    shell.run(TOOLS);
}

pub(crate) fn what_lies_on_device_mapper_md_and_an_overlay_is_frozen_before_what_is_below(guest: &mut Guest) {
    let machine = &mut guest.machine;
    prepare(&mut machine.shell);
    // A device-mapper device on a mirror of two images, one on each of the machine's file systems.
    machine.shell.run("looped /mnt/ext4/member 12M; looped /mnt/xfs/member 12M");
    machine.shell.run(BUILD_MD);
    machine.shell.run("linear top /dev/md0; ext4 /dev/mapper/top /mnt/other/top");
    // An image on an overlay with layers on both.
    machine.shell.run(
        "mkdir -p /mnt/ext4/lower /mnt/xfs/upper /mnt/xfs/work /mnt/other/merged
         mount -t overlay -o lowerdir=/mnt/ext4/lower,upperdir=/mnt/xfs/upper,workdir=/mnt/xfs/work none /mnt/other/merged
         looped /mnt/other/merged/image 8M; ext4 $(cat /run/loop) /mnt/other/inner",
    );
    // What is below comes last in the mount table now.
    machine.shell.run(
        "mkdir -p /mnt/other/late
         for name in ext4 xfs; do
             mount --bind /mnt/$name /mnt/other/late; umount -l /mnt/$name; mount --move /mnt/other/late /mnt/$name
         done",
    );
    let table = machine.shell.run("cat /proc/self/mountinfo");
    assert!(table.find(" /mnt/other/inner ") < table.find(" /mnt/xfs "), "{table}");
    restart(machine, "--fsfreeze-limit 20");
    let mut agent = machine.agent();
    for _ in 0..3 {
        machine.shell.run("for dir in top inner merged; do dirty /mnt/other/$dir; done");
        assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS + 2)));
        machine.shell.run(
            "rm -f /run/late-*
             for dir in top inner merged; do (echo >/mnt/other/$dir/late; touch /run/late-$dir) >/dev/null 2>&1 & done",
        );
        assert!(!machine.shell.succeeds("usleep 500000; ls /run/late-*"), "written while frozen");
        assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(FILE_SYSTEMS + 2)));
        wait::until("the writes that waited", Duration::from_secs(30), || {
            machine.shell.succeeds("[ $(ls /run/late-* | wc -l) = 3 ]").then_some(())
        });
    }
    for (point, count) in [("/mnt/other/top", 1), ("/mnt/other/inner", 1), ("/mnt/other/merged", 0)] {
        let frozen = agent.call("guest-fsfreeze-freeze-list", json!({ "mountpoints": [point] }));
        assert_eq!(frozen, Ok(json!(count)), "{point}");
        assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(count)), "{point}");
    }
    drop(agent);
    machine.shell.run(
        "rm -f /run/late-*; umount /mnt/other/inner; umount /mnt/other/top; dm remove top
         echo clear >/sys/block/md0/md/array_state; losetup -d /dev/loop2; losetup -d /dev/loop0; losetup -d /dev/loop1
         umount /mnt/other/merged
         rm -r /mnt/ext4/member /mnt/ext4/lower /mnt/xfs/member /mnt/xfs/upper /mnt/xfs/work",
    );
    restart(machine, "-l /run/qga/log");
    machine.agent();
}

/// Makes an ext4 on a device-mapper device at /mnt/other/weak, with something to write.
fn make_weak(machine: &mut Machine) {
    machine.shell.run(
        "looped /run/weak 16M; cp /run/loop /run/weak-loop; linear weak $(cat /run/loop)
         ext4 /dev/mapper/weak /mnt/other/weak; dirty /mnt/other/weak",
    );
}

fn remove_weak(machine: &mut Machine) {
    machine.shell.run("umount /mnt/other/weak; dm remove weak; losetup -d $(cat /run/weak-loop); rm /run/weak");
}

pub(crate) fn a_disk_that_fails_fails_the_freeze_and_is_passed_over_in_mode_best_effort(guest: &mut Guest) {
    let machine = &mut guest.machine;
    prepare(&mut machine.shell);
    let fail = "dm suspend --nolockfs --noflush weak; dm load weak --table \"0 32768 error\"; dm resume weak";
    make_weak(machine);
    machine.shell.run(fail);
    let mut agent = machine.agent();
    let error = agent.call("guest-fsfreeze-freeze", json!({})).unwrap_err();
    assert_eq!(error.desc, "failed to freeze /mnt/other/weak: Input/output error");
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    write_late(machine);
    wait_written(machine);
    wait_no_guardian(machine);
    drop(agent);
    remove_weak(machine);

    make_weak(machine);
    machine.shell.run(fail);
    restart(machine, "-l /run/qga/log --fsfreeze-mode best-effort");
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    write_late(machine);
    assert!(!machine.shell.succeeds("usleep 500000; ls /run/late-*"), "written while frozen");
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(FILE_SYSTEMS)));
    wait_written(machine);
    let line = "a file system was not frozen: failed to freeze /mnt/other/weak: Input/output error";
    let log = machine.shell.run("cat /run/qga/log");
    assert_eq!(log.matches(line).count(), 1, "{log}");
    drop(agent);
    remove_weak(machine);
    restart(machine, "-l /run/qga/log");
    machine.agent();
}

pub(crate) fn a_suspended_device_fails_the_freeze_in_time_and_is_named(guest: &mut Guest) {
    let machine = &mut guest.machine;
    prepare(&mut machine.shell);
    make_weak(machine);
    restart(machine, "-l /run/qga/log --fsfreeze-limit 2");
    machine.shell.run("dm suspend --nolockfs --noflush weak");
    let mut agent = machine.agent();
    let error = agent.call("guest-fsfreeze-freeze", json!({})).unwrap_err();
    assert!(error.desc.starts_with("failed to freeze /mnt/other/weak: it is not done after 2 seconds"), "{error}");
    agent.call("guest-ping", json!({})).unwrap();
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    write_late(machine);
    wait_written(machine);
    machine.shell.run("dm resume weak");
    // It is frozen late, thawed at once, and then there is nothing left of it.
    wait_no_guardian(machine);
    machine.shell.run("dirty /mnt/other/weak");
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS + 1)));
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(FILE_SYSTEMS + 1)));
    drop(agent);
    remove_weak(machine);
    restart(machine, "-l /run/qga/log");
    machine.agent();
}

pub(crate) fn a_guardian_thaws_although_the_disk_of_its_own_program_does_not_answer(guest: &mut Guest) {
    let machine = &mut guest.machine;
    prepare(&mut machine.shell);
    end_agent(machine);
    machine.shell.run(
        "looped /run/disk 96M; linear disk $(cat /run/loop); ext4 /dev/mapper/disk /mnt/other/disk
         cp /usr/sbin/qemu-ga /mnt/other/disk/; sync
         setsid /mnt/other/disk/qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 --retry-path \
             -t /run/qga </dev/null >/run/qga/output 2>&1 &
         echo $! >/run/qga/pid",
    );
    let mut agent = machine.agent();
    let lists = json!({ "mountpoints": ["/mnt/ext4", "/mnt/xfs"] });
    assert_eq!(agent.call("guest-fsfreeze-freeze-list", lists), Ok(json!(FILE_SYSTEMS)));
    write_late(machine);
    machine.shell.run("dm suspend --nolockfs --noflush disk; kill -9 $(cat /run/qga/pid)");
    // What is left of the program in memory is what the guardian holds on to.
    machine
        .shell
        .run("while [ -d /proc/$(cat /run/qga/pid) ]; do usleep 50000; done; echo 3 >/proc/sys/vm/drop_caches");
    drop(agent);
    wait_written(machine);
    machine.shell.run("dm resume disk");
    wait_no_guardian(machine);
    machine.shell.run("umount /mnt/other/disk; dm remove disk; losetup -d $(cat /run/loop); rm /run/disk");
    machine.shell.run("start-agent");
    let mut agent = machine.agent();
    let error = agent.call("guest-fsfreeze-thaw", json!({})).unwrap_err();
    assert_eq!(error.desc, "the agent ended while file systems were frozen, and they were thawed then");
}
