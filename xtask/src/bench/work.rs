//! What is measured, and what is expected of it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::agent::Agent;
use super::place::Place;
use super::program;
use crate::process::Result;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// In what a figure is given, and whether more of it is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Microseconds for one; less is better.
    Micros,
    /// Milliseconds for one; less is better.
    Millis,
    /// Commands in a second; more is better.
    PerSecond,
    /// Megabytes (10^6 bytes) in a second, of the file or of the output; more is better.
    Rate,
}

impl Unit {
    /// Its sign.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Unit::Micros => "us",
            Unit::Millis => "ms",
            Unit::PerSecond => "/s",
            Unit::Rate => "MB/s",
        }
    }

    /// How many times better one figure is than another.
    pub(super) fn times(self, ours: f64, peers: f64) -> f64 {
        match self {
            Unit::Micros | Unit::Millis => peers / ours,
            Unit::PerSecond | Unit::Rate => ours / peers,
        }
    }

    /// The better of two figures.
    pub(super) fn better(self, one: f64, other: f64) -> f64 {
        match self {
            Unit::Micros | Unit::Millis => one.min(other),
            Unit::PerSecond | Unit::Rate => one.max(other),
        }
    }
}

/// One thing that is measured of two agents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    /// How many times better than the C agent is wanted at least.
    pub(super) target: f64,
    pub(super) place: Place,
    /// Rounds in a full and in a quick run; a quick run leaves out what has none.
    pub(super) rounds: (u32, u32),
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The median round trip of a request.
    RoundTrip {
        request: &'static str,
        count: u32,
    },
    /// Requests that are sent without waiting for the replies.
    Pipelined {
        request: &'static str,
        depth: usize,
        count: u32,
    },
    /// Writing, or reading, pieces of this size.
    Write(usize),
    Read(usize),
    /// A program from the request to its result.
    Exec,
    /// Output of a program of this many bytes, to the host.
    Captured(usize),
}

const fn round_trip(name: &'static str, request: &'static str, count: u32, target: f64) -> Work {
    let kind = Kind::RoundTrip { request, count };
    Work { name, unit: Unit::Micros, target, place: Place::Machine, rounds: (10, 3), kind }
}

/// Of a work that takes long once is enough.
const fn slow(
    name: &'static str,
    request: &'static str,
    place: Place,
    (rounds, quick, count): (u32, u32, u32),
    target: f64,
) -> Work {
    let kind = Kind::RoundTrip { request, count };
    Work { name, unit: Unit::Millis, target, place, rounds: (rounds, quick), kind }
}

const fn bulk(name: &'static str, kind: Kind, target: f64) -> Work {
    Work { name, unit: Unit::Rate, target, place: Place::Machine, rounds: (5, 1), kind }
}

const PING: &str = r#"{"execute":"guest-ping"}"#;
pub(super) const INTERFACES: &str = r#"{"execute":"guest-network-get-interfaces"}"#;

/// Everything that is compared, and how many times better than the C agent it is meant to be.
pub(super) const WORKS: &[Work] = &[
    round_trip("guest-ping", PING, 2_000, 1.6),
    round_trip("guest-sync", r#"{"execute":"guest-sync","arguments":{"id":1}}"#, 2_000, 1.6),
    Work {
        name: "guest-ping, 64 pipelined",
        unit: Unit::PerSecond,
        target: 5.0,
        place: Place::Machine,
        rounds: (10, 3),
        kind: Kind::Pipelined { request: PING, depth: 64, count: 100 },
    },
    round_trip("guest-info", r#"{"execute":"guest-info"}"#, 500, 4.0),
    bulk("guest-file-write 64 KiB", Kind::Write(64 * KIB), 20.0),
    bulk("guest-file-write 1 MiB", Kind::Write(MIB), 20.0),
    bulk("guest-file-write 8 MiB", Kind::Write(8 * MIB), 20.0),
    bulk("guest-file-write 40 MiB", Kind::Write(40 * MIB), 20.0),
    bulk("guest-file-read 64 KiB", Kind::Read(64 * KIB), 8.0),
    bulk("guest-file-read 1 MiB", Kind::Read(MIB), 12.0),
    bulk("guest-file-read 8 MiB", Kind::Read(8 * MIB), 12.0),
    bulk("guest-file-read 40 MiB", Kind::Read(40 * MIB), 10.0),
    Work {
        name: "guest-exec to its result",
        unit: Unit::Micros,
        target: 2.0,
        place: Place::Machine,
        rounds: (5, 2),
        kind: Kind::Exec,
    },
    bulk("guest-exec, 10 MiB captured", Kind::Captured(10 * MIB), 6.0),
    slow("100 interfaces", INTERFACES, Place::Interfaces(100), (5, 2, 9), 10.0),
    slow("1,000 interfaces", INTERFACES, Place::Interfaces(1_000), (3, 1, 3), 100.0),
    slow("4,000 interfaces", INTERFACES, Place::Interfaces(4_000), (1, 0, 3), 1_000.0),
    slow("10,000 routes", r#"{"execute":"guest-network-get-route"}"#, Place::Routes(10_000), (5, 1, 5), 10.0),
    slow("guest-get-fsinfo, 1,000 mounts", r#"{"execute":"guest-get-fsinfo"}"#, Place::Mounts(1_000), (5, 1, 21), 1.0),
    round_trip("guest-get-disks", r#"{"execute":"guest-get-disks"}"#, 20, 3.0),
    round_trip("guest-get-memory-blocks", r#"{"execute":"guest-get-memory-blocks"}"#, 10, 3.0),
];

impl Work {
    /// Measures once.
    pub(super) fn measure(&self, agent: &mut Agent) -> Result<f64> {
        match self.kind {
            Kind::RoundTrip { request, count } => {
                let time = median(agent, request, count)?.as_secs_f64();
                Ok(if self.unit == Unit::Millis { time * 1e3 } else { time * 1e6 })
            }
            Kind::Pipelined { request, depth, count } => {
                let requests = format!("{request}\n").repeat(depth);
                let begin = Instant::now();
                for _ in 0..count {
                    agent.ask(requests.as_bytes(), depth)?;
                }
                Ok(f64::from(count) * depth as f64 / begin.elapsed().as_secs_f64())
            }
            Kind::Write(size) => write(agent, size),
            Kind::Read(size) => read(agent, size),
            Kind::Exec => Ok(exec(agent, 200)?.as_secs_f64() * 1e6),
            Kind::Captured(size) => captured(agent, size),
        }
    }
}

fn median(agent: &mut Agent, request: &str, count: u32) -> Result<Duration> {
    let request = format!("{request}\n");
    let mut times = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        agent.ask(request.as_bytes(), 1)?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// How often a piece of this size is sent in one round: enough to be measured, not more than 80 MiB.
fn repetitions(size: usize) -> usize {
    (80 * MIB / size).clamp(2, 200)
}

/// Opens a file of the agent's directory, which is on the file system of temporary files.
fn open(agent: &mut Agent, mode: &str) -> Result<Value> {
    let path = agent.directory().join("file");
    agent.call("guest-file-open", json!({ "path": path, "mode": mode }))
}

/// A request that writes bytes which look like nothing in particular.
pub(super) fn write_request(handle: &Value, size: usize) -> Vec<u8> {
    let mut seed = 1_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    .take(size)
    .collect();
    let text = STANDARD.encode(bytes);
    let arguments = format!("{{\"handle\":{handle},\"buf-b64\":\"{text}\"}}");
    format!("{{\"execute\":\"guest-file-write\",\"arguments\":{arguments}}}\n").into_bytes()
}

fn write(agent: &mut Agent, size: usize) -> Result<f64> {
    let handle = open(agent, "w")?;
    let request = write_request(&handle, size);
    let start = format!(
        "{{\"execute\":\"guest-file-seek\",\"arguments\":{{\"handle\":{handle},\"offset\":0,\"whence\":\"set\"}}}}\n"
    );
    // The first time makes the pages of the file.
    agent.ask(&request, 1)?;
    let mut spent = Duration::ZERO;
    let count = repetitions(size);
    for _ in 0..count {
        agent.ask(start.as_bytes(), 1)?;
        let begin = Instant::now();
        agent.ask(&request, 1)?;
        spent += begin.elapsed();
    }
    agent.call("guest-file-close", json!({ "handle": handle }))?;
    Ok((size * count) as f64 / 1e6 / spent.as_secs_f64())
}

fn read(agent: &mut Agent, size: usize) -> Result<f64> {
    let path = agent.directory().join("file");
    std::fs::write(&path, vec![b'x'; size]).map_err(|error| format!("{}: {error}", path.display()))?;
    let handle = open(agent, "r")?;
    let start = format!(
        "{{\"execute\":\"guest-file-seek\",\"arguments\":{{\"handle\":{handle},\"offset\":0,\"whence\":\"set\"}}}}\n"
    );
    let request =
        format!("{{\"execute\":\"guest-file-read\",\"arguments\":{{\"handle\":{handle},\"count\":{size}}}}}\n");
    let mut spent = Duration::ZERO;
    let count = repetitions(size);
    for _ in 0..count {
        agent.ask(start.as_bytes(), 1)?;
        let begin = Instant::now();
        let bytes = agent.ask(request.as_bytes(), 1)?;
        spent += begin.elapsed();
        if bytes < size / 3 * 4 {
            return Err(format!("guest-file-read: {bytes} bytes for {size}"));
        }
    }
    agent.call("guest-file-close", json!({ "handle": handle }))?;
    Ok((size * count) as f64 / 1e6 / spent.as_secs_f64())
}

/// Between two questions after a program that has ended and of which the agent does not know so yet.
const PAUSE: Duration = Duration::from_micros(20);

/// Runs a program and asks for its result until it is there. Returns the size of that reply.
///
/// It asks once at once, as a host does. Where that comes too early, the kernel says when the program has ended, which
/// costs the agents' processor nothing, and then the next question follows. With questions after a time, the figure
/// would be this time's multiple and not the agent's.
///
/// Nothing is taken apart on the way but the process id: what is measured is the agent, not who asks it.
fn finished(agent: &mut Agent, start: &[u8]) -> Result<usize> {
    let pid = number(agent.tail(start)?.1)?;
    let request = format!("{{\"execute\":\"guest-exec-status\",\"arguments\":{{\"pid\":{pid}}}}}\n").into_bytes();
    let mut has_ended = false;
    loop {
        let (size, text) = agent.tail(&request)?;
        if !contains(text, b"\"exited\": false") {
            return Ok(size);
        }
        if has_ended {
            sleep(PAUSE);
        } else {
            wait_for_end(pid)?;
            has_ended = true;
        }
    }
}

/// Waits until a process has ended, whosever child it is.
fn wait_for_end(pid: u32) -> Result {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| format!("{pid} is no process id"))?;
    // One that is not there any more has ended.
    let Ok(process) = pidfd_open(id, PidfdFlags::empty()) else { return Ok(()) };
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    retry_on_intr(|| poll(&mut fds, None)).map_err(|errno| format!("cannot wait for process {pid}: {errno}"))?;
    Ok(())
}

/// The only number in a short reply.
fn number(reply: &[u8]) -> Result<u32> {
    let digits: String = reply.iter().filter(|byte| byte.is_ascii_digit()).map(|&byte| char::from(byte)).collect();
    digits.parse().map_err(|_| format!("no number in the reply: {}", String::from_utf8_lossy(reply)))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn start_request(arguments: &Value) -> Vec<u8> {
    format!("{}\n", json!({ "execute": "guest-exec", "arguments": arguments })).into_bytes()
}

fn exec(agent: &mut Agent, count: usize) -> Result<Duration> {
    let program = program::nothing(agent.directory())?;
    let start = start_request(&json!({ "path": program, "capture-output": true }));
    let mut times = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        finished(agent, &start)?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times[count / 2])
}

fn captured(agent: &mut Agent, size: usize) -> Result<f64> {
    let start = start_request(&json!({
        "path": "/bin/sh", "arg": ["-c", format!("head -c {size} /dev/zero")], "capture-output": true
    }));
    let text = size.div_ceil(3) * 4;
    let mut times = Vec::new();
    for _ in 0..5 {
        let begin = Instant::now();
        let bytes = finished(agent, &start)?;
        times.push(begin.elapsed());
        if !(text..text + 256).contains(&bytes) {
            return Err(format!("guest-exec-status: a reply of {bytes} bytes for {size} of output"));
        }
    }
    times.sort();
    Ok(size as f64 / 1e6 / times[times.len() / 2].as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_is_found_in_its_reply() {
        assert_eq!(number(b"{\"return\": {\"pid\": 4711}}\n"), Ok(4711));
        assert!(number(b"{\"error\": {}}\n").is_err());
    }
}
