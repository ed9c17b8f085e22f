//! `cargo xtask bench`: our agent beside the C agent, in one run on one machine. A report and never a test: times
//! depend on what else the machine does, ratios of interleaved rounds much less.

mod agent;
mod chart;
mod growth;
mod loops;
mod place;
mod port;
mod proc;
mod processor;
mod program;
mod record;
mod report;
mod resources;
mod work;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::dist::static_build;
use crate::process::{Result, output};
use crate::{packages, shipped, target};
use agent::Agent;
use report::{Report, Row};
use resources::Resources;
use work::{WORKS, Work};

/// What it needs besides the agents.
const PACKAGES: &[&str] = &["iproute2", "mount", "python3", "util-linux"];

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The C agent to compare with; for --port in the tree of another system, too, as TREE/usr/sbin/qemu-ga
    #[arg(long, value_name = "PATH", default_value = crate::test::C_AGENT)]
    peer: PathBuf,

    /// The agent to measure instead of one that is built
    #[arg(long, value_name = "PATH")]
    ours: Option<PathBuf>,

    /// The qga to copy with through a port, instead of one that is built
    #[arg(long, value_name = "PATH")]
    qga: Option<PathBuf>,

    /// Fewer rounds, nothing that takes long: under a minute
    #[arg(long)]
    quick: bool,

    /// How the time of our agent grows with the size of what it is asked about, instead of the comparison: growth.md
    #[arg(long)]
    growth: bool,

    /// Files through the port of a virtual machine and the agents' share of the time, instead of the comparison: port.md
    #[arg(long)]
    port: bool,

    /// Put the table into docs/performance.md too, and the chart into docs/performance.svg
    #[arg(long)]
    record: bool,

    /// Only works whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,

    /// Directory for bench.json, bench.md and bench.svg [default: target/bench]
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result {
    packages::install(PACKAGES)?;
    let ours = match &options.ours {
        Some(path) => path.clone(),
        None => shipped::agent()?,
    };
    processor::bind_observer();
    let out = options.out.clone().unwrap_or_else(|| target().join("bench"));
    if options.port {
        let qga = match &options.qga {
            Some(path) => path.clone(),
            None => static_build(&["qga"])?.join("qga"),
        };
        let table = port::table(&[&ours, &options.peer], &qga)?;
        println!("\n{table}");
        report::save(&out.join("port.md"), &table)?;
        return if options.record { record::table("port", &table) } else { Ok(()) };
    }
    if options.growth {
        let table = growth::table(&ours, &options.only)?;
        println!("\n{table}");
        report::save(&out.join("growth.md"), &table)?;
        return if options.record { record::table("growth", &table) } else { Ok(()) };
    }
    let programs = [ours.as_path(), options.peer.as_path()];
    let mut rows = Vec::new();
    for work in WORKS.iter().filter(|work| work.name.contains(&options.only)) {
        let rounds = if options.quick { work.rounds.1 } else { work.rounds.0 };
        if rounds > 0 {
            eprintln!("{} ...", work.name);
            rows.extend(compare(work, rounds, programs)?);
        }
    }
    eprintln!("what they take ...");
    let watch = Duration::from_secs(if options.quick { 3 } else { 60 });
    let [ours_takes, peer_takes] = programs.map(|program| Resources::measure(program, watch));
    let report = Report {
        ours: version(&ours)?,
        peer: version(&options.peer)?,
        rows,
        resources: [ours_takes?, peer_takes?],
        starts: resources::starts(programs)?,
    };
    println!("\n{}", report.table());
    report::save(&out.join("bench.md"), &report.table())?;
    report::save(&out.join("bench.json"), &format!("{:#}\n", report.json()))?;
    report::save(&out.join("bench.svg"), &chart::svg(&report))?;
    if options.record {
        record::table("comparison", &format!("{}\n\n{}", record::machine(), report.table()))?;
        report::save(&record::document("performance.svg"), &chart::svg(&report))?;
    }
    match report.missed() {
        0 => println!("everything that is wanted was reached in this run"),
        count => println!("{count} figures that are wanted were missed in this run"),
    }
    Ok(())
}

/// Measures one work of both agents, in turns, so that what else the machine does hits both. Nothing where the C agent
/// cannot do it: older ones lack commands.
fn compare(work: &'static Work, rounds: u32, programs: [&Path; 2]) -> Result<Option<Row>> {
    let [ours, peer] = programs.map(|program| Agent::start(program, work.place));
    let (mut ours, mut peer) = (ours?, peer?);
    let mut row = Row { work, rounds: Vec::new() };
    for _ in 0..rounds {
        peer.rest()?;
        let figure = work.measure(&mut ours).map_err(|error| format!("{}: {error}", work.name))?;
        ours.rest()?;
        match work.measure(&mut peer) {
            Ok(peers) => row.rounds.push((figure, peers)),
            Err(error) => {
                eprintln!("{}: left out, the C agent cannot do it: {error}", work.name);
                return Ok(None);
            }
        }
    }
    Ok(Some(row))
}

/// What a program says of itself.
fn version(program: &Path) -> Result<String> {
    Ok(output(Command::new(program).arg("--version"))?.lines().next().unwrap_or_default().to_owned())
}
