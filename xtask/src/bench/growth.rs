//! How the time of our agent grows with the size of what it is asked about, up to ten times the sizes of the comparison.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::agent::Agent;
use super::loops::Loops;
use super::place::Place;
use super::work::{INTERFACES, write_request};
use crate::process::Result;

/// An exponent above this is worse than linear; the rest is what a measurement may be off by.
const LINEAR: f64 = 1.2;

/// Requests are repeated until the agent has spent this on them, so that its clock of hundredths is exact enough, or until
/// this has passed.
const ENOUGH: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(6);

/// Below this a time is mostly that of a round trip, and says nothing about growth.
const SHORT: Duration = Duration::from_micros(300);

/// One kind of thing that there may be many of.
struct Series {
    name: &'static str,
    /// How many, or how much; ascending, the last one ten times the largest of the comparison where that is possible.
    sizes: &'static [usize],
    kind: Kind,
}

enum Kind {
    /// A request in a place that is made for each size.
    Place(fn(usize) -> Place, &'static str),
    /// `guest-get-disks` with so many loop devices.
    Disks,
    /// A request of that size to an agent on the machine as it is.
    Request(fn(&mut Agent, usize) -> Result<Vec<u8>>),
}

const SERIES: &[Series] = &[
    Series {
        name: "interfaces",
        sizes: &[400, 1_000, 4_000, 10_000, 40_000],
        kind: Kind::Place(Place::Interfaces, INTERFACES),
    },
    Series {
        name: "mounts",
        sizes: &[100, 1_000, 10_000],
        kind: Kind::Place(Place::Mounts, r#"{"execute":"guest-get-fsinfo"}"#),
    },
    Series {
        name: "routes",
        sizes: &[1_000, 10_000, 100_000],
        kind: Kind::Place(Place::Routes, r#"{"execute":"guest-network-get-route"}"#),
    },
    Series { name: "disks (attached loop devices)", sizes: &[10, 100, 1_000], kind: Kind::Disks },
    Series {
        name: "length of a write, bytes of the file",
        // The limit of a message is 64 MiB.
        sizes: &[1 << 20, 4 << 20, 16 << 20, 47 << 20],
        kind: Kind::Request(|agent, size| {
            let handle = agent.call("guest-file-open", json!({ "path": "/dev/null", "mode": "w" }))?;
            Ok(write_request(&handle, size))
        }),
    },
    Series {
        name: "length of a text of escapes",
        sizes: &[10_000, 100_000, 1_000_000, 10_000_000],
        kind: Kind::Request(|_, size| Ok(argument(&format!("\"{}\"", r"\u00e9".repeat(size))))),
    },
    Series {
        name: "keys of one object",
        // Four tokens each, of 2,097,152 that a message may have.
        sizes: &[1_000, 10_000, 100_000, 500_000],
        kind: Kind::Request(|_, size| {
            let members: Vec<String> = (0..size).map(|n| format!("\"key{n}\":{n}")).collect();
            Ok(argument(&format!("{{{}}}", members.join(","))))
        }),
    },
    Series {
        name: "nesting, 1,000 values of this depth",
        // The deepest that is taken is 1,024.
        sizes: &[10, 100, 1_000],
        kind: Kind::Request(|_, size| {
            let value = format!("{}{}", "[".repeat(size), "]".repeat(size));
            Ok(argument(&format!("[{}]", vec![value; 1_000].join(","))))
        }),
    },
];

/// A request with an argument that no command has: it is read whole and then refused.
fn argument(value: &str) -> Vec<u8> {
    format!("{{\"execute\":\"guest-ping\",\"arguments\":{{\"x\":{value}}}}}\n").into_bytes()
}

/// What was seen of one series.
struct Growth {
    name: &'static str,
    points: Vec<(usize, Duration)>,
}

impl Growth {
    /// With which power of the size the time grows, over its last step.
    fn exponent(&self) -> Option<f64> {
        let [.., (small, before), (large, after)] = self.points.as_slice() else { return None };
        (*after > SHORT)
            .then(|| (after.as_secs_f64() / before.as_secs_f64()).ln() / (*large as f64 / *small as f64).ln())
    }

    fn is_linear(&self) -> bool {
        self.exponent().is_none_or(|exponent| exponent <= LINEAR)
    }
}

/// Measures all series whose name contains `only` and returns the table, in Markdown.
pub(super) fn table(program: &Path, only: &str) -> Result<String> {
    let mut text =
        String::from("| what there is more of | processor time for each size | exponent | |\n|---|---|--:|---|\n");
    for series in SERIES.iter().filter(|series| series.name.contains(only)) {
        let mut growth = Growth { name: series.name, points: Vec::new() };
        for &size in series.sizes {
            eprintln!("{}: {size} ...", series.name);
            growth.points.push((size, series.measure(program, size)?));
        }
        text.push_str(&row(&growth));
    }
    Ok(text)
}

fn row(growth: &Growth) -> String {
    let times: Vec<String> =
        growth.points.iter().map(|(size, time)| format!("{size}: {:.2} ms", time.as_secs_f64() * 1e3)).collect();
    let exponent = growth.exponent().map_or("too short to tell".to_owned(), |exponent| format!("{exponent:.2}"));
    let word = if growth.is_linear() { "linear or better" } else { "worse than linear" };
    format!("| {} | {} | {exponent} | {word} |\n", growth.name, times.join(", "))
}

impl Series {
    fn measure(&self, program: &Path, size: usize) -> Result<Duration> {
        match &self.kind {
            Kind::Place(place, request) => {
                cost(&mut Agent::start(program, place(size))?, format!("{request}\n").as_bytes())
            }
            Kind::Disks => {
                let _loops = Loops::attach(size)?;
                cost(&mut Agent::start(program, Place::Machine)?, b"{\"execute\":\"guest-get-disks\"}\n")
            }
            Kind::Request(request) => {
                let mut agent = Agent::start(program, Place::Machine)?;
                let request = request(&mut agent, size)?;
                cost(&mut agent, &request)
            }
        }
    }
}

/// Processor time of the agent for one request: what else the machine does is not in it.
fn cost(agent: &mut Agent, request: &[u8]) -> Result<Duration> {
    // What is made once, and the memory that the first one needs.
    agent.tail(request)?;
    let (before, begin) = (agent.processor_time()?, Instant::now());
    let mut rounds = 0;
    loop {
        agent.tail(request)?;
        rounds += 1;
        let spent = agent.processor_time()? - before;
        if spent >= ENOUGH || begin.elapsed() >= LONGEST {
            return Ok(spent / rounds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_is_that_of_the_last_step() {
        let ms = Duration::from_millis;
        let growth = |points: &[(usize, u64)]| Growth {
            name: "x",
            points: points.iter().map(|&(size, time)| (size, ms(time))).collect(),
        };
        let linear = growth(&[(1, 50), (10, 10), (100, 100)]);
        assert!((linear.exponent().unwrap() - 1.0).abs() < 1e-9 && linear.is_linear());
        let square = growth(&[(10, 10), (100, 1000)]);
        assert!((square.exponent().unwrap() - 2.0).abs() < 1e-9 && !square.is_linear());
        assert!(growth(&[(10, 0), (100, 0)]).exponent().is_none());
        assert!(growth(&[(10, 7)]).exponent().is_none());
        assert!(row(&square).contains("10: 10.00 ms, 100: 1000.00 ms | 2.00 | worse"));
    }
}
