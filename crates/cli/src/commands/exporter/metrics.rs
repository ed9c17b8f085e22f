//! Which metrics there are, and how they come from samples.

use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use qga_proto::types::network::GuestNetworkInterfaceStat;
use qga_proto::types::stats::{GuestCpuStats, GuestDiskStats};

use super::page::{Metric, Page};
use super::watch::Watch;
use crate::exit::Failure;
use crate::monitor::{Guest, SECTOR, Sample, Standing, State, is_used};

/// Most file systems, disks and interfaces of one guest, each: a guest could claim to have any number.
const ENTRIES_MAX: usize = 100;

const fn gauge(name: &'static str, unit: Option<&'static str>, help: &'static str) -> Metric {
    Metric { name, unit, is_counter: false, help }
}

const fn counter(name: &'static str, unit: Option<&'static str>, help: &'static str) -> Metric {
    Metric { name, unit, is_counter: true, help }
}

const SECONDS: Option<&str> = Some("seconds");
const BYTES: Option<&str> = Some("bytes");

const EXPORTER_INFO: Metric = gauge("exporter_info", None, "The version of this exporter");
const TARGETS: Metric = gauge("targets", None, "How many guests are watched");
const LIST_FAILURES: Metric =
    counter("list_failures", None, "How often the list of running machines was not to be had");

const UP: Metric = gauge("up", None, "Whether the agent answers");
const DOWN: Metric = gauge("down", None, "At which part of the way to an agent that does not answer it failed");
const POLLS: Metric = counter("polls", None, "How often the guest was asked");
const POLL_FAILURES: Metric = counter("poll_failures", None, "How often the guest did not answer");
const COMMAND_FAILURES: Metric =
    counter("command_failures", None, "How often a command failed of an agent that has it");

const LATENCY: Metric = gauge("agent_latency", SECONDS, "Time the agent took to answer a ping");
const POLL_DURATION: Metric = gauge("poll_duration", SECONDS, "Time the agent took to answer everything");
const LAST_POLL: Metric = gauge("last_poll_timestamp", SECONDS, "When the agent had answered everything");
const AGENT_INFO: Metric = gauge("agent_info", None, "The version of the agent");
const FROZEN: Metric = gauge("frozen", None, "Whether the agent has frozen file systems");
const DROPPED: Metric = gauge("dropped_entries", None, "How much is not shown because the guest has too much of it");

const LOAD1: Metric = gauge("load1", None, "Load average over one minute");
const LOAD5: Metric = gauge("load5", None, "Load average over five minutes");
const LOAD15: Metric = gauge("load15", None, "Load average over fifteen minutes");
const CPUS: Metric = gauge("cpus", None, "How many processors are online and offline");
const CPU: Metric = counter("cpu", SECONDS, "Time all processors together spent in each mode");

const MEMORY_BLOCKS: Metric = gauge("memory_blocks", None, "How many blocks of memory are online and offline");
const MEMORY_BLOCK: Metric = gauge("memory_block_size", BYTES, "Size of a block of memory");
const MEMORY: Metric = gauge("memory_total", BYTES, "Memory the kernel has to give");
const MEMORY_AVAILABLE: Metric = gauge("memory_available", BYTES, "Memory programs can get without swapping");
const SWAP: Metric = gauge("memory_swap_total", BYTES, "Swap space");
const SWAP_FREE: Metric = gauge("memory_swap_free", BYTES, "Free swap space");

const FS_SIZE: Metric = gauge("filesystem_size", BYTES, "What an ordinary user can fill");
const FS_USED: Metric = gauge("filesystem_used", BYTES, "What is in use");

const DISK_READ: Metric = counter("disk_read", BYTES, "Bytes read");
const DISK_WRITTEN: Metric = counter("disk_written", BYTES, "Bytes written");
const DISK_READS: Metric = counter("disk_reads_completed", None, "Reads that were completed");
const DISK_WRITES: Metric = counter("disk_writes_completed", None, "Writes that were completed");
const DISK_READ_TIME: Metric = counter("disk_read_time", SECONDS, "Time that reads took");
const DISK_WRITE_TIME: Metric = counter("disk_write_time", SECONDS, "Time that writes took");
const DISK_IO_TIME: Metric = counter("disk_io_time", SECONDS, "Time in which there was something to do");
const DISK_IO_NOW: Metric = gauge("disk_io_now", None, "Requests in progress");

const NET_RX_BYTES: Metric = counter("network_receive", BYTES, "Bytes received");
const NET_TX_BYTES: Metric = counter("network_transmit", BYTES, "Bytes sent");
const NET_RX_PACKETS: Metric = counter("network_receive_packets", None, "Packets received");
const NET_TX_PACKETS: Metric = counter("network_transmit_packets", None, "Packets sent");
const NET_RX_ERRORS: Metric = counter("network_receive_errors", None, "Packets received with an error");
const NET_TX_ERRORS: Metric = counter("network_transmit_errors", None, "Packets not sent because of an error");
const NET_RX_DROPS: Metric = counter("network_receive_drops", None, "Packets received and dropped");
const NET_TX_DROPS: Metric = counter("network_transmit_drops", None, "Packets dropped instead of sent");

/// All there is to say now. Nothing is asked and nothing is waited for.
pub(crate) fn page(watch: &Watch) -> Page {
    let mut page = Page::default();
    let guests = watch.guests();
    page.set(EXPORTER_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.set(TARGETS, &[], guests.len() as f64);
    page.set(LIST_FAILURES, &[], watch.list_failures.load(Ordering::Relaxed) as f64);
    for guest in &guests {
        add_guest(&mut page, guest);
    }
    page
}

fn add_guest(page: &mut Page, guest: &Guest) {
    let state = guest.state();
    add_state(page, guest.name(), &state, &guest.standing(&state));
}

/// What is known of a guest; of one that does not answer nothing that could be taken for fresh.
pub(crate) fn add_state(page: &mut Page, target: &str, state: &State, standing: &Standing) {
    let target = [("target", target)];
    match (standing, &state.sample) {
        // It was asked just now, and may be up or down.
        (Standing::Waiting, _) | (Standing::Fresh, None) => {}
        (Standing::Silent(_), _) => {
            page.set(UP, &target, 0.0);
            let layer = match state.failure.as_deref() {
                Some(Failure::Agent(error)) => error.layer().name(),
                _ => "agent",
            };
            page.set(DOWN, &with(&target, &[("layer", layer)]), 1.0);
        }
        (Standing::Fresh, Some(sample)) => {
            page.set(UP, &target, 1.0);
            add_sample(page, &target, sample);
        }
    }
    page.set(POLLS, &target, state.polls as f64);
    page.set(POLL_FAILURES, &target, state.failed as f64);
    for (command, count) in &state.command_failures {
        page.set(COMMAND_FAILURES, &with(&target, &[("command", command)]), *count as f64);
    }
}

type Pairs<'a> = Vec<(&'static str, &'a str)>;

fn with<'a>(target: &[(&'static str, &'a str)], more: &[(&'static str, &'a str)]) -> Pairs<'a> {
    [target, more].concat()
}

fn add_sample(page: &mut Page, target: &[(&'static str, &str)], sample: &Sample) {
    page.set(LATENCY, target, sample.latency.as_secs_f64());
    page.set(POLL_DURATION, target, sample.took.as_secs_f64());
    page.set(LAST_POLL, target, sample.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    page.set(AGENT_INFO, &with(target, &[("version", &sample.version)]), 1.0);
    let mut set = |metric, value: Option<f64>| {
        if let Some(value) = value {
            page.set(metric, target, value);
        }
    };
    set(FROZEN, sample.is_frozen.map(|is_frozen| f64::from(u8::from(is_frozen))));
    set(LOAD1, sample.load.map(|load| load.load1m));
    set(LOAD5, sample.load.map(|load| load.load5m));
    set(LOAD15, sample.load.map(|load| load.load15m));
    set(MEMORY, sample.memory.map(|memory| memory.total as f64));
    set(MEMORY_AVAILABLE, sample.memory.map(|memory| memory.available as f64));
    set(SWAP, sample.memory.map(|memory| memory.swap_total as f64));
    set(SWAP_FREE, sample.memory.map(|memory| memory.swap_free as f64));
    set(MEMORY_BLOCK, sample.blocks.and_then(|blocks| blocks.size).map(|size| size as f64));
    let mut states = |metric, online: f64, offline: f64| {
        page.set(metric, &with(target, &[("state", "online")]), online);
        page.set(metric, &with(target, &[("state", "offline")]), offline);
    };
    if let Some((online, all)) = sample.processors {
        states(CPUS, online as f64, (all - online) as f64);
    }
    if let Some(blocks) = sample.blocks {
        states(MEMORY_BLOCKS, blocks.online as f64, blocks.offline as f64);
    }
    if let Some(cpus) = &sample.cpus {
        add_cpus(page, target, cpus);
    }
    let mut dropped = 0;
    let filesystems = sample.filesystems.iter().flatten().filter(|one| one.total_bytes.is_some());
    dropped += each(filesystems, |one| {
        let labels = [("device", &*one.name), ("fstype", &*one.fs_type), ("mountpoint", &*one.mountpoint)];
        let labels = with(target, &labels);
        for (metric, bytes) in [(FS_SIZE, one.total_bytes), (FS_USED, one.used_bytes)] {
            if let Some(bytes) = bytes {
                page.set(metric, &labels, bytes as f64);
            }
        }
    });
    // Loop devices and the like are there in numbers, and never used.
    dropped += each(sample.disks.iter().flatten().filter(|disk| is_used(&disk.stats)), |disk| {
        add_disk(page, &with(target, &[("device", &disk.name)]), &disk.stats);
    });
    dropped += each(sample.interfaces.iter().flatten(), |interface| {
        if let Some(statistics) = &interface.statistics {
            add_interface(page, &with(target, &[("interface", &interface.name)]), statistics);
        }
    });
    page.set(DROPPED, target, dropped as f64);
}

/// Does something with the first of them, and returns how many are left out.
fn each<T>(mut entries: impl Iterator<Item = T>, mut action: impl FnMut(T)) -> usize {
    entries.by_ref().take(ENTRIES_MAX).for_each(&mut action);
    entries.count()
}

fn add_cpus(page: &mut Page, target: &[(&'static str, &str)], cpus: &[GuestCpuStats]) {
    // What runs in guests of the guest is counted as user and nice already.
    type Part = fn(&GuestCpuStats) -> Option<u64>;
    let modes: [(&str, Part); 8] = [
        ("user", |cpu| Some(cpu.user)),
        ("nice", |cpu| Some(cpu.nice)),
        ("system", |cpu| Some(cpu.system)),
        ("idle", |cpu| Some(cpu.idle)),
        ("iowait", |cpu| cpu.iowait),
        ("irq", |cpu| cpu.irq),
        ("softirq", |cpu| cpu.softirq),
        ("steal", |cpu| cpu.steal),
    ];
    for (mode, part) in modes {
        let parts: Vec<u64> = cpus.iter().filter_map(part).collect();
        if !parts.is_empty() {
            let milliseconds: f64 = parts.iter().map(|part| *part as f64).sum();
            page.set(CPU, &with(target, &[("mode", mode)]), milliseconds / 1000.0);
        }
    }
}

fn add_disk(page: &mut Page, labels: &[(&'static str, &str)], disk: &GuestDiskStats) {
    let bytes = |sectors: Option<u64>| sectors.map(|sectors| sectors as f64 * SECTOR as f64);
    let count = |count: Option<u64>| count.map(|count| count as f64);
    let seconds = |ticks: Option<u64>| ticks.map(|ticks| ticks as f64 / 1000.0);
    let values = [
        (DISK_READ, bytes(disk.read_sectors)),
        (DISK_WRITTEN, bytes(disk.write_sectors)),
        (DISK_READS, count(disk.read_ios)),
        (DISK_WRITES, count(disk.write_ios)),
        (DISK_READ_TIME, seconds(disk.read_ticks)),
        (DISK_WRITE_TIME, seconds(disk.write_ticks)),
        (DISK_IO_TIME, seconds(disk.total_ticks)),
        (DISK_IO_NOW, count(disk.ios_pgr)),
    ];
    for (metric, value) in values {
        if let Some(value) = value {
            page.set(metric, labels, value);
        }
    }
}

fn add_interface(page: &mut Page, labels: &[(&'static str, &str)], interface: &GuestNetworkInterfaceStat) {
    let values = [
        (NET_RX_BYTES, interface.rx_bytes),
        (NET_TX_BYTES, interface.tx_bytes),
        (NET_RX_PACKETS, interface.rx_packets),
        (NET_TX_PACKETS, interface.tx_packets),
        (NET_RX_ERRORS, interface.rx_errs),
        (NET_TX_ERRORS, interface.tx_errs),
        (NET_RX_DROPS, interface.rx_dropped),
        (NET_TX_DROPS, interface.tx_dropped),
    ];
    for (metric, value) in values {
        page.set(metric, labels, value as f64);
    }
}
