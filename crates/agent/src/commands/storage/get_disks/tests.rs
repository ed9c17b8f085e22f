use std::time::{Duration, Instant};

use super::*;
use crate::platform::linux::device::tree::Tree;

fn names(all: &[GuestDiskInfo]) -> Vec<&str> {
    all.iter().map(|one| one.name.as_str()).collect()
}

#[test]
fn disks_come_by_name_each_with_its_partitions_behind_it() {
    let tree = Tree::new();
    let vda = tree.disk("devices/pci0000:00/0000:00:04.0/virtio1/block/vda", "254:0");
    tree.partition(&format!("{}/vda2", &vda[5..]), "254:2");
    let vda1 = tree.partition(&format!("{}/vda1", &vda[5..]), "254:1");
    let sda = tree.disk("devices/pci0000:00/0000:00:05.0/virtio2/host2/target2:0:1/2:0:1:0/block/sda", "8:0");
    let dm0 = tree.disk("devices/virtual/block/dm-0", "253:0");
    tree.slaves(&dm0, &[&sda, &vda1]);
    tree.udev("253:0", "E:DM_NAME=vg-lv\n");
    let dm1 = tree.disk("devices/virtual/block/dm-1", "253:1");
    tree.slaves(&dm1, &[&dm0]);
    tree.file(&format!("{dm1}/dm/name"), "crypt\n");
    let all = disks(&tree.root()).unwrap();
    assert_eq!(names(&all), ["/dev/dm-0", "/dev/dm-1", "/dev/sda", "/dev/vda", "/dev/vda1", "/dev/vda2"]);
    let json = serde_json::to_value(&all).unwrap();
    let dependencies: Vec<_> = all.iter().map(|one| one.dependencies.clone().unwrap().join(" ")).collect();
    assert_eq!(dependencies, ["/dev/vda1 /dev/sda", "/dev/dm-0", "", "", "/dev/vda", "/dev/vda"]);
    assert_eq!((&json[0]["alias"], &json[1]["alias"]), (&"vg-lv".into(), &"crypt".into()));
    let with_address: Vec<bool> = all.iter().map(|one| one.address.is_some()).collect();
    assert_eq!(with_address, [false, false, true, true, false, false]);
    let partitions: Vec<bool> = all.iter().map(|one| one.partition).collect();
    assert_eq!(partitions, [false, false, false, false, true, true]);
    let expected = serde_json::json!({ "name": "/dev/vda", "dependencies": [], "partition": false, "address": {
        "bus-type": "virtio", "bus": 0, "unit": 0, "target": 0, "dev": "/dev/vda",
        "pci-controller": { "bus": 0, "slot": 4, "domain": 0, "function": 0 } } });
    assert_eq!(json[3], expected);
}

#[test]
fn what_is_empty_or_hidden_is_left_out() {
    let tree = Tree::new();
    let empty = tree.disk("devices/virtual/block/loop0", "7:0");
    tree.file(&format!("{empty}/size"), "0\n");
    let unsized_disk = tree.disk("devices/virtual/block/loop1", "7:1");
    fs::remove_file(tree.path(&format!("{unsized_disk}/size"))).unwrap();
    let hidden = tree.disk("devices/pci0000:00/0000:00:07.0/nvme/nvme0/nvme0c0n1", "259:9");
    fs::remove_file(tree.path(&format!("{hidden}/dev"))).unwrap();
    tree.file(&format!("{hidden}/uevent"), "DEVTYPE=disk\n");
    tree.dir("/sys/block/directory");
    let loop2 = tree.disk("devices/virtual/block/loop2", "7:2");
    fs::remove_dir(tree.path(&format!("{loop2}/slaves"))).unwrap();
    let all = disks(&tree.root()).unwrap();
    assert_eq!(names(&all), ["/dev/loop2"]);
    assert_eq!((&all[0].dependencies, &all[0].address), (&None, &None), "nothing is known of what it lies on");
}

#[test]
fn one_list_tells_which_loop_devices_are_empty_and_nothing_of_other_disks() {
    let tree = Tree::new();
    for n in 0..3 {
        let path = tree.disk(&format!("devices/virtual/block/loop{n}"), &format!("7:{n}"));
        // What it says differs from the list, so that it is seen which was believed.
        tree.file(&format!("{path}/size"), if n == 1 { "0\n" } else { "8\n" });
    }
    for (name, number) in [("sr0", "11:0"), ("zram0", "251:0"), ("loopy", "99:0")] {
        tree.disk(&format!("devices/virtual/block/{name}"), number);
    }
    let empty = tree.disk("devices/virtual/block/sr1", "11:1");
    tree.file(&format!("{empty}/size"), "0\n");
    let others = ["/dev/loopy", "/dev/sr0", "/dev/zram0"];
    let seen = || names(&disks(&tree.root()).unwrap()).iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    tree.file(
        "/proc/partitions",
        "major minor  #blocks  name\n\n   7        1          4 loop1\n   7       10          4 loop10\n",
    );
    assert_eq!(seen(), [&["/dev/loop1"], &others[..]].concat());
    for no_list in ["", "\n", "   7        1          4 loop1\n"] {
        tree.file("/proc/partitions", no_list);
        assert_eq!(seen(), [&["/dev/loop0", "/dev/loop2"], &others[..]].concat(), "{no_list}");
    }
}

#[test]
fn a_namespace_with_several_controllers_shows_the_first() {
    let tree = Tree::new();
    tree.disk("devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "259:0");
    for (controller, slot) in [("nvme1", "08"), ("nvme0", "07")] {
        let path = format!("/sys/devices/pci0000:00/0000:00:{slot}.0/nvme/{controller}");
        tree.dir(&path);
        tree.link(&format!("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/{controller}"), &path);
    }
    let all = disks(&tree.root()).unwrap();
    let address = all[0].address.as_ref().unwrap();
    assert_eq!((address.bus_type, address.pci_controller.slot), (GuestDiskBusType::Nvme, 7));
}

#[test]
fn a_system_without_disks_has_an_empty_list_and_one_without_sysfs_an_error() {
    let tree = Tree::new();
    assert_eq!(disks(&tree.root()).unwrap(), []);
    fs::remove_dir(tree.path("/sys/block")).unwrap();
    let expected = "Can't open directory \"/sys/block\": No such file or directory";
    assert_eq!(disks(&tree.root()).unwrap_err().desc, expected);
}

#[test]
fn four_thousand_disks_take_seconds_at_most() {
    let tree = Tree::new();
    for n in 0..4000 {
        let unit = format!("devices/pci0000:00/0000:00:05.0/virtio2/host2/target2:0:{n}/2:0:{n}:0/block/disk{n}");
        tree.disk(&unit, &format!("8:{n}"));
    }
    let started = Instant::now();
    let all = disks(&tree.root()).unwrap();
    assert_eq!(all.len(), 4000);
    assert_eq!(all[3999].address.as_ref().unwrap().target, 3999);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
