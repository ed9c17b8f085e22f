//! `qga disks`

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::storage::{GuestDiskAddress, GuestDiskInfo, GuestGetDisks, GuestPciAddress};
use serde_json::{Value, json};

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::Table;

/// Show disks and partitions, their buses, serial numbers and what they lie on
///
/// Agents before QEMU 5.2 cannot tell.
#[derive(Debug, Args)]
pub(crate) struct Disks {}

impl PerTarget for Disks {
    const NAME: &'static str = "disks";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        session.show::<GuestGetDisks>(Empty {}, text)
    }
}

fn text(disks: Vec<GuestDiskInfo>) -> String {
    let mut table = Table::new(&["NAME", "KIND", "BUS", "PCI", "UNIT", "SERIAL", "ON", "ALIAS"]);
    for disk in disks {
        let address = disk.address.as_ref();
        let on = disk.dependencies.filter(|on| !on.is_empty()).map(|on| on.join(" "));
        table.row([
            disk.name.into(),
            if disk.partition { "partition" } else { "disk" }.into(),
            address.map(bus).into(),
            address.and_then(|address| pci(&address.pci_controller)).into(),
            address.filter(|address| has_unit(address)).map(unit).into(),
            address.and_then(|address| address.serial.as_ref()).into(),
            on.into(),
            disk.alias.into(),
        ]);
    }
    table.to_string()
}

/// The name on the wire.
fn bus(address: &GuestDiskAddress) -> String {
    match json!(address.bus_type) {
        Value::String(name) => name,
        _ => "unknown".to_owned(),
    }
}

fn pci(address: &GuestPciAddress) -> Option<String> {
    let GuestPciAddress { domain, bus, slot, function } = address;
    (*domain >= 0 && *bus >= 0).then(|| format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"))
}

fn has_unit(address: &GuestDiskAddress) -> bool {
    address.bus >= 0 && address.target >= 0 && address.unit >= 0
}

fn unit(address: &GuestDiskAddress) -> String {
    format!("{}:{}:{}", address.bus, address.target, address.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_disk_does_not_have_is_a_dash() {
        let disks = serde_json::json!([
            {"name": "/dev/sda", "partition": false, "dependencies": [], "address": {
                "bus-type": "scsi", "bus": 0, "unit": 1, "target": 0, "serial": "abc",
                "pci-controller": {"domain": 0, "bus": 0, "slot": 31, "function": 2},
            }},
            {"name": "/dev/sda1", "partition": true, "dependencies": ["/dev/sda"]},
            {"name": "/dev/x", "partition": false, "address": {
                "bus-type": "new", "bus": -1, "unit": -1, "target": -1,
            }, "alias": "root"},
        ]);
        let expected = "\
NAME       KIND       BUS      PCI           UNIT   SERIAL  ON        ALIAS
/dev/sda   disk       scsi     0000:00:1f.2  0:0:1  abc     -         -
/dev/sda1  partition  -        -             -      -       /dev/sda  -
/dev/x     disk       unknown  -             -      -       -         root
";
        assert_eq!(text(serde_json::from_value(disks).unwrap()), expected);
    }
}
