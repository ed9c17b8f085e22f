//! A machine with a disk on every bus: where each of them is on QEMU's command line is what an agent has to find out.

use std::path::Path;

use crate::disks::Disk;

/// `-m`: room for a module of memory to be plugged in.
pub const MEMORY: &str = "512M,slots=2,maxmem=2G";

/// Memory that is plugged in can be taken offline again.
pub const KERNEL_LINE: &str = "movable_node";

/// A disk of this module, as an agent has to show it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The kind of bus.
    pub bus_type: &'static str,
    /// The serial number it was given, which is a part of the one that is shown.
    pub serial: &'static str,
    /// PCI bus and slot of each controller.
    pub controllers: &'static [(u64, u64)],
    /// Bus, target and unit.
    pub numbers: (u64, u64, u64),
}

/// Behind the bridge, two at one cable of the PIIX (its function 1), one NVMe alone, and one at two controllers.
pub const PLACES: &[Place] = &[
    Place { bus_type: "virtio", serial: "bridged", controllers: &[(1, 3)], numbers: (0, 0, 0) },
    Place { bus_type: "ide", serial: "ide-master", controllers: &[(0, 1)], numbers: (1, 0, 0) },
    Place { bus_type: "ide", serial: "ide-slave", controllers: &[(0, 1)], numbers: (1, 0, 1) },
    Place { bus_type: "nvme", serial: "nvme-alone", controllers: &[(0, 0xa)], numbers: (0, 0, 0) },
    Place { bus_type: "nvme", serial: "nvme-shared", controllers: &[(0, 0xb), (0, 0xc)], numbers: (0, 0, 0) },
];

/// The part of QEMU's command line.
pub(crate) fn arguments(directory: &Path) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    for Place { serial, .. } in PLACES {
        let disk = Disk::empty(directory, &format!("{serial}.img"), 32);
        add("-drive", format!("if=none,format=raw,file={},id={serial}", disk.path.display()));
    }
    let devices = [
        "pci-bridge,id=bridge,chassis_nr=1,addr=0xd,shpc=off",
        "virtio-blk-pci,drive=bridged,serial=bridged,bus=bridge,addr=0x3",
        "ide-hd,drive=ide-master,serial=ide-master,bus=ide.1,unit=0",
        "ide-hd,drive=ide-slave,serial=ide-slave,bus=ide.1,unit=1",
        "nvme,drive=nvme-alone,serial=nvme-alone,addr=0xa",
        "nvme-subsys,id=subsystem,nqn=subsystem",
        "nvme,id=nvme-b,serial=nvme-shared,subsys=subsystem,addr=0xb",
        "nvme,id=nvme-c,serial=nvme-shared,subsys=subsystem,addr=0xc",
        "nvme-ns,drive=nvme-shared,bus=nvme-b,nsid=1",
    ];
    for device in devices {
        add("-device", device.to_owned());
    }
    arguments
}
