//! Files through the port of a virtual machine: how long they take, and how much of that is the agent's.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vm_tests::agent::{Agent, libraries};
use vm_tests::{Image, Machine, Spec};

use super::work::write_request;
use crate::process::{Result, output, program};
use crate::{packages, target};

/// What is copied in each direction, in pieces of [`PIECE`] bytes.
const PIECES: usize = 16;
const PIECE: usize = 1 << 20;

/// The longest that one reply may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Processor time of the agent until now, in hundredths of a second: of its own code, and of the kernel at its calls, which
/// is copying through the port for the most part.
const SPENT: [&str; 2] = ["cut -d' ' -f14 /proc/$(pidof qemu-ga)/stat", "cut -d' ' -f15 /proc/$(pidof qemu-ga)/stat"];

/// What `qga cp` copies in each direction, in MiB.
const COPIED: usize = 16;

/// How often, with the agents in turns.
const ROUNDS: usize = 3;

/// Copies files to and from a machine with each of these agents, by hand, which tells the agent's share, and with this
/// `qga`. Returns the tables.
pub(super) fn table(programs: &[&Path], qga: &Path) -> Result<String> {
    packages::install(vm_tests::PACKAGES)?;
    if packages::has_dpkg() && !target().join("vm-cache/kernel").exists() {
        packages::update()?;
    }
    let mut text = String::from(
        "| agent in the machine | work | time | rate | in the kernel, at the port | in the agent's own code | share |\n\
         |---|---|--:|--:|--:|--:|--:|\n",
    );
    let mut copies = Vec::new();
    for program in programs {
        let is_c = libraries(program).iter().any(|library| library.to_string_lossy().contains("libglib"));
        eprintln!("a machine with {} ...", program.display());
        let image = Rc::new(Image::with_agent(Agent { path: program.to_path_buf(), is_c }));
        let mut machine = Machine::boot(&image, Spec::default());
        // Waits until it answers.
        let info = machine.agent().call("guest-info", json!({})).map_err(|error| error.to_string())?;
        let mut port = Port::open(&machine.agent_socket())?;
        let version = info["version"].as_str().unwrap_or_default().to_owned();
        let name = if is_c { format!("C {version}") } else { "ours".into() };
        by_hand(&mut machine, &mut port, &name, &mut text)?;
        copies.push(Copies { name, machine, best: [0.0; 4] });
    }
    for _ in 0..ROUNDS {
        for number in 0..WAYS.len() {
            for copies in &mut copies {
                copies.measure(number, qga)?;
            }
        }
    }
    text.push_str(&format!(
        "\n| `qga cp` of {COPIED} MiB, best of {ROUNDS} | {} | times better |\n|---|{}--:|\n",
        copies.iter().map(|copies| copies.name.as_str()).collect::<Vec<_>>().join(" | "),
        "--:|".repeat(copies.len())
    ));
    for (number, what) in WAYS.iter().enumerate() {
        let rates: Vec<f64> = copies.iter().map(|copies| copies.best[number]).collect();
        let cells: Vec<String> = rates.iter().map(|rate| format!("{rate:.1} MB/s")).collect();
        let ratio = rates.first().zip(rates.last()).map_or(0.0, |(ours, peer)| ours / peer);
        text.push_str(&format!("| {what} | {} | {ratio:.2} |\n", cells.join(" | ")));
    }
    Ok(text)
}

/// What is written and read by hand, in one request at a time.
fn by_hand(machine: &mut Machine, port: &mut Port, name: &str, text: &mut String) -> Result {
    for (work, mode, request) in [("write", "w", None), ("read", "r", Some(()))] {
        let handle = port.call("guest-file-open", &json!({ "path": "/run/bench", "mode": mode }))?;
        let request = match request {
            None => write_request(&handle, PIECE),
            Some(()) => line("guest-file-read", &json!({ "handle": handle, "count": PIECE })),
        };
        let before = SPENT.map(|what| machine.shell.number(what));
        let begin = Instant::now();
        for _ in 0..PIECES {
            port.ask(&request)?;
        }
        let time = begin.elapsed();
        let after = SPENT.map(|what| machine.shell.number(what));
        let [own, kernel] = [0, 1].map(|part| after[part].saturating_sub(before[part]) as f64 / 100.0);
        port.call("guest-file-close", &json!({ "handle": handle }))?;
        let size = PIECES * PIECE;
        text.push_str(&format!(
            "| {name} | {work} of {} MiB in pieces of 1 MiB | {:.2} s | {:.1} MB/s | {kernel:.2} s | {own:.2} s | {:.0} % |\n",
            size >> 20,
            time.as_secs_f64(),
            size as f64 / 1e6 / time.as_secs_f64(),
            own / time.as_secs_f64() * 100.0
        ));
    }
    Ok(())
}

/// The ways in which `qga cp` is measured.
const WAYS: [&str; 4] = [
    "into the guest, without checksum",
    "out of the guest, without checksum",
    "into the guest, with checksum",
    "out of the guest, with checksum",
];

/// A machine that is copied to and from.
struct Copies {
    name: String,
    machine: Machine,
    /// The best rate of each way, in MB/s.
    best: [f64; 4],
}

impl Copies {
    /// Copies a file of bytes without a pattern in the way of this number.
    fn measure(&mut self, number: usize, qga: &Path) -> Result {
        let [ours, back] = ["ours", "back"].map(|name| self.machine.directory().join(name).display().to_string());
        let failed = |error: std::io::Error| format!("{ours}: {error}");
        if !Path::new(&ours).exists() {
            let mut random = File::open("/dev/urandom").map_err(failed)?.take((COPIED as u64) << 20);
            std::io::copy(&mut random, &mut File::create(&ours).map_err(failed)?).map_err(failed)?;
        }
        let socket = self.machine.agent_socket().display().to_string();
        let is_out = number % 2 == 1;
        let way = if is_out { [":/run/copy", back.as_str()] } else { [ours.as_str(), ":/run/copy"] };
        let how: &[&str] = if number < 2 { &["--no-verify"] } else { &[] };
        let report = output(program(&qga.display().to_string(), ["-t", &socket, "--json", "cp"]).args(how).args(way))?;
        let report: Value = serde_json::from_str(&report).map_err(|error| format!("qga cp: {error}"))?;
        let rate = (COPIED << 20) as f64 / 1e6 / report["seconds"].as_f64().unwrap_or(f64::INFINITY);
        eprintln!("{}, {}: {rate:.2} MB/s", self.name, WAYS[number]);
        self.best[number] = self.best[number].max(rate);
        let read = |path: &str| std::fs::read(path).map_err(|error| format!("{path}: {error}"));
        if is_out && read(&ours)? != read(&back)? {
            return Err("what came back is not what was sent".into());
        }
        Ok(())
    }
}

fn line(execute: &str, arguments: &Value) -> Vec<u8> {
    format!("{}\n", json!({ "execute": execute, "arguments": arguments })).into_bytes()
}

/// The host's end of the port.
struct Port {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Port {
    fn open(socket: &Path) -> Result<Port> {
        let failed = |error: std::io::Error| format!("{}: {error}", socket.display());
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut port = Port { stream, buffer: vec![0; 1 << 20] };
        // There may be late answers to whoever asked before.
        let mut answer = port.ask(&line("guest-sync", &json!({ "id": 815 })))?.to_vec();
        while !answer.ends_with(b"{\"return\": 815}\n") {
            answer = port.ask(b"")?.to_vec();
        }
        Ok(port)
    }

    /// Sends a request and reads its reply, of which the end is returned.
    fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request).map_err(|error| format!("the port does not take the request: {error}"))?;
        loop {
            let count = self.stream.read(&mut self.buffer).map_err(|error| format!("no reply: {error}"))?;
            match self.buffer[..count].last() {
                None => return Err("the port has been closed".into()),
                Some(b'\n') => return Ok(&self.buffer[..count]),
                Some(_) => {}
            }
        }
    }

    /// For requests whose reply is short.
    fn call(&mut self, execute: &str, arguments: &Value) -> Result<Value> {
        let reply = self.ask(&line(execute, arguments))?;
        let mut reply: Value = serde_json::from_slice(reply).map_err(|error| format!("{execute}: {error}"))?;
        match reply.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => Err(format!("{execute}: {reply}")),
        }
    }
}
