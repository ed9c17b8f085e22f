//! A machine with a disk on every bus: where each of them is on QEMU's command line is what an agent has to find out.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::disks::Disk;
use crate::process::{self, Kept};

/// `-m`: room for a module of memory to be plugged in.
pub const MEMORY: &str = "512M,slots=2,maxmem=2G";

/// Memory that is plugged in can be taken offline again.
pub const KERNEL_LINE: &str = "movable_node";

/// Size of each disk in MiB: a power of two, as that of a card has to be, and enough for btrfs.
pub const SIZE: u64 = 128;

/// The drivers that the machine needs beyond those of every other one.
pub(crate) const MODULES: &[&str] = &[
    "9p",
    "9pnet_virtio",
    "ahci",
    "btrfs",
    "dm_mod",
    "dm_multipath",
    "dm_round_robin",
    "mmc_block",
    "nvme",
    "overlay",
    "raid1",
    "sdhci_pci",
    "sym53c8xx",
    "uhci_hcd",
    "usb_storage",
    "virtiofs",
    "xhci_pci",
];

/// Programs of the host that a test in it needs.
pub(crate) const PROGRAMS: &[&str] = &["btrfs", "dmsetup", "mkfs.btrfs"];

/// Brings up all controllers. Nothing in the guest does so by itself. USB disks are asked at once.
pub const DRIVERS: &str = "modprobe usb_storage delay_use=0
    modprobe -a ata_piix ahci nvme xhci_pci uhci_hcd sdhci_pci mmc_block sym53c8xx";

/// The tag of a directory of the host that is served as virtiofs, and of another as 9p.
pub const TAGS: (&str, &str) = ("share-fs", "share-9p");

/// A disk of this module, as an agent has to show it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its name on QEMU's command line. Its first bytes are this name too.
    pub id: &'static str,
    /// The kind of bus.
    pub bus_type: &'static str,
    /// The serial number that is shown: made by the rules of udev of the one that QEMU was given, which is the name.
    pub serial: &'static str,
    /// PCI bus, slot and function of each controller.
    pub controllers: &'static [(u64, u64, u64)],
    /// Bus, target and unit.
    pub numbers: (u64, u64, u64),
}

impl Place {
    const fn new(
        id: &'static str,
        bus_type: &'static str,
        serial: &'static str,
        controllers: &'static [(u64, u64, u64)],
        numbers: (u64, u64, u64),
    ) -> Self {
        Self { id, bus_type, serial, controllers, numbers }
    }
}

/// The one disk with a table of partitions; its file system is in the first.
pub const PARTED: &str = "sata-parted";

/// Behind the bridge; two at one cable of the PIIX (its function 1); at some ports of two SATA controllers, so that the
/// kernel's own numbers of the ports are 3, 6 and 14; one NVMe alone, and one at two controllers; USB of two kinds, once
/// behind a hub; a card; and one disk at two SCSI controllers, which is two disks to the kernel.
#[rustfmt::skip]
pub const PLACES: &[Place] = &[
    Place::new("bridged", "virtio", "bridged", &[(1, 3, 0)], (0, 0, 0)),
    Place::new("ide-master", "ide", "QEMU_HARDDISK_ide-master", &[(0, 1, 1)], (1, 0, 0)),
    Place::new("ide-slave", "ide", "QEMU_HARDDISK_ide-slave", &[(0, 1, 1)], (1, 0, 1)),
    Place::new("sata-first", "sata", "QEMU_HARDDISK_sata-first", &[(0, 0xe, 0)], (0, 0, 0)),
    Place::new(PARTED, "sata", "QEMU_HARDDISK_sata-parted", &[(0, 0xe, 0)], (0, 0, 3)),
    Place::new("sata-other", "sata", "QEMU_HARDDISK_sata-other", &[(0, 0xf, 0)], (0, 0, 5)),
    Place::new("nvme-alone", "nvme", "QEMU_NVMe_Ctrl_nvme-alone_1", &[(0, 0xa, 0)], (0, 0, 0)),
    Place::new("nvme-shared", "nvme", "QEMU_NVMe_Ctrl_nvme-shared_1", &[(0, 0xb, 0), (0, 0xc, 0)], (0, 0, 0)),
    Place::new("usb-plain", "usb", "QEMU_QEMU_HARDDISK_usb-plain-0:0", &[(0, 0x11, 0)], (0, 0, 0)),
    Place::new("usb-hub", "usb", "QEMU_QEMU_HARDDISK_usb-hub-0:0", &[(0, 0x11, 0)], (0, 0, 0)),
    Place::new("usb-old", "usb", "QEMU_QEMU_HARDDISK_usb-old-0:0", &[(0, 0x12, 0)], (0, 0, 0)),
    // QEMU's cards all have the same number.
    Place::new("card", "sd", "0xdeadbeef", &[(0, 0x13, 0)], (0, 0, 0)),
];

/// The disk at two controllers, target 2 of each (which is its unit to libvirt): what names it, and where they are.
pub const TWICE: (&str, [(u64, u64, u64); 2]) = ("35000c50015ea71ad", [(0, 0x14, 0), (0, 0x15, 0)]);

/// What the disks are attached with.
const DEVICES: &[&str] = &[
    "pci-bridge,id=bridge,chassis_nr=1,addr=0xd,shpc=off",
    "virtio-blk-pci,drive=bridged,serial=bridged,bus=bridge,addr=0x3",
    "ide-hd,drive=ide-master,serial=ide-master,bus=ide.1,unit=0",
    "ide-hd,drive=ide-slave,serial=ide-slave,bus=ide.1,unit=1",
    "ich9-ahci,id=ahci-a,addr=0xe",
    "ich9-ahci,id=ahci-b,addr=0xf",
    "ide-hd,drive=sata-first,serial=sata-first,bus=ahci-a.0",
    "ide-hd,drive=sata-parted,serial=sata-parted,bus=ahci-a.3",
    "ide-hd,drive=sata-other,serial=sata-other,bus=ahci-b.5",
    "nvme,drive=nvme-alone,serial=nvme-alone,addr=0xa",
    "nvme-subsys,id=subsystem,nqn=subsystem",
    "nvme,id=nvme-b,serial=nvme-shared,subsys=subsystem,addr=0xb",
    "nvme,id=nvme-c,serial=nvme-shared,subsys=subsystem,addr=0xc",
    "nvme-ns,drive=nvme-shared,bus=nvme-b,nsid=1",
    "qemu-xhci,id=xhci,addr=0x11",
    "piix3-usb-uhci,id=uhci,addr=0x12",
    "usb-hub,bus=xhci.0,port=2",
    "usb-storage,drive=usb-plain,serial=usb-plain,bus=xhci.0,port=1",
    "usb-storage,drive=usb-hub,serial=usb-hub,bus=xhci.0,port=2.3",
    "usb-storage,drive=usb-old,serial=usb-old,bus=uhci.0,port=2",
    "sdhci-pci,addr=0x13",
    "sd-card,drive=card",
    "lsi53c895a,id=way-a,addr=0x14",
    "lsi53c895a,id=way-b,addr=0x15",
    "scsi-hd,drive=twice-a,wwn=0x5000c50015ea71ad,bus=way-a.0,scsi-id=2,share-rw=on",
    "scsi-hd,drive=twice-b,wwn=0x5000c50015ea71ad,bus=way-b.0,scsi-id=2,share-rw=on",
    "virtio-9p-pci,fsdev=share,mount_tag=share-9p,addr=0x16",
];

/// The part of QEMU's command line.
pub(crate) fn arguments(directory: &Path, has_virtiofs: bool) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    for Place { id, .. } in PLACES {
        add("-drive", format!("if=none,format=raw,file={},id={id}", disk(directory, id).path.display()));
    }
    let twice = disk(directory, "twice");
    for id in ["twice-a", "twice-b"] {
        add("-drive", format!("if=none,format=raw,file.locking=off,file={},id={id}", twice.path.display()));
    }
    add("-fsdev", format!("local,id=share,security_model=none,path={}", share(directory).display()));
    for device in DEVICES {
        add("-device", (*device).to_owned());
    }
    if has_virtiofs {
        // The server looks into the guest's memory.
        add("-object", "memory-backend-memfd,id=memory-of-all,size=512M,share=on".to_owned());
        add("-machine", "memory-backend=memory-of-all".to_owned());
        add("-chardev", format!("socket,id=virtiofs,path={}", directory.join("virtiofs").display()));
        add("-device", format!("vhost-user-fs-pci,chardev=virtiofs,tag={},addr=0x17", TAGS.0));
    }
    arguments
}

/// A disk with ext4 on it, and its name in its first bytes, which ext4 and a table of partitions leave alone.
fn disk(directory: &Path, id: &str) -> Disk {
    let disk = Disk::empty(directory, &format!("{id}.img"), SIZE);
    let path = disk.path.display().to_string();
    let options = ["-q", "-F", "-t", "ext4"];
    let mut writes: Vec<(u64, Vec<u8>)> = vec![(0, id.as_bytes().to_vec())];
    if id == PARTED {
        process::run("mke2fs", &[&options[..], &["-E", "offset=1048576", &path, &format!("{}M", SIZE - 1)]].concat());
        // One partition of Linux (0x83) from the second MiB to the end, and the mark that it is a table.
        let mut entry = vec![0, 0, 0, 0, 0x83, 0, 0, 0];
        entry.extend(2048_u32.to_le_bytes());
        entry.extend(u32::try_from((SIZE - 1) * 2048).unwrap_or_default().to_le_bytes());
        writes.extend([(446, entry), (510, vec![0x55, 0xaa])]);
    } else {
        process::run("mke2fs", &[&options[..], &[&path]].concat());
    }
    let written = OpenOptions::new()
        .write(true)
        .open(&disk.path)
        .and_then(|file| writes.iter().try_for_each(|(offset, bytes)| file.write_all_at(bytes, *offset)));
    written.unwrap_or_else(|error| panic!("{path}: {error}"));
    disk
}

/// The directory that is served to the guest.
fn share(directory: &Path) -> std::path::PathBuf {
    let share = directory.join("share");
    fs::create_dir_all(&share).unwrap_or_else(|error| panic!("{}: {error}", share.display()));
    share
}

/// Starts the server of virtiofs, which has to be there before QEMU. `None`, and a line that says why, where this host
/// has none or does not let it run: it wants to be root.
pub(crate) fn serve(directory: &Path) -> Option<Kept> {
    let Some(program) =
        ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"].into_iter().find(|p| Path::new(p).exists())
    else {
        println!("no virtiofs in this machine: there is no virtiofsd on this host");
        return None;
    };
    let socket = directory.join("virtiofs");
    // It ends with QEMU; the next one gets a new one.
    let _ = fs::remove_file(&socket);
    let log = directory.join("virtiofs.log");
    let mut server = Kept::start(program, |command| {
        command.arg(format!("--socket-path={}", socket.display()));
        command.arg("-o").arg(format!("source={}", share(directory).display())).args(["-o", "sandbox=chroot"]);
        let file = fs::File::create(&log).expect("a log for virtiofsd");
        command.stdout(file.try_clone().expect("a second handle")).stderr(file);
    });
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end && server.is_running() {
        if socket.exists() {
            return Some(server);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("no virtiofs in this machine: {}", fs::read_to_string(&log).unwrap_or_default().trim());
    None
}
