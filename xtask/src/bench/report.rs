//! What was measured, as a table for people and as JSON for programs.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::resources::Resources;
use super::work::Work;
use crate::process::Result;

/// The figures of one work.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) work: &'static Work,
    /// One pair of figures a round: ours and the peer's.
    pub(super) rounds: Vec<(f64, f64)>,
}

impl Row {
    /// The best figure of ours and of the peer.
    pub(super) fn best(&self) -> (f64, f64) {
        let unit = self.work.unit;
        let all = self.rounds.iter().copied();
        all.reduce(|a, b| (unit.better(a.0, b.0), unit.better(a.1, b.1))).unwrap_or((f64::NAN, f64::NAN))
    }

    /// How many times better ours is: of the rounds the median, the least and the most.
    pub(super) fn times(&self) -> (f64, f64, f64) {
        let mut times: Vec<f64> = self.rounds.iter().map(|&(ours, peer)| self.work.unit.times(ours, peer)).collect();
        times.sort_by(f64::total_cmp);
        let nothing = f64::NAN;
        let median = times.get(times.len() / 2).copied().unwrap_or(nothing);
        (median, times.first().copied().unwrap_or(nothing), times.last().copied().unwrap_or(nothing))
    }

    /// Whether what is wanted was seen.
    pub(super) fn is_reached(&self) -> bool {
        self.times().0 >= self.work.target
    }
}

/// A whole run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) ours: String,
    pub(super) peer: String,
    pub(super) rows: Vec<Row>,
    pub(super) resources: [Resources; 2],
    /// From the start to the first answer.
    pub(super) starts: [Duration; 2],
}

/// One line about what an agent takes: the name, both figures, their unit, what is wanted and whether that was reached.
struct Taken {
    name: &'static str,
    figures: [f64; 2],
    unit: &'static str,
    wanted: String,
    is_reached: bool,
}

impl Report {
    /// The tables, in Markdown that is also read well as it is.
    pub(super) fn table(&self) -> String {
        let mut text = format!("ours: {}; peer: {}\n\n", self.ours, self.peer);
        text.push_str("| work | ours | C agent | times better | rounds | wanted | |\n|---|--:|--:|--:|--:|--:|---|\n");
        for row in &self.rows {
            let ((ours, peer), (median, least, most)) = (row.best(), row.times());
            text.push_str(&format!(
                "| {} | {} {sign} | {} {sign} | {} | {} to {} | {} | {} |\n",
                row.work.name,
                figure(ours),
                figure(peer),
                figure(median),
                figure(least),
                figure(most),
                figure(row.work.target),
                word(row.is_reached()),
                sign = row.work.unit.sign(),
            ));
        }
        text.push_str("\n| what it takes | ours | C agent | wanted | |\n|---|--:|--:|--:|---|\n");
        for taken in self.taken() {
            let [ours, peer] = taken.figures.map(figure);
            let Taken { name, unit, wanted, is_reached, .. } = taken;
            text.push_str(&format!("| {name} | {ours} {unit} | {peer} {unit} | {wanted} | {} |\n", word(is_reached)));
        }
        text
    }

    fn taken(&self) -> Vec<Taken> {
        let [ours, peer] = &self.resources;
        let mib = |kib: u64| kib as f64 / 1024.0;
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let of = |name, value: fn(&Resources) -> u64, most: f64| {
            let figures = [mib(value(ours)), mib(value(peer))];
            Taken { name, figures, unit: "MiB", wanted: format!("{} MiB", figure(most)), is_reached: figures[0] < most }
        };
        let start = self.starts.map(|time| time.as_secs_f64() * 1e6);
        let size = [mb(ours.size.0 + ours.size.1), mb(peer.size.0 + peer.size.1)];
        vec![
            of("resident, idle", |r| r.idle, 1.5),
            of("at most, 40 MiB written", |r| r.write.0, 64.0),
            of("half a second later", |r| r.write.1, 3.0),
            of("at most, 40 MiB read", |r| r.read.0, 64.0),
            of("half a second later", |r| r.read.1, 3.0),
            Taken {
                name: "start to first answer",
                figures: start,
                unit: "us",
                wanted: "1.5 times faster".into(),
                is_reached: start[1] >= 1.5 * start[0],
            },
            Taken {
                name: "program with its libraries",
                figures: size,
                unit: "MB",
                wanted: "1.6 MB, no library".into(),
                is_reached: size[0] < 1.6 && ours.size.1 == 0,
            },
            Taken {
                name: "wake-ups when idle",
                figures: [ours.wakeups, peer.wakeups],
                unit: "/min",
                wanted: "0".into(),
                is_reached: ours.wakeups == 0.0,
            },
        ]
    }

    /// Everything, each round too.
    pub(super) fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        let taken: Vec<Value> = self
            .taken()
            .iter()
            .map(|taken| {
                let Taken { name, figures: [ours, peer], unit, wanted, is_reached } = taken;
                json!({ "name": name, "unit": unit, "ours": ours, "peer": peer, "wanted": wanted, "reached": is_reached })
            })
            .collect();
        json!({ "ours": self.ours, "peer": self.peer, "works": rows, "resources": taken })
    }

    /// How many figures were missed in this run.
    pub(super) fn missed(&self) -> usize {
        let rows = self.rows.iter().filter(|row| !row.is_reached()).count();
        rows + self.taken().iter().filter(|taken| !taken.is_reached).count()
    }
}

fn row(row: &Row) -> Value {
    let ((ours, peer), (median, least, most)) = (row.best(), row.times());
    json!({
        "name": row.work.name,
        "unit": row.work.unit.sign(),
        "ours": ours,
        "peer": peer,
        "times": { "median": median, "least": least, "most": most },
        "wanted": row.work.target,
        "reached": row.is_reached(),
        "rounds": row.rounds.iter().map(|&(ours, peer)| json!([ours, peer])).collect::<Vec<_>>(),
    })
}

fn word(is_reached: bool) -> &'static str {
    if is_reached { "reached" } else { "missed" }
}

/// A figure with three digits that mean something.
pub(super) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        size if size < 1e-9 => 0,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// Writes a file of the report.
pub(super) fn save(path: &Path, text: &str) -> Result {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    }
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::work::WORKS;

    #[test]
    fn the_median_of_the_ratios_decides_whether_a_figure_is_reached() {
        let ping = WORKS.iter().find(|work| work.name == "guest-ping").unwrap();
        let row = |rounds: &[(f64, f64)]| Row { work: ping, rounds: rounds.to_vec() };
        let slow = row(&[(10.0, 12.0), (10.0, 13.0), (10.0, 40.0)]);
        assert_eq!(slow.times(), (1.3, 1.2, 4.0));
        assert!(!slow.is_reached());
        assert!(row(&[(10.0, 20.0), (12.0, 24.0), (10.0, 11.0)]).is_reached());
        assert_eq!(slow.best(), (10.0, 12.0));
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([0.0, 1.234, 12.34, 123.4].map(figure), ["0", "1.23", "12.3", "123"]);
    }
}
