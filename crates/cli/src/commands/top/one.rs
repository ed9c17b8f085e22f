//! One guest, in as much detail as there is room for.

use qga_client::printable;
use qga_proto::types::storage::GuestFilesystemInfo;

use super::chart::{Line, Signs, Tone, fit, right, tone};
use crate::monitor::{CpuUse, DiskRate, Sample, Standing, State, Usage};
use crate::units;

/// Columns of the names at the left.
const NAME: usize = 6;

/// Columns of a bar.
const BAR: usize = 30;

/// Most rows of one kind: a guest may have, or claim to have, thousands.
const ROWS: usize = 100;

/// The lines about one guest.
pub(crate) fn lines(name: &str, state: &State, standing: &Standing, width: usize, signs: Signs) -> Vec<Line> {
    let mut lines = vec![title(name, state, standing)];
    if let (Standing::Silent(_), Some(failure)) = (standing, &state.failure) {
        lines.push(Line::new(printable(&failure.to_string()), Tone::Alarm));
        lines.extend(failure.hint().map(|hint| Line::new(hint, Tone::Dim)));
    }
    let Some(sample) = &state.sample else { return lines };
    if sample.is_frozen == Some(true) {
        lines.push(Line::new(
            "The file systems are frozen; the agent tells nothing else until the thaw.",
            Tone::Warning,
        ));
        return lines;
    }
    let usage = state.usage.as_deref();
    if let Some(load) = sample.load {
        let loads = format!("{:.2}  {:.2}  {:.2}", load.load1m, load.load5m, load.load15m);
        lines.push(named("Load").then(loads, Tone::Plain));
    }
    if let Some(cpu) = usage.and_then(|usage| usage.cpu) {
        lines.push(cpu_line(cpu, signs));
        let room = width.saturating_sub(NAME).min(120);
        let history = signs.columns(state.history.iter().copied(), room);
        lines.push(named("").then(history, Tone::Good));
    }
    lines.extend(memory(sample, signs));
    lines.extend(filesystems(sample, width, signs));
    lines.extend(usage.into_iter().flat_map(|usage| disks(usage, signs)));
    lines.extend(usage.into_iter().flat_map(|usage| interfaces(usage, state.peak, signs)));
    for (command, reason) in &sample.failures {
        lines.push(Line::new(format!("{command}: {}", printable(reason)), Tone::Warning));
    }
    lines
}

fn title(name: &str, state: &State, standing: &Standing) -> Line {
    let line = Line::new(printable(name), Tone::Bold);
    let line = match &state.sample {
        Some(sample) => {
            let mut about = format!("  agent {}", printable(&sample.version));
            if let Some((online, all)) = sample.processors {
                about += &match online == all {
                    true => format!("  {all} processors"),
                    false => format!("  {online} of {all} processors"),
                };
            }
            about += &format!("  answers in {:.1} ms", sample.latency.as_secs_f64() * 1000.0);
            line.then(about, Tone::Plain)
        }
        None => line,
    };
    match standing {
        Standing::Fresh => line,
        Standing::Waiting => line.then("  waiting for the first answer", Tone::Dim),
        Standing::Silent(time) => line.then(format!("  no answer for {}", super::time(*time)), Tone::Alarm),
    }
}

fn cpu_line(cpu: CpuUse, signs: Signs) -> Line {
    let CpuUse { busy, user, system, wait, steal } = cpu;
    let [user, system, wait, steal] = [user, system, wait, steal].map(|part| part * 100.0);
    named("CPU")
        .then(signs.bar(busy, BAR), tone(busy))
        .then(format!(" {}", percent(busy)), Tone::Plain)
        .then(format!("  user {user:.1}  system {system:.1}  wait {wait:.1}  steal {steal:.1}"), Tone::Dim)
}

fn memory(sample: &Sample, signs: Signs) -> Vec<Line> {
    let Some(memory) = sample.memory else {
        // The blocks tell how much there is, if not how much is used.
        let total = sample.blocks.and_then(|blocks| Some(units::bytes(blocks.online.checked_mul(blocks.size?)?)));
        let total = total.unwrap_or_else(|| "unknown".to_owned());
        return vec![
            named("Memory")
                .then(format!(" {total}"), Tone::Plain)
                .then("  (what is used was not to be read)", Tone::Dim),
        ];
    };
    let line = |name, used: u64, total: u64| {
        let part = fraction(used, total);
        let sizes = format!("  {} of {}", units::bytes(used), units::bytes(total));
        named(name)
            .then(signs.bar(part, BAR), tone(part))
            .then(format!(" {}", percent(part)), Tone::Plain)
            .then(sizes, Tone::Dim)
    };
    let mut lines = vec![line("Memory", memory.used(), memory.total)];
    if memory.swap_total > 0 {
        lines.push(line("Swap", memory.swap_total - memory.swap_free, memory.swap_total));
    }
    lines
}

fn filesystems(sample: &Sample, width: usize, signs: Signs) -> Vec<Line> {
    let filesystems = with_sizes(sample);
    let mut lines = heading(filesystems.len(), "FILE SYSTEMS");
    let room = width.saturating_sub(BAR + 40).clamp(16, 40);
    for (filesystem, used, total) in filesystems.into_iter().take(ROWS) {
        let part = fraction(used, total);
        let about = format!("  {} of {}  {}", units::bytes(used), units::bytes(total), printable(&filesystem.fs_type));
        lines.push(
            Line::new(fit(&printable(&filesystem.mountpoint), room), Tone::Plain)
                .then(" ", Tone::Plain)
                .then(signs.bar(part, BAR), tone(part))
                .then(format!(" {}", percent(part)), Tone::Plain)
                .then(about, Tone::Dim),
        );
    }
    lines
}

/// The file systems that have a size, each once, with what is used and what there is.
pub(crate) fn with_sizes(sample: &Sample) -> Vec<(&GuestFilesystemInfo, u64, u64)> {
    let all = sample.filesystems.iter().flatten();
    let mut found: Vec<_> = all
        .filter_map(|filesystem| {
            let total = filesystem.total_bytes.filter(|total| *total > 0)?;
            Some((filesystem, filesystem.used_bytes?, total))
        })
        .collect();
    found.sort_by(|(a, ..), (b, ..)| {
        (&a.name, a.mountpoint.len(), &a.mountpoint).cmp(&(&b.name, b.mountpoint.len(), &b.mountpoint))
    });
    // Bind mounts show the same again; what lies on no disk has the name of its kind, and is not the same.
    found.dedup_by(|(b, b_used, b_total), (a, a_used, a_total)| {
        a.name == b.name && a.fs_type == b.fs_type && (a_used, a_total) == (b_used, b_total)
    });
    found.sort_by(|(a, ..), (b, ..)| a.mountpoint.cmp(&b.mountpoint));
    found
}

fn disks(usage: &Usage, signs: Signs) -> Vec<Line> {
    // Loop devices that were used once, for packages of snap for example, stay in the list for ever.
    let is_of_interest = |disk: &&DiskRate| disk.requests > 0.0 || !disk.name.starts_with("loop");
    let disks: Vec<&DiskRate> = usage.disks.iter().filter(is_of_interest).take(ROWS).collect();
    let mut lines = heading(disks.len(), "DISKS");
    for disk in disks {
        let rates =
            format!("  read {}  written {}  {:.0} requests/s", rate(disk.read), rate(disk.written), disk.requests);
        lines.push(
            Line::new(fit(&printable(&disk.name), 16), Tone::Plain)
                .then(" ", Tone::Plain)
                .then(signs.bar(disk.busy, BAR), tone(disk.busy))
                .then(format!(" {}", percent(disk.busy)), Tone::Plain)
                .then(rates, Tone::Dim),
        );
    }
    lines
}

fn interfaces(usage: &Usage, peak: f64, signs: Signs) -> Vec<Line> {
    let mut lines = heading(usage.interfaces.len(), "NETWORK");
    for interface in usage.interfaces.iter().take(ROWS) {
        // Nobody knows how fast an interface could be; the fastest of all so far is the measure.
        let bar = |bytes: f64| signs.bar(if peak > 0.0 { bytes / peak } else { 0.0 }, 12);
        lines.push(
            Line::new(fit(&printable(&interface.name), 16), Tone::Plain)
                .then(" in ", Tone::Plain)
                .then(bar(interface.received), Tone::Good)
                .then(format!(" {}", right(&rate(interface.received), 12)), Tone::Plain)
                .then("   out ", Tone::Plain)
                .then(bar(interface.sent), Tone::Good)
                .then(format!(" {}", right(&rate(interface.sent), 12)), Tone::Plain),
        );
    }
    lines
}

/// An empty line and a heading, if there is something to come.
fn heading(count: usize, text: &str) -> Vec<Line> {
    if count == 0 { Vec::new() } else { vec![Line::default(), Line::new(text, Tone::Bold)] }
}

fn named(name: &str) -> Line {
    Line::new(fit(name, NAME), Tone::Bold).then(" ", Tone::Plain)
}

/// Part of a whole, 0 to 1.
pub(crate) fn fraction(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) }
}

/// Six columns.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:4.0} %", fraction * 100.0)
}

/// Bytes in a second.
pub(crate) fn rate(bytes: f64) -> String {
    format!("{}/s", units::bytes(bytes.round() as u64))
}
