//! Many guests, a line for each.

use std::cmp::Ordering;

use clap::ValueEnum;
use qga_client::printable;

use super::chart::{Line, Signs, Tone, fit, right, tone, width_of};
use super::one::{fraction, percent, rate, with_sizes};
use crate::monitor::{Standing, State};

/// Columns of a bar.
const BAR: usize = 12;

/// What the lines are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// The name of the guest
    #[default]
    Name,
    /// The busiest processors first
    Cpu,
    /// The fullest memory first
    Memory,
    /// The highest load first
    Load,
    /// The busiest disks first
    Disk,
    /// The busiest network first
    Network,
}

/// One guest.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// What is known of it.
    pub(crate) state: &'a State,
    /// Whether that is fresh.
    pub(crate) standing: Standing,
}

impl Row<'_> {
    /// What it is sorted by, if it is known.
    fn key(&self, order: Order) -> Option<f64> {
        if matches!(self.standing, Standing::Silent(_)) {
            return None;
        }
        let (sample, usage) = (self.state.sample.as_ref(), self.state.usage.as_ref());
        match order {
            Order::Name => Some(0.0),
            Order::Cpu => usage?.cpu.map(|cpu| cpu.busy),
            Order::Memory => sample?.memory.map(|memory| fraction(memory.used(), memory.total)),
            Order::Load => sample?.load.map(|load| load.load1m),
            Order::Disk => usage.map(|usage| usage.disks_total()).map(|(read, written)| read + written),
            Order::Network => usage.map(|usage| usage.interfaces_total()).map(|(received, sent)| received + sent),
        }
    }
}

/// Sorts; those of which nothing is known come last, and equals by name.
pub(crate) fn sort(rows: &mut [Row<'_>], order: Order) {
    rows.sort_by(|a, b| {
        let by_key = match (a.key(order), b.key(order)) {
            (Some(a), Some(b)) => b.total_cmp(&a),
            (Some(_), None) if order != Order::Name => Ordering::Less,
            (None, Some(_)) if order != Order::Name => Ordering::Greater,
            _ => Ordering::Equal,
        };
        by_key.then_with(|| a.name.cmp(b.name))
    });
}

/// The heading, and then a line for each guest.
pub(crate) fn lines(rows: &[Row<'_>], signs: Signs) -> Vec<Line> {
    let widest = rows.iter().map(|row| width_of(&printable(row.name))).max().unwrap_or(0);
    let name = widest.clamp(8, 32);
    let heading = format!(
        "{} {} {} {:>6} {:>11} {:>11} {:>11} {:>11}  FULLEST",
        fit("GUEST", name),
        fit("CPU", BAR + 7),
        fit("MEMORY", BAR + 7),
        "LOAD",
        "READ",
        "WRITTEN",
        "IN",
        "OUT",
    );
    let rows = rows.iter().map(|row| Line::new(fit(&printable(row.name), name), Tone::Bold).join(line(row, signs)));
    [Line::new(heading, Tone::Bold)].into_iter().chain(rows).collect()
}

fn line(row: &Row<'_>, signs: Signs) -> Line {
    let state = row.state;
    let sample = match (&row.standing, &state.sample) {
        (Standing::Silent(time), _) => {
            let reason = state.failure.as_ref().map(|failure| format!(": {}", printable(&failure.to_string())));
            let text = format!(" no answer for {}{}", super::time(*time), reason.unwrap_or_default());
            return Line::new(text, Tone::Alarm);
        }
        (_, Some(sample)) => sample,
        (_, None) => return Line::new(" waiting for the first answer", Tone::Dim),
    };
    if sample.is_frozen == Some(true) {
        return Line::new(" the file systems are frozen", Tone::Warning);
    }
    let usage = state.usage.as_deref();
    let memory = sample.memory.map(|memory| fraction(memory.used(), memory.total));
    let load = sample.load.map_or_else(|| "-".to_owned(), |load| format!("{:.2}", load.load1m));
    let cpu = usage.and_then(|usage| usage.cpu);
    let totals = usage.filter(|_| state.polls > 1);
    let disks = totals.map(|usage| usage.disks_total());
    let network = totals.map(|usage| usage.interfaces_total());
    let rates = [disks.map(|of| of.0), disks.map(|of| of.1), network.map(|of| of.0), network.map(|of| of.1)];
    let rates: String =
        rates.iter().map(|bytes| right(&bytes.map_or_else(|| "-".to_owned(), rate), 12)).collect();
    let fullest = with_sizes(sample).into_iter().map(|(filesystem, used, total)| (filesystem, fraction(used, total)));
    let fullest = fullest.max_by(|(_, a), (_, b)| a.total_cmp(b));
    gauge(cpu.map(|cpu| cpu.busy), signs)
        .join(gauge(memory, signs))
        .then(right(&load, 7), Tone::Plain)
        .then(rates, Tone::Plain)
        .join(fullest.map_or_else(Line::default, |(filesystem, part)| {
            let text = format!("{}  {}", percent(part), printable(&filesystem.mountpoint));
            Line::new(text, if part < 0.8 { Tone::Plain } else { tone(part) })
        }))
}

/// A bar and its value, with a blank in front.
fn gauge(fraction: Option<f64>, signs: Signs) -> Line {
    match fraction {
        Some(fraction) => Line::new(" ", Tone::Plain)
            .then(signs.bar(fraction, BAR), tone(fraction))
            .then(format!(" {}", percent(fraction)), Tone::Plain),
        None => Line::new(fit(" -", BAR + 8), Tone::Dim),
    }
}
