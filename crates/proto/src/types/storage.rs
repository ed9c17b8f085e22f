//! `guest-get-fsinfo` and `guest-get-disks`.

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Lists the mounted file systems, the one mounted last first, with their sizes and the disks they lie on.
#[derive(Debug)]
pub struct GuestGetFsinfo;

impl Command for GuestGetFsinfo {
    const NAME: &'static str = "guest-get-fsinfo";
    const SINCE: &'static str = "2.2";
    type Args<'a> = Empty;
    type Ret = Vec<GuestFilesystemInfo>;
}

/// A mounted file system. The three sizes are there together, or absent where the file system cannot be asked: other
/// mounts cover it, or it does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestFilesystemInfo {
    /// The kernel's name of its device, such as `sda1`; without a block device, what is mounted.
    pub name: String,
    /// What an ordinary user can fill, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// All there is, in bytes, with what is kept for root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes_privileged: Option<u64>,
    /// Where it is mounted; may be given to `guest-fsfreeze-freeze-list`, which passes over what cannot be frozen.
    pub mountpoint: String,
    /// The disks it lies on; none where it lies on no disk, or on one that has no address.
    #[serde(default)]
    pub disk: Vec<GuestDiskAddress>,
    /// What is in use, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// Type, such as `ext4`.
    #[serde(rename = "type")]
    pub fs_type: String,
}

/// Lists disks and partitions.
#[derive(Debug)]
pub struct GuestGetDisks;

impl Command for GuestGetDisks {
    const NAME: &'static str = "guest-get-disks";
    const SINCE: &'static str = "5.2";
    type Args<'a> = Empty;
    type Ret = Vec<GuestDiskInfo>;
}

/// A disk or a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestDiskInfo {
    /// Its device node, such as `/dev/sda1`.
    pub name: String,
    /// The device nodes of what it lies on: a partition's disk, the members of an array or a mapped device. Absent
    /// where the kernel keeps no such list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<Vec<String>>,
    /// Whether it is a partition.
    pub partition: bool,
    /// Where it is attached; absent for partitions and for what is made of other disks or of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<GuestDiskAddress>,
    /// Another name of it, that of a mapped device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What the disk says of its health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smart: Option<GuestDiskSmart>,
}

/// How a disk is attached. What is not known is `unknown` or -1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestDiskAddress {
    /// Kind of the bus.
    pub bus_type: GuestDiskBusType,
    /// Number of the bus at its controller.
    pub bus: i64,
    /// Number of the unit at its target.
    pub unit: i64,
    /// The controller.
    #[serde(default)]
    pub pci_controller: GuestPciAddress,
    /// Device node; that of the partition where a file system lies on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// Number of the target at its bus.
    pub target: i64,
    /// Serial number, as udev composes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The device on an s390 channel subsystem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ccw_address: Option<GuestCcwAddress>,
}

/// Kinds of bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum GuestDiskBusType {
    Ide,
    Fdc,
    Scsi,
    Virtio,
    Xen,
    Usb,
    Uml,
    Sata,
    Sd,
    Ieee1394,
    Ssa,
    Fibre,
    Raid,
    Iscsi,
    Sas,
    Mmc,
    Virtual,
    FileBackedVirtual,
    Nvme,
    #[default]
    #[serde(other)]
    Unknown,
}

/// A function of a PCI device. All four numbers are there, -1 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct GuestPciAddress {
    pub bus: i64,
    pub slot: i64,
    pub domain: i64,
    pub function: i64,
}

impl Default for GuestPciAddress {
    fn default() -> Self {
        GuestPciAddress { bus: -1, slot: -1, domain: -1, function: -1 }
    }
}

/// A device on a channel subsystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestCcwAddress {
    /// Channel subsystem.
    pub cssid: i64,
    /// Subchannel set.
    pub ssid: i64,
    /// Subchannel.
    pub subchno: i64,
    /// Device number.
    pub devno: i64,
}

/// What a disk says of its health. Only NVMe does so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the SMART log page of the NVMe specification has them by these names")]
pub struct GuestDiskSmart {
    #[serde(rename = "type")]
    pub kind: GuestDiskSmartType,
    pub critical_warning: i64,
    /// In kelvin.
    pub temperature: i64,
    pub available_spare: i64,
    pub available_spare_threshold: i64,
    pub percentage_used: i64,
    pub data_units_read_lo: u64,
    pub data_units_read_hi: u64,
    pub data_units_written_lo: u64,
    pub data_units_written_hi: u64,
    pub host_read_commands_lo: u64,
    pub host_read_commands_hi: u64,
    pub host_write_commands_lo: u64,
    pub host_write_commands_hi: u64,
    pub controller_busy_time_lo: u64,
    pub controller_busy_time_hi: u64,
    pub power_cycles_lo: u64,
    pub power_cycles_hi: u64,
    pub power_on_hours_lo: u64,
    pub power_on_hours_hi: u64,
    pub unsafe_shutdowns_lo: u64,
    pub unsafe_shutdowns_hi: u64,
    pub media_errors_lo: u64,
    pub media_errors_hi: u64,
    pub number_of_error_log_entries_lo: u64,
    pub number_of_error_log_entries_hi: u64,
}

/// Which log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestDiskSmartType {
    /// Log page 2 of NVMe.
    Nvme,
    /// Another one, of an agent that knows more.
    #[serde(other)]
    Other,
}
