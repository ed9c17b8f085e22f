//! `guest-get-disks`

use std::fs;

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::storage::{GuestDiskBusType, GuestDiskInfo, GuestGetDisks};

use crate::commands::{Context, Handler};
use crate::platform::linux::device::{Block, Blocks};
use crate::platform::linux::errno::Context as _;
use crate::platform::linux::nvme;
use crate::platform::linux::root::Root;

impl Handler for GuestGetDisks {
    const NEEDS: &'static str = "/sys; serial numbers are udev's where it runs";

    fn run(cx: Context<'_>, _: Empty) -> Result<Vec<GuestDiskInfo>> {
        disks(&cx.state.root)
    }
}

/// Disks by name, each followed by its partitions.
///
/// # Errors
/// `Can't open directory "/sys/block": <errno>`. What is not known of one disk is absent in its entry.
fn disks(root: &Root) -> Result<Vec<GuestDiskInfo>> {
    let blocks = Blocks::new(root);
    let mut found = Vec::new();
    for disk in blocks.disks().context(|| "Can't open directory \"/sys/block\"".into())? {
        found.push(describe(root, &blocks, &disk));
        found.extend(blocks.partitions(&disk).iter().map(|partition| GuestDiskInfo {
            name: partition.node.clone(),
            dependencies: Some(vec![disk.node.clone()]),
            partition: true,
            address: None,
            alias: None,
            smart: None,
        }));
    }
    Ok(found)
}

fn describe(root: &Root, blocks: &Blocks<'_>, disk: &Block) -> GuestDiskInfo {
    let address = if disk.is_virtual() { None } else { blocks.own_addresses(disk).first().cloned() };
    let is_nvme = address.as_ref().is_some_and(|address| address.bus_type == GuestDiskBusType::Nvme);
    let members = blocks.members(disk);
    GuestDiskInfo {
        name: disk.node.clone(),
        dependencies: members.map(|members| members.iter().map(|member| member.node.clone()).collect()),
        partition: false,
        address,
        alias: alias(blocks, disk),
        smart: if is_nvme { nvme::smart(&root.path(&disk.node)) } else { None },
    }
}

/// The name of a mapped device: udev's, else the kernel's.
fn alias(blocks: &Blocks<'_>, disk: &Block) -> Option<String> {
    if !disk.is_virtual() {
        return None;
    }
    let kernels = || {
        let name = fs::read(disk.dir.join("dm/name")).ok()?;
        Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned()).filter(|name| !name.is_empty())
    };
    blocks.properties(disk).get("DM_NAME").or_else(kernels)
}

#[cfg(test)]
#[path = "get_disks/tests.rs"]
mod tests;
