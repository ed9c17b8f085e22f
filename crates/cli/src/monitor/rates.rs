//! What two samples together tell: how much of each thing happened in a second.

use std::collections::HashMap;
use std::time::Duration;

use qga_proto::types::network::GuestNetworkInterfaceStat;
use qga_proto::types::stats::{GuestCpuStats, GuestDiskStats, GuestDiskStatsInfo};

use super::sample::Sample;

/// Bytes in a sector, whatever the disk says of itself.
pub(crate) const SECTOR: u64 = 512;

/// What happened between two samples. Of what is not there before, nothing is known yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu: Option<CpuUse>,
    pub(crate) disks: Vec<DiskRate>,
    pub(crate) interfaces: Vec<InterfaceRate>,
}

/// What part of their time all processors together spent on what, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CpuUse {
    /// On all but idling and waiting.
    pub(crate) busy: f64,
    pub(crate) user: f64,
    /// In the kernel, interrupts included.
    pub(crate) system: f64,
    /// Waiting for disks.
    pub(crate) wait: f64,
    /// Wanting to run while the host ran something else.
    pub(crate) steal: f64,
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DiskRate {
    pub(crate) name: String,
    /// Bytes a second.
    pub(crate) read: f64,
    /// Bytes a second.
    pub(crate) written: f64,
    /// Requests a second.
    pub(crate) requests: f64,
    /// The part of the time, 0 to 1, in which there was something to do.
    pub(crate) busy: f64,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InterfaceRate {
    pub(crate) name: String,
    /// Bytes a second.
    pub(crate) received: f64,
    /// Bytes a second.
    pub(crate) sent: f64,
}

impl Usage {
    /// What happened between two samples.
    pub(crate) fn between(before: Option<&Sample>, now: &Sample) -> Self {
        let Some(before) = before else { return Usage::default() };
        let time = now.at.saturating_duration_since(before.at);
        if time.is_zero() {
            return Usage::default();
        }
        let cpu = before.cpus.as_ref().zip(now.cpus.as_ref()).and_then(|(before, now)| CpuUse::between(before, now));
        let disks = before.disks.iter().zip(&now.disks).flat_map(|(before, now)| disks(before, now, time)).collect();
        let interfaces = before.interfaces.iter().zip(&now.interfaces).flat_map(|(before, now)| {
            let before: HashMap<&str, _> =
                before.iter().map(|interface| (interface.name.as_str(), interface.statistics)).collect();
            now.iter().filter_map(move |interface| {
                let earlier = (*before.get(interface.name.as_str())?)?;
                InterfaceRate::between(&interface.name, &earlier, &interface.statistics?, time)
            })
        });
        Usage { cpu, disks, interfaces: interfaces.collect() }
    }

    /// Bytes a second that all disks read and wrote. What is made of other disks would be counted twice.
    pub(crate) fn disks_total(&self) -> (f64, f64) {
        let disks = self.disks.iter().filter(|disk| !is_made_of_others(&disk.name));
        disks.fold((0.0, 0.0), |(read, written), disk| (read + disk.read, written + disk.written))
    }

    /// Bytes a second that came in and went out, without what a guest sends to itself.
    pub(crate) fn interfaces_total(&self) -> (f64, f64) {
        let interfaces = self.interfaces.iter().filter(|interface| interface.name != "lo");
        interfaces.fold((0.0, 0.0), |(received, sent), one| (received + one.received, sent + one.sent))
    }
}

impl CpuUse {
    /// Over the processors that were there both times; `None` when no time has passed for them.
    fn between(before: &[GuestCpuStats], now: &[GuestCpuStats]) -> Option<Self> {
        let before: HashMap<i64, &GuestCpuStats> = before.iter().map(|cpu| (cpu.cpu, cpu)).collect();
        // What runs in guests is counted as user and nice already.
        let (mut idle, mut user, mut system, mut wait, mut steal) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for cpu in now {
            let Some(earlier) = before.get(&cpu.cpu) else { continue };
            // The kernel's count of idle time and of waiting may go back a little.
            let spent = |part: fn(&GuestCpuStats) -> Option<u64>| {
                part(cpu).zip(part(earlier)).map_or(0.0, |(now, earlier)| now.saturating_sub(earlier) as f64)
            };
            idle += spent(|cpu| Some(cpu.idle));
            user += spent(|cpu| Some(cpu.user)) + spent(|cpu| Some(cpu.nice));
            system += spent(|cpu| Some(cpu.system)) + spent(|cpu| cpu.irq) + spent(|cpu| cpu.softirq);
            wait += spent(|cpu| cpu.iowait);
            steal += spent(|cpu| cpu.steal);
        }
        let all = idle + user + system + wait + steal;
        (all > 0.0).then(|| CpuUse {
            busy: (user + system + steal) / all,
            user: user / all,
            system: system / all,
            wait: wait / all,
            steal: steal / all,
        })
    }
}

fn disks(before: &[GuestDiskStatsInfo], now: &[GuestDiskStatsInfo], time: Duration) -> Vec<DiskRate> {
    let before: HashMap<&str, &GuestDiskStats> = before.iter().map(|disk| (disk.name.as_str(), &disk.stats)).collect();
    let names: Vec<&str> = now.iter().map(|disk| disk.name.as_str()).collect();
    let whole = now.iter().filter(|disk| is_used(&disk.stats) && !is_partition(&disk.name, &names));
    whole.filter_map(|disk| DiskRate::between(&disk.name, before.get(disk.name.as_str())?, &disk.stats, time)).collect()
}

impl DiskRate {
    fn between(name: &str, before: &GuestDiskStats, now: &GuestDiskStats, time: Duration) -> Option<Self> {
        let count = |part: fn(&GuestDiskStats) -> Option<u64>| delta(part(before)?, part(now)?);
        let seconds = time.as_secs_f64();
        let requests = count(|disk| disk.read_ios)? as f64 + count(|disk| disk.write_ios)? as f64;
        Some(DiskRate {
            name: name.to_owned(),
            read: count(|disk| disk.read_sectors)? as f64 * SECTOR as f64 / seconds,
            written: count(|disk| disk.write_sectors)? as f64 * SECTOR as f64 / seconds,
            requests: requests / seconds,
            busy: (count(|disk| disk.total_ticks).unwrap_or(0) as f64 / 1000.0 / seconds).min(1.0),
        })
    }
}

impl InterfaceRate {
    fn between(
        name: &str,
        before: &GuestNetworkInterfaceStat,
        now: &GuestNetworkInterfaceStat,
        time: Duration,
    ) -> Option<Self> {
        let seconds = time.as_secs_f64();
        Some(InterfaceRate {
            name: name.to_owned(),
            received: delta(before.rx_bytes, now.rx_bytes)? as f64 / seconds,
            sent: delta(before.tx_bytes, now.tx_bytes)? as f64 / seconds,
        })
    }
}

/// How far a counter went. One of 32 bits begins again at zero after its last value; one that is suddenly much
/// lower belongs to a guest that was started again, and tells nothing.
fn delta(before: u64, now: u64) -> Option<u64> {
    const SPAN: u64 = 1 << 32;
    if now >= before {
        return Some(now - before);
    }
    let wrapped = (now + SPAN).checked_sub(before)?;
    (before < SPAN && wrapped < SPAN / 2).then_some(wrapped)
}

/// Whether anything was ever read or written.
pub(crate) fn is_used(stats: &GuestDiskStats) -> bool {
    stats.read_ios.unwrap_or(0) > 0 || stats.write_ios.unwrap_or(0) > 0
}

/// Whether this is a part of another disk of the list: `sda1` of `sda`, `nvme0n1p2` of `nvme0n1`.
fn is_partition(name: &str, names: &[&str]) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == name.len() {
        return false;
    }
    let is_there = |disk: &str| !disk.is_empty() && names.contains(&disk);
    is_there(stem)
        || stem.strip_suffix('p').is_some_and(|disk| disk.ends_with(|c: char| c.is_ascii_digit()) && is_there(disk))
}

/// Mapped devices, arrays and loop devices lie on other disks.
fn is_made_of_others(name: &str) -> bool {
    ["dm-", "md", "loop"].iter().any(|kind| name.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cpu(number: i64, user: u64, system: u64, idle: u64, iowait: u64) -> GuestCpuStats {
        let value = json!({"cpu": number, "user": user, "nice": 0, "system": system, "idle": idle, "iowait": iowait,
            "type": "linux"});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_counter_that_wraps_goes_on_and_one_that_is_reset_tells_nothing() {
        assert_eq!(delta(5, 8), Some(3));
        assert_eq!(delta(8, 8), Some(0));
        assert_eq!(delta(u64::from(u32::MAX) - 1, 2), Some(4));
        assert_eq!(delta(1_000_000, 5), None);
        assert_eq!(delta(u64::MAX, 5), None);
        assert_eq!(delta(1 << 40, 5), None);
    }

    #[test]
    fn processors_are_added_up_and_new_ones_are_left_out() {
        let before = [cpu(0, 100, 100, 1000, 0), cpu(1, 0, 0, 0, 0)];
        let now = [cpu(0, 150, 125, 1015, 10), cpu(1, 0, 0, 100, 0), cpu(2, 900, 0, 0, 0)];
        let used = CpuUse::between(&before, &now).unwrap();
        assert_eq!(used, CpuUse { busy: 0.375, user: 0.25, system: 0.125, wait: 0.05, steal: 0.0 });
        assert_eq!(CpuUse::between(&now, &now), None);
        assert_eq!(CpuUse::between(&[], &now), None);
    }

    #[test]
    fn idle_time_that_goes_back_is_no_negative_time() {
        let used = CpuUse::between(&[cpu(0, 0, 0, 1000, 0)], &[cpu(0, 10, 0, 990, 10)]).unwrap();
        assert_eq!((used.busy, used.wait), (0.5, 0.5));
    }

    #[test]
    fn partitions_are_parts_of_a_disk_that_is_listed() {
        let names = ["sda", "sda1", "nvme0n1", "nvme0n1p2", "dm-0", "md127", "sdb1", "mmcblk0", "mmcblk0p1"];
        let parts: Vec<&str> = names.into_iter().filter(|name| is_partition(name, &names)).collect();
        assert_eq!(parts, ["sda1", "nvme0n1p2", "mmcblk0p1"]);
    }

    #[test]
    fn disks_have_rates_of_bytes_and_requests() {
        let stats = |reads: u64, sectors: u64, ticks: u64| GuestDiskStats {
            read_ios: Some(reads),
            read_sectors: Some(sectors),
            write_ios: Some(0),
            write_sectors: Some(0),
            total_ticks: Some(ticks),
            ..GuestDiskStats::default()
        };
        let disk = |name: &str, stats| GuestDiskStatsInfo { name: name.into(), stats, major: 1, minor: 1 };
        let before = [disk("vda", stats(10, 100, 0)), disk("vda1", stats(10, 100, 0)), disk("vdb", stats(0, 0, 0))];
        let now = [disk("vda", stats(30, 2148, 500)), disk("vda1", stats(30, 2148, 500)), disk("vdb", stats(0, 0, 0))];
        let rates = disks(&before, &now, Duration::from_secs(2));
        let expected = DiskRate { name: "vda".into(), read: 524_288.0, written: 0.0, requests: 10.0, busy: 0.25 };
        assert_eq!(rates, [expected]);
        // A guest that was started again tells nothing, until the next sample.
        assert_eq!(disks(&now, &before, Duration::from_secs(2)), []);
    }

    #[test]
    fn totals_count_nothing_twice() {
        let disk = |name: &str| DiskRate { name: name.into(), read: 1.0, written: 2.0, requests: 0.0, busy: 0.0 };
        let interface = |name: &str| InterfaceRate { name: name.into(), received: 1.0, sent: 2.0 };
        let usage = Usage {
            cpu: None,
            disks: vec![disk("vda"), disk("dm-0"), disk("md0"), disk("loop3"), disk("vdb")],
            interfaces: vec![interface("lo"), interface("eth0")],
        };
        assert_eq!(usage.disks_total(), (2.0, 4.0));
        assert_eq!(usage.interfaces_total(), (1.0, 2.0));
    }
}
