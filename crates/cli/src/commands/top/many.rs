//! Many guests, a line for each.

use std::cmp::Ordering;

use clap::ValueEnum;
use qga_client::printable;

use super::chart::{Line, Signs, Tone, fit, right, tone, width_of};
use super::one::{fraction, percent, rate, with_sizes};
use crate::monitor::{Standing, State};

/// Columns of all but names and bars: percents, load, four rates and the fullest file system.
const WIDE: usize = 87;

/// The same with two rates.
const NARROW: usize = 63;

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

/// What there is room for.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Columns of a name.
    name: usize,
    /// Columns of a bar; 0 for none.
    bar: usize,
    /// Whether the two directions of disks and network are told apart.
    is_wide: bool,
    signs: Signs,
}

impl Layout {
    fn new(rows: &[Row<'_>], width: usize, signs: Signs) -> Self {
        let widest = rows.iter().map(|row| width_of(&printable(row.name))).max().unwrap_or(0);
        let name = widest.clamp(8, 32.min((width / 4).max(8)));
        let is_wide = width >= name + WIDE + 2 * 8;
        let left = width.saturating_sub(name + if is_wide { WIDE } else { NARROW });
        let bar = if left >= 2 * 6 { (left / 2).min(12) } else { 0 };
        Layout { name, bar, is_wide, signs }
    }

    /// A bar and its value, with a blank in front.
    fn gauge(self, fraction: Option<f64>) -> Line {
        match fraction {
            Some(fraction) if self.bar > 0 => Line::new(" ", Tone::Plain)
                .then(self.signs.bar(fraction, self.bar), tone(fraction))
                .then(format!(" {}", percent(fraction)), Tone::Plain),
            Some(fraction) => Line::new(format!("  {}", percent(fraction)), tone(fraction)),
            None => Line::new(fit(" -", self.bar + 8), Tone::Dim),
        }
    }

    fn rates(self, [read, written, received, sent]: [Option<f64>; 4]) -> Vec<Option<f64>> {
        let sum = |one: Option<f64>, other: Option<f64>| one.zip(other).map(|(one, other)| one + other);
        if self.is_wide { vec![read, written, received, sent] } else { vec![sum(read, written), sum(received, sent)] }
    }
}

/// The heading, and then a line for each guest.
pub(crate) fn lines(rows: &[Row<'_>], width: usize, signs: Signs) -> Vec<Line> {
    let layout = Layout::new(rows, width, signs);
    let rates: &[&str] = if layout.is_wide { &["READ", "WRITTEN", "IN", "OUT"] } else { &["DISKS", "NETWORK"] };
    let rates: String = rates.iter().map(|name| right(name, 12)).collect();
    let [cpu, memory] = ["CPU", "MEMORY"].map(|name| fit(name, layout.bar + 7));
    let heading = format!("{} {cpu} {memory}   LOAD{rates}  FULLEST", fit("GUEST", layout.name));
    let row = |row: &Row<'_>| Line::new(fit(&printable(row.name), layout.name), Tone::Bold).join(line(row, layout));
    [Line::new(heading, Tone::Bold)].into_iter().chain(rows.iter().map(row)).collect()
}

fn line(row: &Row<'_>, layout: Layout) -> Line {
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
    let rates = layout.rates(rates).into_iter();
    let rates: String = rates.map(|bytes| right(&bytes.map_or_else(|| "-".to_owned(), rate), 12)).collect();
    let fullest = with_sizes(sample).into_iter().map(|(filesystem, used, total)| (filesystem, fraction(used, total)));
    let fullest = fullest.max_by(|(_, a), (_, b)| a.total_cmp(b));
    layout
        .gauge(cpu.map(|cpu| cpu.busy))
        .join(layout.gauge(memory))
        .then(right(&load, 7), Tone::Plain)
        .then(rates, Tone::Plain)
        .join(fullest.map_or_else(Line::default, |(filesystem, part)| {
            let text = format!("{}  {}", percent(part), printable(&filesystem.mountpoint));
            Line::new(text, if part < 0.8 { Tone::Plain } else { tone(part) })
        }))
}
