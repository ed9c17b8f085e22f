//! Disks on each bus and what is made of several of them, compared with QEMU's command line.

use std::time::Duration;

use serde_json::{Value, json};
use vm_tests::Machine;
use vm_tests::hardware::{self, PARTED, PLACES, Place, TWICE};

use crate::Guest;

/// PCI bus, slot and function, kind, and bus, target and unit.
type Where<'a> = ((u64, u64, u64), &'a str, (u64, u64, u64));

/// What an address says.
fn place(address: &Value) -> Where<'_> {
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{address}"));
    let pci = &address["pci-controller"];
    assert_eq!(pci["domain"], 0, "{address}");
    let numbers = (number(&address["bus"]), number(&address["target"]), number(&address["unit"]));
    let function = (number(&pci["bus"]), number(&pci["slot"]), number(&pci["function"]));
    (function, address["bus-type"].as_str().unwrap(), numbers)
}

/// The places that [`Place`] stands for.
fn expected(place: &Place) -> Vec<Where<'_>> {
    place.controllers.iter().map(|controller| (*controller, place.bus_type, place.numbers)).collect()
}

/// What `guest-get-disks` says.
struct Disks(Vec<Value>);

impl Disks {
    fn of(machine: &Machine) -> Self {
        let Value::Array(all) = machine.agent().call("guest-get-disks", json!({})).unwrap() else {
            panic!("no list of disks")
        };
        Disks(all)
    }

    /// All entries with this member.
    fn with(&self, pointer: &str, value: &str) -> Vec<&Value> {
        self.0.iter().filter(|disk| disk.pointer(pointer).is_some_and(|found| found == value)).collect()
    }

    /// The one with this member.
    #[track_caller]
    fn one(&self, pointer: &str, value: &str) -> &Value {
        let found = self.with(pointer, value);
        assert_eq!(found.len(), 1, "{pointer} {value} in {:#?}", self.0);
        found[0]
    }

    /// The node of the disk of this name on QEMU's command line.
    #[track_caller]
    fn node(&self, id: &str) -> &str {
        let place = PLACES.iter().find(|place| place.id == id).unwrap();
        self.one("/address/serial", place.serial)["name"].as_str().unwrap()
    }
}

/// What `guest-get-fsinfo` says of the file system that is mounted here.
#[track_caller]
fn system<'a>(systems: &'a [Value], point: &str) -> &'a Value {
    let found: Vec<&Value> = systems.iter().filter(|one| one["mountpoint"] == point).collect();
    assert_eq!(found.len(), 1, "{point} in {systems:#?}");
    found[0]
}

fn systems(machine: &Machine) -> Vec<Value> {
    machine.agent().call("guest-get-fsinfo", json!({})).unwrap().as_array().unwrap().clone()
}

/// The nodes of the disks under a file system.
fn nodes(system: &Value) -> Vec<&str> {
    system["disk"].as_array().unwrap().iter().map(|disk| disk["dev"].as_str().unwrap()).collect()
}

pub(crate) fn the_disks_on_each_bus_are_those_of_qemus_command_line(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let disks = Disks::of(machine);
    let fixed = [("ext4", (0, 7, 0), "virtio", (0, 0, 0)), ("swap", (0, 8, 0), "virtio", (0, 0, 0))];
    for (serial, controller, bus_type, numbers) in fixed {
        assert_eq!(place(&disks.one("/address/serial", serial)["address"]), (controller, bus_type, numbers));
    }
    let scsi = disks.one("/address/serial", "0QEMU_QEMU_HARDDISK_xfs");
    assert_eq!(place(&scsi["address"]), ((0, 9, 0), "scsi", (0, 1, 2)));
    for place_of in PLACES {
        let node = disks.node(place_of.id);
        let disk = disks.one("/name", node);
        assert_eq!(place(&disk["address"]), expected(place_of)[0], "{disk}");
        assert_eq!(disk["address"]["dev"], node, "{disk}");
        assert_eq!(disk.get("smart").is_some(), place_of.bus_type == "nvme", "{disk}");
        // The disk tells itself which one it is.
        let told = machine.shell.run(&format!("head -c {} {node}", place_of.id.len()));
        assert_eq!(told, place_of.id, "{disk}");
    }
    let twice = disks.with("/address/serial", TWICE.0);
    let mut places: Vec<_> = twice.iter().map(|disk| place(&disk["address"])).collect();
    // The kernel looks at both controllers at once.
    places.sort_unstable();
    assert_eq!(places, TWICE.1.map(|controller| (controller, "scsi", (0, 0, 2))), "{twice:#?}");
    let smart = &disks.one("/name", disks.node("nvme-alone"))["smart"];
    assert_eq!(smart["type"], "nvme");
    // QEMU's disk is at 50 degrees Celsius, always.
    assert_eq!((&smart["temperature"], &smart["critical-warning"]), (&json!(323), &json!(0)), "{smart}");
    let parted = disks.node(PARTED);
    let partition = disks.one("/name", &format!("{parted}1"));
    assert_eq!(*partition, json!({ "name": format!("{parted}1"), "dependencies": [parted], "partition": true }));

    // The file system on each.
    for (n, Place { id, .. }) in PLACES.iter().enumerate() {
        let part = if *id == PARTED { "1" } else { "" };
        let node = disks.node(id);
        machine
            .shell
            .run_within(&format!("mkdir -p /mnt/{n}; mount -t ext4 {node}{part} /mnt/{n}"), Duration::from_secs(60));
    }
    let systems = systems(machine);
    let counted = machine.shell.number("mount | grep -c ^/dev");
    assert_eq!(systems.len() as u64, counted, "{systems:#?}");
    for (n, place_of) in PLACES.iter().enumerate() {
        let point = format!("/mnt/{n}");
        let at = systems.iter().position(|one| one["mountpoint"] == point.as_str()).unwrap();
        assert_eq!(at, PLACES.len() - 1 - n, "the one mounted last comes first");
        let places: Vec<_> = systems[at]["disk"].as_array().unwrap().iter().map(place).collect();
        assert_eq!(places, expected(place_of), "{}", systems[at]);
        let part = if place_of.id == PARTED { "1" } else { "" };
        let node = format!("{}{part}", disks.node(place_of.id));
        assert!(nodes(&systems[at]).iter().all(|dev| *dev == node), "{}", systems[at]);
        assert_eq!(systems[at]["disk"][0]["serial"], place_of.serial, "{}", systems[at]);
        assert_eq!(format!("/dev/{}", systems[at]["name"].as_str().unwrap()), node);
        let kib = |column: u8| format!("df -P -k {point} | awk 'NR == 2 {{ print ${column} }}'");
        assert_eq!(systems[at]["used-bytes"], machine.shell.number(&kib(3)) * 1024);
        assert_eq!(systems[at]["total-bytes-privileged"], machine.shell.number(&kib(2)) * 1024);
    }
    for n in 0..PLACES.len() {
        machine.shell.run(&format!("umount /mnt/{n}"));
    }
}

pub(crate) fn what_lies_on_several_disks_has_the_addresses_of_all(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let disks = Disks::of(machine);
    let [first, plain, other] = ["sata-first", "usb-plain", "sata-other"].map(|id| disks.node(id).to_owned());
    let ways: Vec<String> =
        disks.with("/address/serial", TWICE.0).iter().map(|disk| disk["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ways.len(), 2, "{ways:?}");
    // Two disks end to end; that and a third as two halves of a mirror, which is made by hand because there is no
    // mdadm; one disk by two ways; a file of a file system on a disk.
    let script = format!(
        "set -e
        number() {{ cat /sys/class/block/${{1#/dev/}}/dev; }}
        modprobe -a dm_mod dm_multipath dm_round_robin raid1 loop
        printf '0 65536 linear {first} 0\\n65536 65536 linear {plain} 0\\n' | dmsetup create --noudevsync joined
        echo 0 65536 multipath 0 0 1 1 round-robin 0 2 1 $(number {}) 1 $(number {}) 1 |
            dmsetup create --noudevsync ways
        echo md_mirror >/sys/module/md_mod/parameters/new_array
        cd /sys/block/md_mirror/md
        echo none >metadata_version
        echo raid1 >level
        echo 2 >raid_disks
        echo 32768 >component_size
        slot=0
        for member in {other} /dev/dm-0; do
            number $member >new_dev
            echo $slot >dev-${{member#/dev/}}/slot
            slot=$((slot + 1))
        done
        echo none >resync_start
        echo active >array_state
        cd /
        truncate -s 8M /mnt/ext4/file
        losetup /dev/loop0 /mnt/ext4/file
        for one in md_mirror dm-1 loop0; do
            /usr/sbin/mke2fs -q -F -t ext4 /dev/$one
            mkdir -p /mnt/$one
            mount -t ext4 /dev/$one /mnt/$one
        done",
        ways[0], ways[1]
    );
    machine.shell.run_within(&format!("({script})"), Duration::from_secs(120));

    let after = Disks::of(machine);
    let virtual_disk = |name: &str, alias: Option<&str>, dependencies: &[&str]| {
        let mut disk = json!({ "name": name, "dependencies": dependencies, "partition": false });
        if let Some(alias) = alias {
            disk["alias"] = json!(alias);
        }
        disk
    };
    let mut members = [first.as_str(), plain.as_str()];
    members.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(*after.one("/name", "/dev/dm-0"), virtual_disk("/dev/dm-0", Some("joined"), &members));
    let two_ways = [ways[1].as_str(), ways[0].as_str()];
    assert_eq!(*after.one("/name", "/dev/dm-1"), virtual_disk("/dev/dm-1", Some("ways"), &two_ways));
    let mirror = [other.as_str(), "/dev/dm-0"];
    assert_eq!(*after.one("/name", "/dev/md_mirror"), virtual_disk("/dev/md_mirror", None, &mirror));
    assert_eq!(*after.one("/name", "/dev/loop0"), virtual_disk("/dev/loop0", None, &[]));

    let systems = systems(machine);
    let counted = machine.shell.number("mount | grep -c ^/dev");
    assert_eq!(systems.len() as u64, counted, "{systems:#?}");
    let mirror = system(&systems, "/mnt/md_mirror");
    assert_eq!((&mirror["name"], nodes(mirror)), (&json!("md_mirror"), vec![&*other, members[0], members[1]]));
    for (address, id) in mirror["disk"].as_array().unwrap().iter().zip(["sata-other", "", ""]) {
        let serial = address["serial"].as_str().unwrap();
        let of = PLACES.iter().find(|place| place.serial == serial).unwrap();
        assert!(id.is_empty() || of.id == id, "{mirror:#?}");
        assert_eq!(place(address), expected(of)[0], "{mirror:#?}");
    }
    let both = system(&systems, "/mnt/dm-1");
    let places: Vec<_> = both["disk"].as_array().unwrap().iter().map(place).collect();
    assert_eq!(nodes(both), two_ways);
    let expected = [1, 0].map(|way| place(&disks.one("/name", &ways[way])["address"]));
    assert_eq!(places, expected, "{both:#?}");
    let file = system(&systems, "/mnt/loop0");
    assert_eq!((&file["name"], &file["disk"]), (&json!("loop0"), &json!([])));

    machine.shell.run_within(
        "umount /mnt/md_mirror && umount /mnt/dm-1 && umount /mnt/loop0 && losetup -d /dev/loop0
        rm /mnt/ext4/file; echo clear >/sys/block/md_mirror/md/array_state
        dmsetup remove --noudevsync ways; dmsetup remove --noudevsync joined",
        Duration::from_secs(60),
    );
}

pub(crate) fn subvolumes_and_shared_directories_are_listed_and_temporary_ones_are_not(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let disks = Disks::of(machine);
    let [one, two] = ["ide-master", "ide-slave"].map(|id| disks.node(id).to_owned());
    let script = format!(
        "set -e
        modprobe btrfs
        mkfs.btrfs -q -f -m raid1 -d single {one} {two}
        cd /mnt; mkdir -p top home nine upper temporary
        mount -t btrfs -o device={one},device={two} {one} top
        btrfs -q subvolume create top/home
        mount -t btrfs -o device={one},device={two},subvol=home {one} home
        mount -t 9p -o trans=virtio {} nine
        mount -t tmpfs temporary temporary
        mkdir temporary/upper temporary/work
        mount -t overlay -o lowerdir=/etc,upperdir=temporary/upper,workdir=temporary/work over upper
        touch nine/written",
        hardware::TAGS.1
    );
    machine.shell.run_within(&format!("({script})"), Duration::from_secs(120));
    if machine.has_virtiofs() {
        machine.shell.run(&format!("mkdir -p /mnt/shared; mount -t virtiofs {} /mnt/shared", hardware::TAGS.0));
        machine.shell.run("[ -f /mnt/shared/written ]");
    }

    let systems = systems(machine);
    for point in ["/mnt/top", "/mnt/home"] {
        let found = system(&systems, point);
        assert_eq!(format!("/dev/{}", found["name"].as_str().unwrap()), one);
        assert_eq!(nodes(found), [&*one, &*two], "{found:#?}");
        let places: Vec<_> = found["disk"].as_array().unwrap().iter().map(place).collect();
        assert_eq!(places, [((0, 1, 1), "ide", (1, 0, 0)), ((0, 1, 1), "ide", (1, 0, 1))]);
    }
    let mut expected = 2 + 2;
    if machine.has_virtiofs() {
        let shared = system(&systems, "/mnt/shared");
        assert_eq!((&shared["type"], &shared["disk"]), (&json!("virtiofs"), &json!([])));
        assert_eq!(shared["name"], hardware::TAGS.0);
        let total = machine.shell.number("df -P -k /mnt/shared | awk 'NR == 2 { print $2 }'") * 1024;
        assert_eq!(shared["total-bytes-privileged"], total, "{shared}");
        expected += 1;
        machine.shell.run("umount /mnt/shared");
    }
    // With those on ext4 and xfs. Not the others: the directory of 9p, the temporary one, and the one over another.
    assert_eq!(systems.len(), expected, "{systems:#?}");
    machine.shell.run("cd /mnt; umount upper && umount temporary && umount nine && umount home && umount top");
}
