//! Counters of the kernel: `/proc/diskstats`, `/proc/stat`, and the load averages.

use std::str;

use qga_proto::error::Result;
use qga_proto::types::stats::{GuestCpuStats, GuestCpuStatsType, GuestDiskStats, GuestDiskStatsInfo, GuestLoadAverage};

use super::errno::Context;
use super::ffi;
use super::root::Root;

/// The counters of all block devices in the kernel's order.
///
/// # Errors
/// `Could not open '/proc/diskstats': <errno>`.
pub fn disks(root: &Root) -> Result<Vec<GuestDiskStatsInfo>> {
    let text = root.read("/proc/diskstats").context(|| "Could not open '/proc/diskstats'".into())?;
    Ok(text.split(|b| *b == b'\n').filter_map(disk).collect())
}

/// `MAJOR MINOR NAME COUNTER...`, of which there are more in newer kernels; `None` for what is no such line.
fn disk(line: &[u8]) -> Option<GuestDiskStatsInfo> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (major, minor) = (number(words.next()?)?, number(words.next()?)?);
    let name = String::from_utf8_lossy(words.next()?).into_owned();
    let counters: Vec<u64> = words.map_while(number).collect();
    let mut stats = GuestDiskStats::default();
    match counters.as_slice() {
        // A partition in kernels before 2.6.25.
        [read_ios, read_sectors, write_ios, write_sectors] => {
            stats.read_ios = Some(*read_ios);
            stats.read_sectors = Some(*read_sectors);
            stats.write_ios = Some(*write_ios);
            stats.write_sectors = Some(*write_sectors);
        }
        all => {
            all.get(3)?;
            let from = |least: usize, at: usize| all.get(least - 1).and(all.get(at)).copied();
            let basic = |at| from(11, at);
            (stats.read_ios, stats.read_merges) = (basic(0), basic(1));
            (stats.read_sectors, stats.read_ticks) = (basic(2), basic(3));
            (stats.write_ios, stats.write_merges) = (basic(4), basic(5));
            (stats.write_sectors, stats.write_ticks) = (basic(6), basic(7));
            (stats.ios_pgr, stats.total_ticks, stats.weight_ticks) = (basic(8), basic(9), basic(10));
            (stats.discard_ios, stats.discard_merges) = (from(15, 11), from(15, 12));
            (stats.discard_sectors, stats.discard_ticks) = (from(15, 13), from(15, 14));
            (stats.flush_ios, stats.flush_ticks) = (from(17, 15), from(17, 16));
        }
    }
    Some(GuestDiskStatsInfo { name, stats, minor, major })
}

/// What the processors that are online have done, in the kernel's order.
///
/// # Errors
/// `Could not open '/proc/stat': <errno>`.
pub fn cpus(root: &Root) -> Result<Vec<GuestCpuStats>> {
    let text = root.read("/proc/stat").context(|| "Could not open '/proc/stat'".into())?;
    let ticks = ffi::ticks_per_second();
    Ok(text.split(|b| *b == b'\n').filter_map(|line| cpu(line, ticks)).collect())
}

/// `cpuN TICKS...`; `None` for what is no such line, or has less than the first four.
fn cpu(line: &[u8], ticks_per_second: u64) -> Option<GuestCpuStats> {
    let mut words = line.strip_prefix(b"cpu")?.split(u8::is_ascii_whitespace);
    let cpu = str::from_utf8(words.next()?).ok().filter(|id| id.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let mut times = words.filter(|word| !word.is_empty()).map_while(number).map(|ticks| {
        let milliseconds = u128::from(ticks) * 1000 / u128::from(ticks_per_second.max(1));
        u64::try_from(milliseconds).unwrap_or(u64::MAX)
    });
    let (user, nice, system, idle) = (times.next()?, times.next()?, times.next()?, times.next()?);
    let (iowait, irq, softirq, steal) = (times.next(), times.next(), times.next(), times.next());
    let (guest, guestnice) = (times.next(), times.next());
    let kind = GuestCpuStatsType::Linux;
    Some(GuestCpuStats { cpu, guestnice, idle, steal, iowait, system, guest, nice, irq, kind, user, softirq })
}

/// The load averages, as fine as the kernel keeps them.
pub fn load() -> GuestLoadAverage {
    // As a fixed point number with 16 bits behind the point.
    let [load1m, load5m, load15m] = rustix::system::sysinfo().loads.map(|load| load as f64 / 65536.0);
    GuestLoadAverage { load1m, load5m, load15m }
}

fn number(word: &[u8]) -> Option<u64> {
    str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "stats/tests.rs"]
mod tests;
