//! An agent that is measured: started in a place, bound to one processor, asked over its unix socket.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::place::Place;
use super::proc::{all_sleep, field};
use super::processor;
use crate::process::Result;

/// The longest that a reply may take: the C agent needs a minute for some.
const PATIENCE: Duration = Duration::from_secs(300);

/// An agent that listens, and a connection to it.
#[derive(Debug)]
pub(super) struct Agent {
    child: Child,
    stream: UnixStream,
    buffer: Vec<u8>,
    directory: tempfile::TempDir,
    /// From the start of the program to its first answer.
    pub(super) start: Duration,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    /// Starts a program and waits for its first answer.
    pub(super) fn start(program: &Path, place: Place) -> Result<Agent> {
        let failed = |error: std::io::Error| format!("{}: {error}", program.display());
        let directory = tempfile::tempdir().map_err(failed)?;
        let socket = directory.path().join("socket");
        let mut command = place.command(program);
        command.args(["--method", "unix-listen", "--path"]).arg(&socket).arg("--statedir").arg(directory.path());
        let begin = Instant::now();
        let child = processor::spawn(command.stdin(Stdio::null()).stderr(Stdio::null())).map_err(failed)?;
        let stream = connect(&socket, place.patience()).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut agent = Agent { child, stream, buffer: vec![0; 1 << 20], directory, start: Duration::ZERO };
        agent.ask(b"{\"execute\":\"guest-ping\"}\n", 1)?;
        agent.start = begin.elapsed();
        Ok(agent)
    }

    /// Sends requests and waits for as many replies as there are lines to come. Returns the bytes of the replies.
    pub(super) fn ask(&mut self, requests: &[u8], replies: usize) -> Result<usize> {
        let (mut missing, mut size) = (replies, 0);
        // A large request is written while the agent may already be answering: nothing here is larger than what the
        // agent takes without being read from.
        self.stream.write_all(requests).map_err(|error| format!("the agent does not take the request: {error}"))?;
        while missing > 0 {
            let count = self.stream.read(&mut self.buffer).map_err(|error| format!("no reply: {error}"))?;
            if count == 0 {
                return Err("the agent has closed the connection".into());
            }
            if size == 0 && self.buffer.starts_with(b"{\"error\"") {
                return Err(String::from_utf8_lossy(&self.buffer[..count]).trim_end().to_owned());
            }
            missing = missing.saturating_sub(lines(&self.buffer[..count], replies));
            size += count;
        }
        Ok(size)
    }

    /// Sends one request and returns what it answers with.
    pub(super) fn call(&mut self, execute: &str, arguments: serde_json::Value) -> Result<serde_json::Value> {
        let request = serde_json::json!({ "execute": execute, "arguments": arguments });
        let mut line = request.to_string().into_bytes();
        line.push(b'\n');
        self.stream.write_all(&line).map_err(|error| error.to_string())?;
        let mut reply = Vec::new();
        while reply.last() != Some(&b'\n') {
            let count = self.stream.read(&mut self.buffer).map_err(|error| format!("{execute}: no reply: {error}"))?;
            if count == 0 {
                return Err(format!("{execute}: the agent has closed the connection"));
            }
            reply.extend_from_slice(&self.buffer[..count]);
        }
        let mut reply: serde_json::Value =
            serde_json::from_slice(&reply).map_err(|error| format!("{execute}: {error}"))?;
        match reply.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => Err(format!("{execute}: {reply}")),
        }
    }

    /// Sends one request line and returns the ends of its reply, which may be large: only its last bytes are kept.
    pub(super) fn tail(&mut self, request: &[u8]) -> Result<(usize, &[u8])> {
        self.stream.write_all(request).map_err(|error| format!("the agent does not take the request: {error}"))?;
        let (mut size, mut count) = (0, 0);
        while self.buffer[..count].last() != Some(&b'\n') {
            count = self.stream.read(&mut self.buffer).map_err(|error| format!("no reply: {error}"))?;
            size += count;
            if count == 0 {
                return Err("the agent has closed the connection".into());
            }
        }
        Ok((size, &self.buffer[count.saturating_sub(256)..count]))
    }

    /// A directory of this agent's, on the file system of temporary files.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A figure of `/proc/PID/status`, in KiB for memory.
    pub(super) fn status(&self, name: &str) -> Result<u64> {
        let path = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let figure = field(&text, name).and_then(|value| value.split_whitespace().next()?.parse().ok());
        figure.ok_or_else(|| format!("{}: no {name}", path.display()))
    }

    /// Processor time of all its threads until now, those that have ended too, to a hundredth of a second.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let path = PathBuf::from(format!("/proc/{}/stat", self.child.id()));
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        // Behind the name, in which there may be blanks.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// How often all its threads have slept until now.
    pub(super) fn sleeps(&self) -> Result<u64> {
        let statuses = self.threads()?;
        let counts = statuses.iter().filter_map(|status| field(status, "voluntary_ctxt_switches")?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    /// Waits until it does nothing any more. Behind a large reply the C agent frees for up to tens of milliseconds what
    /// it has made it of: with what is measured next on the same processor it has nothing to do.
    pub(super) fn rest(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !all_sleep(&self.threads()?) {
            if Instant::now() >= until {
                return Err("an agent goes on working although nothing is asked of it".into());
            }
            sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// `/proc/PID/task/TID/status` of each thread; of one that is just ending there is none.
    fn threads(&self) -> Result<Vec<String>> {
        let path = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let threads = fs::read_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok()).collect())
    }
}

/// How many replies end in what has come. One that is alone ends what has come: a large one is not searched, which would
/// take longer than the agent does.
fn lines(bytes: &[u8], replies: usize) -> usize {
    match replies {
        1 => usize::from(bytes.last() == Some(&b'\n')),
        _ => bytes.iter().filter(|&&byte| byte == b'\n').count(),
    }
}

fn connect(socket: &Path, patience: Duration) -> std::io::Result<UnixStream> {
    let until = Instant::now() + patience;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => sleep(Duration::from_micros(20)),
        }
    }
}
