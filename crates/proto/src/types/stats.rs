//! `guest-get-diskstats`, `guest-get-cpustats`, `guest-get-load`.

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Counters of all block devices, as the kernel lists them.
#[derive(Debug)]
pub struct GuestGetDiskstats;

impl Command for GuestGetDiskstats {
    const NAME: &'static str = "guest-get-diskstats";
    const SINCE: &'static str = "7.1";
    type Args<'a> = Empty;
    type Ret = Vec<GuestDiskStatsInfo>;
}

/// How long each processor has done what.
#[derive(Debug)]
pub struct GuestGetCpustats;

impl Command for GuestGetCpustats {
    const NAME: &'static str = "guest-get-cpustats";
    const SINCE: &'static str = "7.1";
    type Args<'a> = Empty;
    type Ret = Vec<GuestCpuStats>;
}

/// The load averages.
#[derive(Debug)]
pub struct GuestGetLoad;

impl Command for GuestGetLoad {
    const NAME: &'static str = "guest-get-load";
    const SINCE: &'static str = "10.0";
    type Args<'a> = Empty;
    type Ret = GuestLoadAverage;
}

/// Counters of one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestDiskStatsInfo {
    /// The kernel's name for it.
    pub name: String,
    /// Its counters.
    pub stats: GuestDiskStats,
    /// Its minor number.
    pub minor: u64,
    /// Its major number.
    pub major: u64,
}

/// Counters since the device came up; absent where the kernel keeps none. Sectors are of 512 bytes, ticks are
/// milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[expect(missing_docs, reason = "the names are those of the kernel's iostats documentation")]
pub struct GuestDiskStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discard_sectors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_ios: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discard_ios: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discard_ticks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_ticks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_ios: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_ios: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_sectors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_merges: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_ticks: Option<u64>,
    /// In progress now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ios_pgr: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_sectors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_merges: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ticks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discard_merges: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_ticks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_ticks: Option<u64>,
}

/// What one processor has spent its time on since the start of the system, in milliseconds. What an old kernel does
/// not count is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the kernel's documentation of /proc/stat")]
pub struct GuestCpuStats {
    /// The processor's number.
    pub cpu: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guestnice: Option<u64>,
    pub idle: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iowait: Option<u64>,
    pub system: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<u64>,
    pub nice: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irq: Option<u64>,
    /// Which system counted.
    #[serde(rename = "type")]
    pub kind: GuestCpuStatsType,
    pub user: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softirq: Option<u64>,
}

/// Systems that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestCpuStatsType {
    /// Linux.
    Linux,
    /// Another one, of an agent that knows more.
    #[serde(other)]
    Other,
}

/// What `guest-get-load` returns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GuestLoadAverage {
    /// Over one minute.
    pub load1m: f64,
    /// Over five minutes.
    pub load5m: f64,
    /// Over fifteen minutes.
    pub load15m: f64,
}
