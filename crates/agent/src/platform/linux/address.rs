//! How a disk is attached, told from the path of its directory in sysfs, for example
//! `/sys/devices/pci0000:00/0000:00:05.0/virtio2/host2/target2:0:5/2:0:5:3/block/sda`.
//!
//! Hosts look a disk up by the address of its controller together with bus, target and unit, so these are the
//! numbers that libvirt and QEMU give their drives, which is not the same rule for every kind of controller.

use std::fs;
use std::path::Path;

use qga_proto::types::storage::{GuestCcwAddress, GuestDiskAddress, GuestDiskBusType, GuestPciAddress};

/// The address of the disk (or the controller) whose directory is `dir`; `path` is the same as the guest sees it.
/// Without node and serial number.
pub fn of(path: &str, dir: &Path) -> GuestDiskAddress {
    let parts = Parts { all: path.split('/').collect(), dir };
    let mut address = GuestDiskAddress {
        bus_type: GuestDiskBusType::Unknown,
        bus: 0,
        unit: 0,
        pci_controller: GuestPciAddress::default(),
        dev: None,
        target: 0,
        serial: None,
        ccw_address: parts.ccw(),
    };
    // Behind bridges, and in the domain that a VMD makes of its own, the last function is the controller.
    let function = parts.all.iter().rposition(|part| pci(part).is_some());
    if let Some(pci) = function.and_then(|at| pci(parts.all.get(at)?)) {
        address.pci_controller = pci;
    }
    parts.classify(function, &mut address);
    address
}

/// Where in a SCSI host a logical unit is.
#[derive(Debug, Clone, Copy)]
struct Scsi {
    channel: i64,
    target: i64,
    lun: i64,
}

/// A port of an ATA controller as the kernel names it.
#[derive(Debug, Clone, Copy)]
struct Port {
    prefix: &'static str,
    number: u64,
}

struct Parts<'a> {
    all: Vec<&'a str>,
    dir: &'a Path,
}

impl Parts<'_> {
    fn classify(&self, function: Option<usize>, address: &mut GuestDiskAddress) {
        use GuestDiskBusType as Bus;
        let scsi = self.scsi();
        let driver = function.map(|at| self.driver(at)).unwrap_or_default();
        if self.has_numbered("usb") {
            address.bus_type = Bus::Usb;
        } else if self.all.contains(&"nvme") || self.has("nvme-subsystem") || self.has("nvme-fabrics") {
            address.bus_type = Bus::Nvme;
        } else if let Some(at) = self.position("mmc_host") {
            address.bus_type = self.card(at);
        } else if let Some((at, port)) = self.ata(&driver) {
            // The drive's number at its cable, 0 or 1 for IDE; the port is the cable's.
            let drive = scsi.map_or(0, |scsi| scsi.target);
            (address.bus_type, address.bus, address.unit) = match is_ide(&driver) {
                true => (Bus::Ide, self.port(at, port), drive),
                false => (Bus::Sata, 0, self.port(at, port)),
            };
        } else if let Some(Scsi { channel, target, lun }) = scsi {
            address.bus_type = match () {
                () if self.has_prefix("rport-") => Bus::Fibre,
                () if self.has_numbered("session") => Bus::Iscsi,
                () if self.has_prefix("end_device-") => Bus::Sas,
                () => Bus::Scsi,
            };
            (address.bus, address.target, address.unit) = (channel, target, lun);
            // The one controller whose drives are numbered by QEMU's "unit" alone.
            if driver == "sym53c8xx" {
                (address.bus, address.target, address.unit) = (0, 0, target);
            }
        } else if self.has_numbered("virtio") {
            address.bus_type = Bus::Virtio;
        } else if self.has_prefix("vbd-") {
            address.bus_type = Bus::Xen;
        } else if self.has_prefix("floppy.") {
            address.bus_type = Bus::Fdc;
        }
    }

    fn has(&self, name: &str) -> bool {
        self.all.contains(&name)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|part| *part == name)
    }

    fn has_prefix(&self, prefix: &str) -> bool {
        self.all.iter().any(|part| part.starts_with(prefix))
    }

    fn has_numbered(&self, prefix: &str) -> bool {
        self.all.iter().any(|part| numbered(part, prefix).is_some())
    }

    /// The directory of one part of the path.
    fn dir_of(&self, at: usize) -> &Path {
        self.dir.ancestors().nth(self.all.len() - 1 - at).unwrap_or(self.dir)
    }

    /// The name of the driver of one part of the path; empty where it has none.
    fn driver(&self, at: usize) -> String {
        let link = fs::read_link(self.dir_of(at).join("driver")).unwrap_or_default();
        link.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// From `/targetH:C:T/H:C:T:L`.
    fn scsi(&self) -> Option<Scsi> {
        let at = self.all.iter().position(|part| part.strip_prefix("target").is_some_and(|rest| rest.contains(':')))?;
        let mut numbers = self.all.get(at + 1)?.split(':').skip(1).map(|number| number.parse().ok());
        Some(Scsi { channel: numbers.next()??, target: numbers.next()??, lun: numbers.next()?? })
    }

    /// The `ataN` of a path, where it is and what it starts with and its number; kernels before 3.0 had only the
    /// `hostN` of each port.
    fn ata(&self, driver: &str) -> Option<(usize, Port)> {
        let find = |prefix: &'static str| {
            let found = |(at, part): (usize, &&str)| Some((at, Port { prefix, number: numbered(part, prefix)? }));
            self.all.iter().enumerate().find_map(found)
        };
        find("ata").or_else(|| if is_ide(driver) || driver == "ahci" { find("host") } else { None })
    }

    /// Which port of its controller one is. The kernel numbers the ports of all controllers in one row, so it is its
    /// place among its siblings.
    fn port(&self, at: usize, Port { prefix, number }: Port) -> i64 {
        let siblings = self.dir_of(at).parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
        let numbers = siblings.filter_map(|entry| numbered(entry.file_name().to_str()?, prefix));
        numbers.filter(|sibling| *sibling < number).count().try_into().unwrap_or(0)
    }

    /// Whether a card is one or is soldered on: `mmc_host/mmc0/mmc0:0001/type` says.
    fn card(&self, host: usize) -> GuestDiskBusType {
        let kind = fs::read(self.dir_of(host + 2).join("type")).unwrap_or_default();
        if kind.starts_with(b"SD") { GuestDiskBusType::Sd } else { GuestDiskBusType::Mmc }
    }

    /// From `/cssC/C.S.NNNN/x.x.DDDD`, in hexadecimal.
    fn ccw(&self) -> Option<GuestCcwAddress> {
        let at = self.all.iter().position(|part| {
            part.strip_prefix("css").is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit()))
        })?;
        let hex = |text: &str| i64::from_str_radix(text, 16).ok();
        let mut subchannel = self.all.get(at + 1)?.split('.');
        Some(GuestCcwAddress {
            cssid: hex(subchannel.next()?)?,
            ssid: hex(subchannel.next()?)?,
            subchno: hex(subchannel.next()?)?,
            devno: hex(self.all.get(at + 2)?.split('.').nth(2)?)?,
        })
    }
}

/// The drivers of the parallel cable, and the two that serve both kinds and show them as this.
fn is_ide(driver: &str) -> bool {
    driver.starts_with("pata_") || matches!(driver, "ata_piix" | "ata_generic" | "piix")
}

/// `3` of `usb3`.
fn numbered(part: &str, prefix: &str) -> Option<u64> {
    let digits = part.strip_prefix(prefix).filter(|rest| rest.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// `DDDD:BB:SS.F` in hexadecimal.
fn pci(part: &str) -> Option<GuestPciAddress> {
    let (rest, function) = part.split_once('.')?;
    let mut numbers = rest.split(':');
    let mut next = |digits: usize| {
        let text = numbers.next().filter(|text| text.len() >= digits && text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        i64::from_str_radix(text, 16).ok()
    };
    let (domain, bus, slot) = (next(4)?, next(2)?, next(2)?);
    let function = function.parse().ok().filter(|function| (0..8).contains(function))?;
    numbers.next().is_none().then_some(GuestPciAddress { bus, slot, domain, function })
}

#[cfg(test)]
#[path = "address/tests.rs"]
mod tests;
