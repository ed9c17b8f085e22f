use std::rc::Rc;

use super::*;
use crate::platform::linux::device::Blocks;
use crate::platform::linux::device::tree::Tree;
use crate::platform::linux::mountinfo::Device;

fn block(tree: &Tree, number: &str) -> Rc<Block> {
    let root = tree.root();
    Blocks::new(&root).by_number(Device::parse(number.as_bytes()).unwrap()).unwrap().unwrap()
}

fn serial(tree: &Tree, number: &str) -> Option<String> {
    compose(&block(tree, number))
}

/// A SCSI disk with a page 0x83 of these designators: code set, association and type, value.
fn scsi_disk(unit: &str, designators: &[(u8, u8, &[u8])]) -> Tree {
    let tree = Tree::new();
    let disk = tree.disk(&format!("devices/x/host0/target0:0:0/{unit}/block/sda"), "8:0");
    let unit = format!("/sys/devices/x/host0/target0:0:0/{unit}");
    tree.link(&format!("{disk}/device"), &unit);
    tree.file(&format!("{unit}/vendor"), "QEMU    \n");
    tree.file(&format!("{unit}/model"), "QEMU HARDDISK   \n");
    let mut list = Vec::new();
    for (code, kind, value) in designators {
        list.extend([*code, *kind, 0, u8::try_from(value.len()).unwrap()]);
        list.extend_from_slice(value);
    }
    let mut page = vec![0, 0x83];
    page.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
    page.extend(list);
    tree.file(&format!("{unit}/vpd_pg83"), page);
    tree
}

#[test]
fn a_virtio_disk_has_the_one_it_was_given() {
    let tree = Tree::new();
    let disk = tree.disk("devices/pci0000:00/0000:00:04.0/virtio1/block/vda", "254:0");
    assert_eq!(serial(&tree, "254:0"), None);
    tree.file(&format!("{disk}/serial"), "");
    assert_eq!(serial(&tree, "254:0"), None, "an empty one is none");
    tree.file(&format!("{disk}/serial"), " a b \n");
    assert_eq!(serial(&tree, "254:0").as_deref(), Some("a_b"));
}

#[test]
fn an_nvme_namespace_has_those_of_its_controller_and_its_own_number() {
    let tree = Tree::new();
    let disk = tree.disk("devices/pci0000:00/0000:00:07.0/nvme/nvme0/nvme0n1", "259:0");
    let controller = "/sys/devices/pci0000:00/0000:00:07.0/nvme/nvme0";
    tree.file(&format!("{controller}/model"), "QEMU NVMe Ctrl                          \n");
    tree.file(&format!("{controller}/serial"), "deadbeef            \n");
    tree.partition("devices/pci0000:00/0000:00:07.0/nvme/nvme0/nvme0n1/nvme0n1p1", "259:1");
    assert_eq!(serial(&tree, "259:0").as_deref(), Some("QEMU_NVMe_Ctrl_deadbeef"));
    tree.file(&format!("{disk}/nsid"), "1\n");
    assert_eq!(serial(&tree, "259:0").as_deref(), Some("QEMU_NVMe_Ctrl_deadbeef_1"));
    assert_eq!(serial(&tree, "259:1").as_deref(), Some("QEMU_NVMe_Ctrl_deadbeef_1"));
}

#[test]
fn a_scsi_disk_is_named_by_the_best_of_its_names() {
    let vendors: (u8, u8, &[u8]) = (2, 0, b"drive-scsi0");
    let tree = scsi_disk("0:0:0:0", &[vendors]);
    assert_eq!(serial(&tree, "8:0").as_deref(), Some("0QEMU_QEMU_HARDDISK_drive-scsi0"));
    let t10: (u8, u8, &[u8]) = (2, 1, b"LIO-ORG disk1:uuid");
    assert_eq!(serial(&scsi_disk("0:0:0:0", &[vendors, t10]), "8:0").as_deref(), Some("1LIO-ORG_disk1:uuid"));
    let eui: (u8, u8, &[u8]) = (1, 2, &[0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0xff]);
    assert_eq!(serial(&scsi_disk("0:0:0:0", &[t10, eui]), "8:0").as_deref(), Some("200112233445566ff"));
    let naa: (u8, u8, &[u8]) = (1, 3, &[0x50, 1, 2, 3, 4, 5, 6, 7]);
    let long: (u8, u8, &[u8]) = (1, 3, &[0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    // The name of a port, which is another one on each way to the disk.
    let port: (u8, u8, &[u8]) = (1, 0x13, &[0x60, 9, 9, 9, 9, 9, 9, 9]);
    let page = [port, eui, naa, vendors];
    assert_eq!(serial(&scsi_disk("0:0:0:0", &page), "8:0").as_deref(), Some("35001020304050607"));
    let page = [naa, port, long];
    let expected = "3600102030405060708090a0b0c0d0e0f";
    assert_eq!(serial(&scsi_disk("0:0:0:0", &page), "8:0").as_deref(), Some(expected));
    assert_eq!(serial(&scsi_disk("0:0:0:0", &[port]), "8:0"), None);
}

#[test]
fn an_ata_disk_is_named_as_it_names_itself() {
    let mut name = b"ATA     QEMU HARDDISK".to_vec();
    name.resize(48, b' ');
    name.extend(b"QM00001             ");
    let tree = scsi_disk("0:0:0:0", &[(2, 0, b"             QM00001"), (2, 1, &name)]);
    assert_eq!(serial(&tree, "8:0").as_deref(), Some("QEMU_HARDDISK_QM00001"));
}

#[test]
fn a_page_that_is_cut_off_or_no_page_at_all_gives_no_name() {
    for page in [&b""[..], b"\0", &[0, 0x83, 0, 8, 1, 3, 0, 8, 0x50], &[0, 0x83, 0xff, 0xff], &[0, 0x83, 0, 3, 1, 3, 0]]
    {
        let tree = scsi_disk("0:0:0:0", &[]);
        tree.file("/sys/devices/x/host0/target0:0:0/0:0:0:0/vpd_pg83", page);
        assert_eq!(serial(&tree, "8:0"), None);
    }
}

#[test]
fn a_usb_disk_has_the_number_of_the_device_at_the_bus() {
    let tree = Tree::new();
    let usb = "devices/pci0000:00/0000:00:14.0/usb2";
    let unit = format!("{usb}/2-1/2-1:1.0/host6/target6:0:0/6:0:0:3");
    let disk = tree.disk(&format!("{unit}/block/sdf"), "8:80");
    tree.link(&format!("{disk}/device"), &format!("/sys/{unit}"));
    tree.file(&format!("/sys/{unit}/vendor"), "QEMU    \n");
    tree.file(&format!("/sys/{unit}/model"), "QEMU HARDDISK   \n");
    tree.file(&format!("/sys/{usb}/serial"), "0000:00:14.0\n");
    assert_eq!(serial(&tree, "8:80").as_deref(), Some("QEMU_QEMU_HARDDISK-0:3"), "the bus has a number of its own");
    tree.file(&format!("/sys/{usb}/2-1/serial"), "1-0000:00:04.0-1\n");
    assert_eq!(serial(&tree, "8:80").as_deref(), Some("QEMU_QEMU_HARDDISK_1-0000:00:04.0-1-0:3"));
}

#[test]
fn a_card_has_its_own_and_others_have_none() {
    let tree = Tree::new();
    let card = tree.disk("devices/platform/vf2/mmc_host/mmc0/mmc0:0001/block/mmcblk0", "179:0");
    tree.link(&format!("{card}/device"), "/sys/devices/platform/vf2/mmc_host/mmc0/mmc0:0001");
    tree.file("/sys/devices/platform/vf2/mmc_host/mmc0/mmc0:0001/serial", "0x1234abcd\n");
    assert_eq!(serial(&tree, "179:0").as_deref(), Some("0x1234abcd"));
    tree.disk("devices/vbd-768/block/xvda", "202:0");
    assert_eq!(serial(&tree, "202:0"), None);
}
