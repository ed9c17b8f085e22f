use qga_proto::types::storage::GuestDiskBusType;

use super::tree::Tree;
use super::*;

fn number(text: &str) -> Device {
    Device::parse(text.as_bytes()).unwrap()
}

fn nodes(addresses: &[GuestDiskAddress]) -> Vec<&str> {
    addresses.iter().map(|address| address.dev.as_deref().unwrap()).collect()
}

fn names(blocks: &[Rc<Block>]) -> Vec<&str> {
    blocks.iter().map(|block| block.name.as_str()).collect()
}

/// vda with two partitions, sda, and dm-0 on vda1 and sda, md0 on vda2 and dm-0, dm-1 on md0.
fn stack(tree: &Tree) {
    let vda = tree.disk("devices/pci0000:00/0000:00:04.0/virtio1/block/vda", "254:0");
    let vda1 = tree.partition(&format!("{}/vda1", &vda[5..]), "254:1");
    let vda2 = tree.partition(&format!("{}/vda2", &vda[5..]), "254:2");
    let sda = tree.disk("devices/pci0000:00/0000:00:05.0/virtio2/host2/target2:0:1/2:0:1:0/block/sda", "8:0");
    tree.udev("8:0", "E:ID_SERIAL=S\n");
    let dm0 = tree.disk("devices/virtual/block/dm-0", "253:0");
    let md0 = tree.disk("devices/virtual/block/md0", "9:0");
    let dm1 = tree.disk("devices/virtual/block/dm-1", "253:1");
    tree.slaves(&dm0, &[&vda1, &sda]);
    tree.slaves(&md0, &[&vda2, &dm0]);
    tree.slaves(&dm1, &[&md0]);
}

#[test]
fn a_stack_has_the_addresses_of_everything_at_its_bottom() {
    let tree = Tree::new();
    stack(&tree);
    let root = tree.root();
    let blocks = Blocks::new(&root);
    let addresses = blocks.addresses(&blocks.by_number(number("253:1")).unwrap().unwrap());
    assert_eq!(nodes(&addresses), ["/dev/vda2", "/dev/vda1", "/dev/sda"]);
    let serials: Vec<_> = addresses.iter().map(|address| address.serial.as_deref()).collect();
    assert_eq!(serials, [None, None, Some("S")]);
    assert_eq!(addresses[2].target, 1);
}

#[test]
fn a_device_below_two_others_is_there_once_and_a_circle_ends() {
    let tree = Tree::new();
    stack(&tree);
    // LVM on LUKS on md: two volumes of one group, striped by a third.
    let crypt = tree.disk("devices/virtual/block/dm-2", "253:2");
    let volumes = [3, 4].map(|n| tree.disk(&format!("devices/virtual/block/dm-{n}"), &format!("253:{n}")));
    let stripes = tree.disk("devices/virtual/block/dm-5", "253:5");
    tree.slaves(&crypt, &["/sys/devices/virtual/block/md0"]);
    volumes.iter().for_each(|volume| tree.slaves(volume, &[&crypt]));
    tree.slaves(&stripes, &[&volumes[0], &volumes[1]]);
    let root = tree.root();
    let blocks = Blocks::new(&root);
    let of = |id: &str| blocks.addresses(&blocks.by_number(number(id)).unwrap().unwrap());
    assert_eq!(nodes(&of("253:5")), ["/dev/vda2", "/dev/vda1", "/dev/sda"]);
    tree.slaves("/sys/devices/virtual/block/dm-0", &[&stripes]);
    assert_eq!(nodes(&of("253:5")).len(), 3);
}

#[test]
fn what_lies_on_a_file_or_in_memory_has_no_address_and_neither_have_its_partitions() {
    let tree = Tree::new();
    tree.disk("devices/virtual/block/loop0", "7:0");
    tree.partition("devices/virtual/block/loop0/loop0p1", "259:0");
    tree.disk("devices/virtual/block/zram0", "251:0");
    tree.partition("devices/virtual/block/nodir0", "250:0");
    let root = tree.root();
    let blocks = Blocks::new(&root);
    for id in ["7:0", "259:0", "251:0", "250:0"] {
        assert_eq!(blocks.addresses(&blocks.by_number(number(id)).unwrap().unwrap()), [], "{id}");
    }
}

#[test]
fn a_partition_of_an_array_lies_on_the_members_of_the_array() {
    let tree = Tree::new();
    stack(&tree);
    tree.partition("devices/virtual/block/md0/md0p1", "259:0");
    let root = tree.root();
    let blocks = Blocks::new(&root);
    let addresses = blocks.addresses(&blocks.by_number(number("259:0")).unwrap().unwrap());
    assert_eq!(nodes(&addresses), ["/dev/vda2", "/dev/vda1", "/dev/sda"]);
}

#[test]
fn an_nvme_namespace_has_the_address_of_each_controller_that_leads_to_it() {
    let tree = Tree::new();
    let subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys1";
    tree.disk(&format!("{}/nvme1n1", &subsystem[5..]), "259:1");
    tree.partition(&format!("{}/nvme1n1/nvme1n1p2", &subsystem[5..]), "259:2");
    for (controller, function) in [("nvme2", "0000:00:08.0"), ("nvme10", "0000:00:09.0"), ("nvme1", "0000:00:07.0")] {
        let path = format!("/sys/devices/pci0000:00/{function}/nvme/{controller}");
        tree.dir(&path);
        tree.link(&format!("{subsystem}/{controller}"), &path);
    }
    // Where the kernel has more links, they are no controllers.
    tree.link(&format!("{subsystem}/subsystem"), "/sys/devices/virtual");
    let root = tree.root();
    let blocks = Blocks::new(&root);
    for (id, node) in [("259:1", "/dev/nvme1n1"), ("259:2", "/dev/nvme1n1p2")] {
        let addresses = blocks.addresses(&blocks.by_number(number(id)).unwrap().unwrap());
        assert_eq!(addresses.iter().map(|a| a.pci_controller.slot).collect::<Vec<_>>(), [7, 8, 9]);
        assert!(addresses.iter().all(|a| a.bus_type == GuestDiskBusType::Nvme && a.dev.as_deref() == Some(node)));
    }
}

#[test]
fn a_namespace_whose_controllers_are_not_told_still_has_an_entry() {
    let tree = Tree::new();
    tree.disk("devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "259:0");
    let root = tree.root();
    let blocks = Blocks::new(&root);
    let addresses = blocks.addresses(&blocks.by_number(number("259:0")).unwrap().unwrap());
    assert_eq!((addresses.len(), addresses[0].pci_controller.slot), (1, -1));
    assert_eq!(addresses[0].bus_type, GuestDiskBusType::Nvme);
}

#[test]
fn names_with_slashes_have_their_node_below_a_directory() {
    let tree = Tree::new();
    let disk = tree.disk("devices/pci0000:00/0000:00:03.0/cciss0/c0d0/block/cciss!c0d0", "104:0");
    tree.partition(&format!("{}/cciss!c0d0p1", &disk[5..]), "104:1");
    let root = tree.root();
    let blocks = Blocks::new(&root);
    let partition = blocks.by_number(number("104:1")).unwrap().unwrap();
    assert_eq!((partition.name.as_str(), partition.node.as_str()), ("cciss!c0d0p1", "/dev/cciss/c0d0p1"));
    fs::remove_file(tree.path(&format!("{disk}/uevent"))).unwrap();
    let disks = blocks.disks().unwrap();
    assert_eq!(disks[0].node, "/dev/cciss/c0d0", "without uevent it is told from the name");
    assert_eq!(disks[0].number, Some(number("104:0")));
    assert_eq!(names(&blocks.partitions(&disks[0])), ["cciss!c0d0p1"]);
}

#[test]
fn disks_and_partitions_are_in_the_order_in_which_people_count() {
    let tree = Tree::new();
    let all = ["sdb", "sdaa", "sda", "dm-10", "dm-9", "vda", "nvme10n1", "nvme2n1"];
    for (minor, name) in all.iter().enumerate() {
        tree.disk(&format!("devices/x/block/{name}"), &format!("8:{}", minor * 16));
    }
    for (minor, n) in [1, 2, 10, 11].iter().enumerate() {
        tree.partition(&format!("devices/x/block/sdb/sdb{n}"), &format!("259:{minor}"));
    }
    for no_partition in ["sdb/queue", "sdb/sdb", "sdb/sdbp", "sdb/sdb1x", "sdb/sda1"] {
        tree.dir(&format!("/sys/devices/x/block/{no_partition}"));
    }
    let root = tree.root();
    let blocks = Blocks::new(&root);
    let disks = blocks.disks().unwrap();
    assert_eq!(names(&disks), ["dm-9", "dm-10", "nvme2n1", "nvme10n1", "sda", "sdb", "sdaa", "vda"]);
    assert_eq!(names(&blocks.partitions(&disks[5])), ["sdb1", "sdb2", "sdb10", "sdb11"]);
}

#[test]
fn what_is_not_there_is_none_and_what_cannot_be_followed_is_an_error() {
    let tree = Tree::new();
    tree.link("/sys/dev/block/1:1", "/sys/dev/block/1:1");
    let root = tree.root();
    let blocks = Blocks::new(&root);
    assert!(blocks.by_number(number("99:99")).unwrap().is_none());
    assert_eq!(blocks.by_number(number("1:1")).unwrap_err().raw_os_error(), Some(40));
    assert_eq!(blocks.disks().unwrap().len(), 0);
    let nothing = Root::new(tree.path("/nothing"));
    assert!(Blocks::new(&nothing).disks().is_err());
}

#[test]
fn a_serial_number_of_udevs_wins_over_the_kernels() {
    let tree = Tree::new();
    let disk = tree.disk("devices/pci0000:00/0000:00:04.0/virtio1/block/vda", "254:0");
    tree.partition(&format!("{}/vda1", &disk[5..]), "254:1");
    tree.file(&format!("{disk}/serial"), "kernels");
    let root = tree.root();
    let serial = |id: &str| {
        let blocks = Blocks::new(&root);
        blocks.addresses(&blocks.by_number(number(id)).unwrap().unwrap())[0].serial.clone()
    };
    assert_eq!(serial("254:0").as_deref(), Some("kernels"));
    assert_eq!(serial("254:1").as_deref(), Some("kernels"));
    tree.udev("254:1", "E:ID_SERIAL=udevs\n");
    assert_eq!(serial("254:0").as_deref(), Some("kernels"));
    assert_eq!(serial("254:1").as_deref(), Some("udevs"));
}
