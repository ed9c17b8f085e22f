use std::time::{Duration, Instant};

use super::*;
use crate::platform::linux::device::tree::Tree;

fn run(tree: &Tree, mounts: &str) -> Vec<GuestFilesystemInfo> {
    tree.file("/proc/self/mountinfo", mounts);
    fsinfo(&tree.root(), &Asker::default()).unwrap()
}

/// `mountpoint name type` of each entry.
fn lines(all: &[GuestFilesystemInfo]) -> Vec<String> {
    all.iter().map(|one| format!("{} {} {}", one.mountpoint, one.name, one.fs_type)).collect()
}

#[test]
fn file_systems_come_in_reverse_order_of_mounting_with_their_disks() {
    let tree = Tree::new();
    let vda = tree.disk("devices/pci0000:00/0000:00:04.0/virtio1/block/vda", "254:0");
    tree.partition(&format!("{}/vda1", &vda[5..]), "254:1");
    tree.disk("devices/virtual/block/loop0", "7:0");
    let all = run(
        &tree,
        "9000022 1 0:21 / /proc rw - proc proc rw\n\
         9000030 1 254:1 / / rw - ext4 /dev/root rw\n\
         9000031 9000030 7:0 / /mnt/loop rw - xfs /dev/loop0 rw\n\
         9000032 9000030 99:99 / /mnt/missing\\040x\\134y\\011z rw - fuseblk /dev/x rw\n\
         9000033 9000030 254:1 /srv /mnt/bind rw - ext4 /dev/root rw\n",
    );
    assert_eq!(lines(&all), ["/mnt/missing x\\y\tz 99:99 fuseblk", "/mnt/loop loop0 xfs", "/ vda1 ext4"]);
    let disks: Vec<usize> = all.iter().map(|one| one.disk.len()).collect();
    assert_eq!(disks, [0, 0, 1]);
    assert_eq!(all[2].disk[0].dev.as_deref(), Some("/dev/vda1"));
    // No mount of this machine has such a number: what their paths lead to here is something else.
    assert!(all.iter().all(|one| (one.total_bytes, one.used_bytes, one.total_bytes_privileged) == (None, None, None)));
}

#[test]
fn the_list_of_disks_is_there_even_when_it_is_empty_and_a_controller_has_all_four_numbers() {
    let tree = Tree::new();
    tree.disk("devices/vbd-768/block/xvda", "202:0");
    let all = run(&tree, "30 1 202:0 / / rw - ext4 /dev/xvda rw\n31 30 7:0 / /l rw - ext4 /dev/loop0 rw\n");
    let json = serde_json::to_value(&all).unwrap();
    assert_eq!(json[0]["disk"], serde_json::json!([]));
    let controller = &json[1]["disk"][0]["pci-controller"];
    assert_eq!(*controller, serde_json::json!({ "domain": -1, "bus": -1, "slot": -1, "function": -1 }));
    assert!(json[0].get("total-bytes").is_none());
}

#[test]
fn file_systems_without_a_number_that_hold_data_are_listed_and_others_are_not() {
    let tree = Tree::new();
    let all = run(
        &tree,
        "20 1 0:20 / / rw - overlay overlay rw,upperdir=/u\n\
         21 20 0:21 / /zdata rw - zfs tank/data rw\n\
         22 20 0:22 / /zdata/.zfs/snapshot/s rw - zfs tank/data@s ro\n\
         23 20 0:23 / /share rw - virtiofs tag rw\n\
         24 20 0:24 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n\
         25 20 0:25 / /tmp rw - tmpfs tmpfs rw\n\
         26 20 0:26 / /nfs rw - nfs4 server:/x rw\n\
         27 20 0:27 / /cifs rw - cifs //server/x rw\n\
         28 20 0:28 / /9p rw - 9p tag rw\n\
         29 20 0:29 / /fuse rw - fuse.sshfs host: rw\n\
         30 20 0:30 / /bc rw - bcachefs /dev/sda:/dev/sdb rw\n\
         31 20 0:21 /sub /bind rw - zfs tank/data rw\n",
    );
    let expected =
        ["/bc /dev/sda:/dev/sdb bcachefs", "/share tag virtiofs", "/zdata tank/data zfs", "/ overlay overlay"];
    assert_eq!(lines(&all), expected);
}

#[test]
fn each_subvolume_of_a_btrfs_is_listed_once_and_a_directory_of_it_is_not() {
    let tree = Tree::new();
    let all = run(
        &tree,
        "20 1 0:30 /@ / rw - btrfs /dev/vda2 rw,space_cache,subvolid=256,subvol=/@\n\
         21 20 0:30 /@home /home rw - btrfs /dev/vda2 rw,subvolid=257,subvol=/@home\n\
         22 20 0:30 /@home/u /srv rw - btrfs /dev/vda2 rw,subvolid=257,subvol=/@home\n\
         23 20 0:31 / /other rw - btrfs /dev/vdb rw,subvolid=5,subvol=/\n\
         24 20 0:32 / /old rw - btrfs /dev/vdc rw\n\
         25 20 0:32 /x /old2 rw - btrfs /dev/vdc rw\n",
    );
    let points: Vec<&str> = all.iter().map(|one| one.mountpoint.as_str()).collect();
    assert_eq!(points, ["/old", "/other", "/home", "/"]);
    assert!(all.iter().all(|one| one.name.starts_with("/dev/vd") && one.fs_type == "btrfs"), "{all:?}");
}

#[test]
fn the_mount_that_is_covered_is_not_the_one_that_is_shown() {
    let tree = Tree::new();
    let all = run(
        &tree,
        "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
         21 20 8:2 / /a rw - ext4 /dev/sda2 rw\n\
         22 21 8:3 / /a rw - ext4 /dev/sda3 rw\n\
         23 20 8:2 / /b rw - ext4 /dev/sda2 rw\n\
         24 20 8:4 / /c rw - ext4 /dev/sda4 rw\n\
         25 24 8:1 /x /c rw - ext4 /dev/sda1 rw\n",
    );
    let points: Vec<&str> = all.iter().map(|one| one.mountpoint.as_str()).collect();
    assert_eq!(points, ["/c", "/a", "/b", "/"], "what is covered everywhere keeps its first mount point");
}

#[test]
fn one_device_that_cannot_be_resolved_costs_only_its_own_disks() {
    let tree = Tree::new();
    tree.disk("devices/pci0000:00/0000:00:04.0/virtio1/block/vda", "254:0");
    tree.link("/sys/dev/block/8:1", "/sys/dev/block/8:1");
    let broken = tree.disk("devices/virtual/block/dm-0", "253:0");
    std::fs::remove_dir(tree.path(&format!("{broken}/slaves"))).unwrap();
    tree.file(&format!("{broken}/slaves"), "no directory");
    let all = run(
        &tree,
        "20 1 254:0 / / rw - ext4 /dev/vda rw\n\
         21 20 8:1 / /a rw - ext4 /dev/sda1 rw\n\
         22 20 253:0 / /b rw - ext4 /dev/dm-0 rw\n",
    );
    assert_eq!(lines(&all), ["/b dm-0 ext4", "/a 8:1 ext4", "/ vda ext4"]);
    assert_eq!(all[2].disk.len(), 1);
}

#[test]
fn without_a_mount_table_it_is_an_error() {
    let tree = Tree::new();
    let error = fsinfo(&tree.root(), &Asker::default()).unwrap_err();
    assert_eq!(error.desc, "failed to open mtab file: '/proc/self/mounts': No such file or directory");
}

#[test]
fn a_thousand_mounts_on_one_stack_take_no_thousand_times_as_long() {
    let tree = Tree::new();
    let disk = tree.disk("devices/pci0000:00/0000:00:04.0/virtio1/block/vda", "254:0");
    let mut mounts = String::from("10000 1 254:0 / / rw - ext4 /dev/vda rw\n");
    for n in 0..1000 {
        let volume = tree.disk(&format!("devices/virtual/block/dm-{n}"), &format!("253:{n}"));
        tree.slaves(&volume, &[&disk]);
        mounts += &format!("{} 10000 253:{n} / /mnt/{n} rw - ext4 /dev/dm-{n} rw\n", n + 1);
    }
    let started = Instant::now();
    let all = run(&tree, &mounts);
    assert_eq!(all.len(), 1001);
    assert!(all.iter().all(|one| one.disk.len() == 1));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
