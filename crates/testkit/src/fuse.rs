//! A file system that hangs: what is asked of it does not come back until the test says so.
//!
//! It is a small FUSE server. Mounted in the mount namespace of one agent only, it goes with that agent, and nothing
//! else on the machine ever sees it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::agent::Setup;
use crate::{skip, wait};

/// The name of a file begins with this to hang when it is opened. Files of other names than these hang when they are
/// read.
pub const OPEN: &str = "open-";

/// The name of a file begins with this to hang when it is looked up, which is before it is opened.
pub const LOOK_UP: &str = "lookup-";

/// The name of a file begins with this to hang when it is written to.
pub const WRITE: &str = "write-";

/// The name of a file begins with this to hang when it is closed, but for the first time: the agent gives a file another
/// number when it has been opened.
pub const CLOSE: &str = "close-";

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
const WRITE_FILE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPEN_DIRECTORY: u32 = 27;
const RELEASE_DIRECTORY: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const ENOENT: i32 = 2;
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
    /// Files that were closed once.
    closed: HashSet<u64>,
    /// Requests that wait for the test, with what they are told in the end.
    requests: Vec<(u64, Result<Vec<u8>, i32>)>,
    /// Nothing hangs any more.
    open: bool,
    /// Even its root directory and its size are not told.
    dead: bool,
}

impl Hanging {
    /// Gives the agent such a file system at `at`, a directory that exists. `None`, said loudly, where that cannot
    /// be done.
    pub fn mount(test: &str, setup: Setup, at: &Path) -> Option<(Setup, Hanging)> {
        Self::mount_as(test, setup, at, "-t fuse hanging", "", Held::default())
    }

    /// Like [`Hanging::mount`], as a file system on a block device (as NTFS has been for long): one of those that are
    /// listed, frozen and trimmed. The device is made of `image`, which is not read. Its root directory and its size
    /// are not told either.
    pub fn mount_on_device(test: &str, setup: Setup, at: &Path, image: &Path) -> Option<(Setup, Hanging)> {
        let what = format!("-t fuseblk '{}'", image.display());
        Self::mount_as(test, setup, at, &what, "loop,blksize=512,", Held { dead: true, ..Held::default() })
    }

    fn mount_as(
        test: &str,
        setup: Setup,
        at: &Path,
        what: &str,
        options: &str,
        held: Held,
    ) -> Option<(Setup, Hanging)> {
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
            "exec 3<&0 0</dev/null && mount -i {what} '{}' -o {options}fd=3,rootmode=40000,user_id=0,group_id=0 && \
             exec 3<&- && exec \"$@\"",
            at.display()
        );
        let setup = setup.stdin(twin).inside(["unshare", "-m", "sh", "-c", script.as_str(), "sh"]);
        let hanging = Hanging { device: Arc::new(device), held: Arc::new(Mutex::new(held)) };
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

    /// How many requests hang now.
    pub fn count(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).requests.len()
    }

    /// Lets everything go on that hangs, and nothing hangs again.
    ///
    /// It happens in the end anyway, when this goes; keep it no longer than the agent.
    pub fn release(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.open = true;
        for (unique, late) in held.requests.drain(..) {
            let _ = reply(&self.device, unique, &late);
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
            RELEASE | RELEASE_DIRECTORY | FLUSH => Ok(Vec::new()),
            OPEN_FILE | OPEN_DIRECTORY => Ok(opened()),
            READ => Ok(held.content(node, u64_at(body, 8))),
            WRITE_FILE => Ok(written(body)),
            STATFS => Ok(size()),
            _ => Err(ENOSYS),
        };
        if !held.open && held.hangs(operation, node, body) {
            held.requests.push((unique, answer));
            continue;
        }
        if reply(device, unique, &answer).is_err() {
            return;
        }
    }
}

impl Held {
    fn name(&self, node: u64) -> &str {
        let index = node.checked_sub(ROOT + 1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.names.get(index)).map_or("", String::as_str)
    }

    /// Files that are read give the same again and again; those of the other names end, for who wants all of them.
    fn content(&self, node: u64, offset: u64) -> Vec<u8> {
        if offset > 0 && self.name(node).starts_with(OPEN) { Vec::new() } else { CONTENT.to_vec() }
    }

    fn hangs(&mut self, operation: u32, node: u64, body: &[u8]) -> bool {
        let name = self.name(node).to_owned();
        match operation {
            LOOKUP => body.starts_with(LOOK_UP.as_bytes()),
            OPEN_FILE => name.starts_with(OPEN),
            WRITE_FILE => name.starts_with(WRITE),
            FLUSH if name.starts_with(CLOSE) => !self.closed.insert(node),
            // The others can be read, so that no test waits for what it does not mean.
            READ => ![OPEN, WRITE, CLOSE].iter().any(|before| name.starts_with(before)),
            OPEN_DIRECTORY | STATFS => self.dead,
            _ => false,
        }
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
    // Version 7.31, no read-ahead, look-ups in one directory side by side, no background requests to speak of, one page
    // a write.
    for number in [7u32, 31, 0, 1 << 18, 0x0010_0010, 4096, 1] {
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
    let mode: u32 = if node == ROOT { 0o40755 } else { 0o100755 };
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

/// All of it.
fn written(body: &[u8]) -> Vec<u8> {
    let mut answer = u32_at(body, 16).to_ne_bytes().to_vec();
    answer.extend([0; 4]);
    answer
}

/// A thousand blocks of 4,096 bytes, half of them free.
fn size() -> Vec<u8> {
    let mut body = Vec::new();
    for number in [1000u64, 500, 500, 0, 0] {
        body.extend(number.to_ne_bytes());
    }
    for number in [4096u32, 255, 4096] {
        body.extend(number.to_ne_bytes());
    }
    body.resize(80, 0);
    body
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
