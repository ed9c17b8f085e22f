use super::*;
use crate::platform::linux::device::tree::Tree;

const PCI: &str = "/sys/devices/pci0000:00";

/// `domain:bus:slot.function bus-type bus/target/unit`, or `-` for no controller.
fn text(address: &GuestDiskAddress) -> String {
    let pci = match address.pci_controller {
        GuestPciAddress { bus: -1, slot: -1, domain: -1, function: -1 } => "-".to_owned(),
        pci => format!("{}:{}:{}.{}", pci.domain, pci.bus, pci.slot, pci.function),
    };
    let bus_type = serde_json::to_value(address.bus_type).unwrap();
    let text = format!("{pci} {} {}/{}/{}", bus_type.as_str().unwrap(), address.bus, address.target, address.unit);
    match address.ccw_address {
        Some(ccw) => format!("{text} ccw {}/{}/{}/{}", ccw.cssid, ccw.ssid, ccw.subchno, ccw.devno),
        None => text,
    }
}

#[track_caller]
fn check(tree: &Tree, path: &str, expected: &str) {
    let path = path.replace("PCI", PCI);
    assert_eq!(text(&of(&path, &tree.path(&path))), expected, "{path}");
}

fn driver(tree: &Tree, function: &str, name: &str) {
    tree.driver(&format!("{PCI}/{function}"), name);
}

#[test]
fn virtio_disks_are_found_behind_any_number_of_bridges() {
    let tree = Tree::new();
    check(&tree, "PCI/0000:00:04.0/virtio1/block/vda", "0:0:4.0 virtio 0/0/0");
    check(&tree, "PCI/0000:00:04.0/virtio1/block/vda/vda1", "0:0:4.0 virtio 0/0/0");
    check(&tree, "PCI/0000:00:05.0/virtio2/host2/target2:0:5/2:0:5:3/block/sda", "0:0:5.0 scsi 0/5/3");
    let bridged = "PCI/0000:00:1e.0/0000:01:01.0/0000:02:05.3/virtio3/host3/target3:0:1/3:0:1:7/block/sdb";
    check(&tree, bridged, "0:2:5.3 scsi 0/1/7");
    check(&tree, "PCI/0000:00:05.0/virtio2/host2/target2:1:5/2:1:5:0/block/sda", "0:0:5.0 scsi 1/5/0");
    let arm = "/sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0/virtio1/block/vda";
    check(&tree, arm, "0:0:2.0 virtio 0/0/0");
}

#[test]
fn virtio_without_pci_has_no_controller_but_for_ccw() {
    let tree = Tree::new();
    check(&tree, "/sys/devices/css0/0.0.0002/0.0.0af0/virtio4/block/vdb", "- virtio 0/0/0 ccw 0/0/2/2800");
    let scsi = "/sys/devices/css0/0.1.00ff/0.1.abcd/virtio5/host10/target10:0:3/10:0:3:16385/block/sdj";
    check(&tree, scsi, "- scsi 0/3/16385 ccw 0/1/255/43981");
    check(&tree, "/sys/devices/css0/0.0.0009/0.0.0200/block/dasda/dasda1", "- unknown 0/0/0 ccw 0/0/9/512");
    let zfcp = "/sys/devices/css0/0.0.000a/0.0.fc00/host0/rport-0:0-0/target0:0:0/0:0:0:1/block/sda";
    check(&tree, zfcp, "- fibre 0/0/1 ccw 0/0/10/64512");
    check(&tree, "/sys/devices/platform/virtio-mmio.0/virtio6/block/vdc", "- virtio 0/0/0");
}

#[test]
fn ide_and_sata_ports_are_counted_at_their_own_controller_however_many() {
    let tree = Tree::new();
    for ports in [(1..3, "0000:00:01.1"), (3..9, "0000:00:1f.2"), (20..52, "0000:00:1f.3")] {
        for port in ports.0 {
            tree.dir(&format!("{PCI}/{}/ata{port}", ports.1));
        }
        tree.dir(&format!("{PCI}/{}/ata_port", ports.1));
    }
    driver(&tree, "0000:00:01.1", "ata_piix");
    driver(&tree, "0000:00:1f.2", "ahci");
    driver(&tree, "0000:00:1f.3", "ahci");
    check(&tree, "PCI/0000:00:01.1/ata2/host1/target1:0:1/1:0:1:0/block/sdc", "0:0:1.1 ide 1/0/1");
    check(&tree, "PCI/0000:00:01.1/ata1/host0/target0:0:0/0:0:0:0/block/sdb/sdb3", "0:0:1.1 ide 0/0/0");
    check(&tree, "PCI/0000:00:1f.2/ata5/host4/target4:0:0/4:0:0:0/block/sdd", "0:0:31.2 sata 0/0/2");
    check(&tree, "PCI/0000:00:1f.3/ata29/host4/target4:0:0/4:0:0:0/block/sdd", "0:0:31.3 sata 0/0/9");
    check(&tree, "PCI/0000:00:1f.3/ata51/host4/target4:0:0/4:0:0:0/block/sdd", "0:0:31.3 sata 0/0/31");
}

#[test]
fn old_kernels_have_only_the_host_of_a_port() {
    let tree = Tree::new();
    for host in [2, 10, 11] {
        tree.dir(&format!("{PCI}/0000:00:1f.2/host{host}"));
    }
    driver(&tree, "0000:00:1f.2", "ahci");
    check(&tree, "PCI/0000:00:1f.2/host10/target10:0:0/10:0:0:0/block/sda", "0:0:31.2 sata 0/0/1");
}

#[test]
fn other_scsi_controllers_give_channel_target_and_unit() {
    let tree = Tree::new();
    driver(&tree, "0000:00:06.0", "sym53c8xx");
    driver(&tree, "0000:00:08.0", "megaraid_sas");
    check(&tree, "PCI/0000:00:06.0/host5/target5:0:2/5:0:2:0/block/sde", "0:0:6.0 scsi 0/0/2");
    check(&tree, "PCI/0000:00:08.0/host9/target9:2:1/9:2:1:0/block/sdh", "0:0:8.0 scsi 2/1/0");
    let sas = "PCI/0000:00:09.0/host1/port-1:0/end_device-1:0/target1:0:4/1:0:4:0/block/sdi";
    check(&tree, sas, "0:0:9.0 sas 0/4/0");
    let hyper_v =
        "/sys/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/f8b3781b/host0/target0:0:0/0:0:0:1/block/sdb";
    check(&tree, hyper_v, "- scsi 0/0/1");
    let iscsi = "/sys/devices/platform/host3/session1/target3:0:0/3:0:0:2/block/sdk";
    check(&tree, iscsi, "- iscsi 0/0/2");
}

#[test]
fn usb_disks_are_found_at_any_kind_of_controller() {
    let tree = Tree::new();
    driver(&tree, "0000:00:14.0", "xhci_hcd");
    driver(&tree, "0000:00:1a.1", "uhci_hcd");
    check(&tree, "PCI/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdf", "0:0:20.0 usb 0/0/0");
    check(&tree, "PCI/0000:00:1a.1/usb3/3-1/3-1:1.0/host7/target7:0:0/7:0:0:0/block/sdg", "0:0:26.1 usb 0/0/0");
    let soldered = "/sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1:1.0/host0/target0:0:0/0:0:0:0/block/sda";
    check(&tree, soldered, "- usb 0/0/0");
}

#[test]
fn nvme_is_found_at_its_controller_and_behind_a_vmd() {
    let tree = Tree::new();
    check(&tree, "PCI/0000:00:07.0/nvme/nvme0/nvme0n1/nvme0n1p1", "0:0:7.0 nvme 0/0/0");
    let vmd = "PCI/0000:00:0e.0/pci10000:e0/10000:e0:1d.0/10000:e1:00.0/nvme/nvme1/nvme1n1";
    check(&tree, vmd, "65536:225:0.0 nvme 0/0/0");
    let azure = "/sys/devices/LNXSYSTM:00/ACPI0004:00/VMBUS:00/a1b2/pcic05b:00/c05b:00:00.0/nvme/nvme0/nvme0n1";
    check(&tree, azure, "49243:0:0.0 nvme 0/0/0");
    check(&tree, "/sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1", "- nvme 0/0/0");
    check(&tree, "/sys/devices/virtual/nvme-fabrics/ctl/nvme2/nvme2n1", "- nvme 0/0/0");
}

#[test]
fn cards_and_the_rest_have_no_numbers() {
    let tree = Tree::new();
    let card = "/sys/devices/platform/vf2/mmc_host/mmc0/mmc0:0001/block/mmcblk0";
    check(&tree, card, "- mmc 0/0/0");
    tree.file("/sys/devices/platform/vf2/mmc_host/mmc0/mmc0:0001/type", "SD\n");
    check(&tree, card, "- sd 0/0/0");
    check(&tree, &format!("{card}/mmcblk0p2"), "- sd 0/0/0");
    check(&tree, "PCI/0000:00:0b.0/mmc_host/mmc1/mmc1:aaaa/block/mmcblk1", "0:0:11.0 mmc 0/0/0");
    check(&tree, "/sys/devices/vbd-768/block/xvda/xvda1", "- xen 0/0/0");
    check(&tree, "/sys/devices/platform/floppy.0/block/fd0", "- fdc 0/0/0");
    check(&tree, "/sys/devices/LNXSYSTM:00/ACPI0012:00/ndbus0/region0/pfn0.1/block/pmem0", "- unknown 0/0/0");
}

#[test]
fn what_only_looks_like_an_address_is_none() {
    for part in
        ["0000:00:04", "0000:00:04.8", "000:00:04.0", "0:0:5:3", "0000:00:04.0.1", "g000:00:04.0", "1-1:1.0", ""]
    {
        assert_eq!(pci(part), None, "{part}");
    }
    let tree = Tree::new();
    for path in ["/sys/devices/css0/0.0.0002/x/block/vdb", "/sys/devices/cssx/0.0.0002/0.0.0af0/block/a", "/", ""] {
        assert_eq!(of(path, &tree.path(path)).ccw_address, None, "{path}");
    }
}
