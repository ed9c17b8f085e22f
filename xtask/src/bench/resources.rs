//! What an agent takes: memory, size on disk, wake-ups.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::agent::Agent;
use super::place::Place;
use super::work::write_request;
use crate::process::{Result, output};

/// The large message of the memory figures.
const LARGE: usize = 40 << 20;

/// How long after a large message an agent has to be small again.
const REST: Duration = Duration::from_millis(500);

/// How often each agent is started.
const STARTS: usize = 15;

/// Figures of one agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resources {
    /// Resident memory of an agent that has answered one guest-ping, in KiB.
    pub(super) idle: u64,
    /// The most it ever was while 40 MiB were written in one request, and half a second later.
    pub(super) write: (u64, u64),
    /// The same for 40 MiB read in one reply.
    pub(super) read: (u64, u64),
    /// The program's size in bytes, and of the libraries that it loads.
    pub(super) size: (u64, u64),
    /// How often it wakes up in a minute in which nothing happens.
    pub(super) wakeups: f64,
}

impl Resources {
    /// Measures a program.
    pub(super) fn measure(program: &Path, watch: Duration) -> Result<Resources> {
        let agent = Agent::start(program, Place::Machine)?;
        sleep(REST);
        let idle = agent.status("VmRSS")?;
        let before = agent.sleeps()?;
        sleep(watch);
        let wakeups = (agent.sleeps()? - before) as f64 * 60.0 / watch.as_secs_f64();
        drop(agent);
        Ok(Resources { idle, write: write(program)?, read: read(program)?, size: size(program)?, wakeups })
    }
}

/// From the start to the first answer, the median of starts in turns.
pub(super) fn starts(programs: [&Path; 2]) -> Result<[Duration; 2]> {
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..STARTS {
        for (program, starts) in programs.into_iter().zip(&mut all) {
            starts.push(Agent::start(program, Place::Machine)?.start);
        }
    }
    Ok(all.map(|mut starts| {
        starts.sort();
        starts[starts.len() / 2]
    }))
}

fn write(program: &Path) -> Result<(u64, u64)> {
    let mut agent = Agent::start(program, Place::Machine)?;
    let path = agent.directory().join("file");
    let handle = agent.call("guest-file-open", json!({ "path": path, "mode": "w" }))?;
    agent.ask(&write_request(&handle, LARGE), 1)?;
    rest(&agent)
}

fn read(program: &Path) -> Result<(u64, u64)> {
    let mut agent = Agent::start(program, Place::Machine)?;
    let path = agent.directory().join("file");
    fs::write(&path, vec![b'x'; LARGE]).map_err(|error| format!("{}: {error}", path.display()))?;
    let handle = agent.call("guest-file-open", json!({ "path": path }))?;
    let request = json!({ "execute": "guest-file-read", "arguments": { "handle": handle, "count": LARGE } });
    agent.ask(format!("{request}\n").as_bytes(), 1)?;
    rest(&agent)
}

/// The peak, and what is left a little later.
fn rest(agent: &Agent) -> Result<(u64, u64)> {
    sleep(REST);
    Ok((agent.status("VmHWM")?, agent.status("VmRSS")?))
}

/// The size of a program and of the libraries it loads, each counted once.
fn size(program: &Path) -> Result<(u64, u64)> {
    let bytes = |path: &Path| fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()));
    // Fails for a static program, which has none.
    let list = output(Command::new("ldd").arg(program)).unwrap_or_default();
    let libraries: BTreeSet<&str> = list.split_whitespace().filter(|word| word.starts_with('/')).collect();
    let mut sum = 0;
    for library in libraries {
        sum += bytes(Path::new(library))?.len();
    }
    Ok((bytes(program)?.len(), sum))
}
