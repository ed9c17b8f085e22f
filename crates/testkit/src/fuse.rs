//! A file system whose files hang: opening or reading one does not come back until the test says so.
//!
//! It is a small FUSE server. Mounted in the mount namespace of one agent only, it goes with that agent, and nothing
//! else on the machine ever sees it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::agent::Setup;
use crate::{skip, wait};

/// The name of a file begins with this to hang when it is opened; every other file hangs when it is read.
pub const OPEN: &str = "open-";

/// What a read gives in the end.
pub const CONTENT: &[u8] = b"late";

/// The kernel's requests; each begins with this much.
const HEADER: usize = 40;
const ROOT: u64 = 1;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN_FILE: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOSYS: i32 = 38;

/// The server of one such file system.
#[derive(Debug)]
pub struct Hanging {
    device: Arc<File>,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// Names of files by their number less [`ROOT`] and one.
    names: Vec<String>,
    /// Requests that wait for the test.
    requests: Vec<(u64, u32)>,
    /// Nothing hangs any more.
    open: bool,
}

impl Hanging {
    /// Gives the agent such a file system at `at`, a directory that exists. `None`, said loudly, where that cannot
    /// be done.
    pub fn mount(test: &str, setup: Setup, at: &Path) -> Option<(Setup, Hanging)> {
        if !skip::is_root(test) || !skip::has(test, "unshare") || !skip::has(test, "mount") {
            return None;
        }
        let device = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => {
                skip::skipped(test, &format!("/dev/fuse: {error}"));
                return None;
            }
        };
        // The same open file is mounted there and served here.
        let twin = device.try_clone().expect("a descriptor to spare");
        let script = format!(
            "exec 3<&0 0</dev/null && mount -i -t fuse hanging '{}' -o fd=3,rootmode=40000,user_id=0,group_id=0 && \
             exec 3<&- && exec \"$@\"",
            at.display()
        );
        let setup = setup.stdin(twin).inside(["unshare", "-m", "sh", "-c", script.as_str(), "sh"]);
        let hanging = Hanging { device: Arc::new(device), held: Arc::default() };
        let (device, held) = (Arc::clone(&hanging.device), Arc::clone(&hanging.held));
        thread::spawn(move || serve(&device, &held));
        Some((setup, hanging))
    }

    /// Waits until this many requests hang.
    ///
    /// # Panics
    /// When they do not within half a minute.
    pub fn wait_for(&self, count: usize) {
        let hang = || (self.held.lock().expect("no panic").requests.len() >= count).then_some(());
        wait::until("requests that hang", Duration::from_secs(30), hang);
    }

    /// Lets everything go on that hangs, and nothing hangs again.
    ///
    /// It happens in the end anyway, when this goes; keep it no longer than the agent.
    pub fn release(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.open = true;
        for (unique, operation) in held.requests.drain(..) {
            let _ = reply(&self.device, unique, &late(operation));
        }
    }
}

/// A process that waits for a server cannot be killed, so nobody may be left waiting.
impl Drop for Hanging {
    fn drop(&mut self) {
        self.release();
    }
}

/// Answers until the file system is gone.
fn serve(device: &File, held: &Mutex<Held>) {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = match (&*device).read(&mut buffer) {
            Ok(length) => length,
            // Not mounted yet.
            Err(error) if error.raw_os_error() == Some(1) => {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if length < HEADER {
            return;
        }
        let request = &buffer[..length];
        let operation = u32_at(request, 4);
        let unique = u64_at(request, 8);
        let node = u64_at(request, 16);
        let body = &request[HEADER..];
        let mut held = held.lock().expect("no panic");
        let answer = match operation {
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => Ok(init()),
            GETATTR => Ok(attributes(node)),
            LOOKUP if node == ROOT => Ok(entry(&mut held, body)),
            LOOKUP => Err(ENOENT),
            RELEASE | FLUSH => Ok(Vec::new()),
            OPEN_FILE if held.open || !held.is_slow_to_open(node) => Ok(opened()),
            READ if held.open => Ok(CONTENT.to_vec()),
            OPEN_FILE | READ => {
                held.requests.push((unique, operation));
                continue;
            }
            _ => Err(ENOSYS),
        };
        if reply(device, unique, &answer).is_err() {
            return;
        }
    }
}

impl Held {
    fn is_slow_to_open(&self, node: u64) -> bool {
        let index = usize::try_from(node - ROOT - 1).unwrap_or(usize::MAX);
        self.names.get(index).is_some_and(|name| name.starts_with(OPEN))
    }
}

fn late(operation: u32) -> Result<Vec<u8>, i32> {
    match operation {
        OPEN_FILE => Ok(opened()),
        READ => Ok(CONTENT.to_vec()),
        _ => Err(EIO),
    }
}

/// Length, error and number of the request; then the body.
fn reply(mut device: &File, unique: u64, answer: &Result<Vec<u8>, i32>) -> io::Result<()> {
    let (error, body) = match answer {
        Ok(body) => (0, body.as_slice()),
        Err(errno) => (-errno, &[][..]),
    };
    let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(error.to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend(body);
    device.write_all(&bytes)
}

fn init() -> Vec<u8> {
    let mut body = Vec::new();
    // Version 7.31, no read-ahead, no flags, no background requests to speak of, one page a write.
    for number in [7u32, 31, 0, 0, 0x0010_0010, 4096, 1] {
        body.extend(number.to_ne_bytes());
    }
    body.resize(64, 0);
    body
}

/// Every name is there. The first 40 bytes say which it is and that nothing is to be remembered for long.
fn entry(held: &mut Held, name: &[u8]) -> Vec<u8> {
    let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    let index = held.names.iter().position(|known| *known == name).unwrap_or_else(|| {
        held.names.push(name);
        held.names.len() - 1
    });
    let node = ROOT + 1 + index as u64;
    let mut body = node.to_ne_bytes().to_vec();
    body.resize(40, 0);
    body.extend(&attributes(node)[16..]);
    body
}

fn attributes(node: u64) -> Vec<u8> {
    let mut body = vec![0; 16];
    for number in [node, 4096, 8, 0, 0, 0] {
        body.extend(number.to_ne_bytes());
    }
    let mode: u32 = if node == ROOT { 0o40755 } else { 0o100644 };
    for number in [0u32, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        body.extend(number.to_ne_bytes());
    }
    body
}

/// Reads go to the server and not to a cache.
fn opened() -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend(1u32.to_ne_bytes());
    body.extend([0; 4]);
    body
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
