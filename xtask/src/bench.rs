//! `cargo xtask bench`: our agent beside the C agent, in one run on one machine. A report and never a test: times
//! depend on what else the machine does, ratios of interleaved rounds much less.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;

use crate::dist;
use crate::process::Result;

/// Rounds; the agents take turns.
const ROUNDS: usize = 10;

/// Requests in a round.
const REQUESTS: usize = 2_000;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The C agent to compare with
    #[arg(long, value_name = "PATH", default_value = crate::test::C_AGENT)]
    peer: PathBuf,
}

/// An agent that listens, and a connection to it.
struct Agent {
    child: Child,
    stream: UnixStream,
    _dir: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    fn start(program: &Path) -> Result<Agent> {
        let failed = |error: std::io::Error| format!("{}: {error}", program.display());
        let dir = tempfile::tempdir().map_err(failed)?;
        let socket = dir.path().join("socket");
        let child = Command::new(program)
            .args(["--method", "unix-listen", "--path"])
            .arg(&socket)
            .arg("--statedir")
            .arg(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => return Ok(Agent { child, stream, _dir: dir }),
                Err(error) if Instant::now() >= until => return Err(failed(error)),
                Err(_) => sleep(Duration::from_millis(10)),
            }
        }
    }

    /// The median time from request to reply.
    fn median(&mut self, request: &[u8]) -> Result<Duration> {
        let mut times = Vec::with_capacity(REQUESTS);
        let mut reply = [0; 64 << 10];
        for _ in 0..REQUESTS {
            let start = Instant::now();
            self.stream.write_all(request).map_err(|error| error.to_string())?;
            loop {
                let count = self.stream.read(&mut reply).map_err(|error| error.to_string())?;
                match reply[..count].last() {
                    Some(b'\n') => break,
                    Some(_) => {}
                    None => return Err("the agent has closed the connection".into()),
                }
            }
            times.push(start.elapsed());
        }
        times.sort();
        Ok(times[REQUESTS / 2])
    }
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result {
    let ours = dist::static_build(&["qemu-ga"])?.join("qemu-ga");
    let mut ours = Agent::start(&ours)?;
    let mut peer = Agent::start(&options.peer)?;
    println!("\nmedian of {REQUESTS} round trips over a unix socket, best of {ROUNDS} interleaved rounds\n");
    println!("{:14} {:>10} {:>10} {:>8}", "", "ours", "C agent", "faster");
    for (name, arguments) in [("guest-ping", ""), ("guest-sync", r#","arguments":{"id":1}"#), ("guest-info", "")] {
        let request = format!("{{\"execute\":\"{name}\"{arguments}}}\n");
        let mut best = [Duration::MAX; 2];
        for _ in 0..ROUNDS {
            best[0] = best[0].min(ours.median(request.as_bytes())?);
            best[1] = best[1].min(peer.median(request.as_bytes())?);
        }
        let [a, b] = best.map(|time| time.as_secs_f64() * 1e6);
        println!("{name:14} {a:>7.1} us {b:>7.1} us {:>6.2} x", b / a);
    }
    Ok(())
}
