//! Logical processors: `/sys/devices/system/cpu`.

use std::fs::{self, File};
use std::io;

use qga_proto::Error;
use qga_proto::error::Result;
use rustix::io::Errno;

use super::errno::Context;
use super::root::Root;

const BASE: &str = "/sys/devices/system/cpu";

/// A processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// The kernel's number for it.
    pub id: i64,
    /// Whether it is in use.
    pub online: bool,
    /// Whether the kernel lets it be taken offline.
    pub can_offline: bool,
}

/// All processors by number. One that goes while we look is left out.
///
/// # Errors
/// `failed to list entries: /sys/devices/system/cpu: <errno>`, and those of a processor that cannot be looked at.
pub fn all(root: &Root) -> Result<Vec<Cpu>> {
    let list = || "failed to list entries: /sys/devices/system/cpu".to_owned();
    let mut ids = Vec::new();
    for entry in fs::read_dir(root.path(BASE)).context(list)? {
        ids.extend(entry.context(list)?.file_name().to_str().and_then(id));
    }
    ids.sort_unstable();
    let mut cpus = Vec::with_capacity(ids.len());
    for id in ids {
        match Switch::open(root, id, false)? {
            Some(Switch::Fixed) => cpus.push(Cpu { id, online: true, can_offline: false }),
            Some(Switch::Movable(file)) => cpus.push(Cpu { id, online: read(&file, id)?, can_offline: true }),
            None => {}
        }
    }
    Ok(cpus)
}

/// Brings a processor online or takes it offline; nothing is written where it is as asked for. Takes as long as the
/// kernel needs to move away what runs on it.
///
/// # Errors
/// `logical processor #N can't be offlined`, `Could not open '…/cpuN/': <errno>`, and what the kernel says to it,
/// for example `EBUSY` for the last one.
pub fn set(root: &Root, id: i64, online: bool) -> Result<()> {
    match Switch::open(root, id, true)? {
        None => Err(Errno::NOENT).context(|| format!("Could not open '{BASE}/cpu{id}/'")),
        Some(Switch::Fixed) if online => Ok(()),
        Some(Switch::Fixed) => Err(Error::generic(format!("logical processor #{id} can't be offlined"))),
        Some(Switch::Movable(file)) if read(&file, id)? == online => Ok(()),
        Some(Switch::Movable(file)) => {
            let word = if online { b"1" } else { b"0" };
            rustix::io::pwrite(&file, word, 0).context(|| format!("pwrite(\"{BASE}/cpu{id}//online\")")).map(|_| ())
        }
    }
}

/// What a processor is switched with.
enum Switch {
    /// Nothing: it is always on.
    Fixed,
    Movable(File),
}

impl Switch {
    /// `None` where there is no such processor.
    fn open(root: &Root, id: i64, write: bool) -> Result<Option<Self>> {
        let dir = root.path(format!("{BASE}/cpu{id}"));
        let file = File::options().read(true).write(write).open(dir.join("online"));
        match file {
            Ok(file) => Ok(Some(Switch::Movable(file))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => match fs::read_dir(&dir) {
                Ok(_) => Ok(Some(Switch::Fixed)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e).context(|| format!("Could not open '{BASE}/cpu{id}/'")),
            },
            // (The two slashes are the C agent's.)
            Err(e) => Err(e).context(|| format!("could not open {BASE}/cpu{id}//online")),
        }
    }
}

fn read(file: &File, id: i64) -> Result<bool> {
    let mut byte = [0];
    let what = || format!("pread(\"{BASE}/cpu{id}//online\")");
    match rustix::io::pread(file, &mut byte, 0).context(what)? {
        0 => Err(Error::generic(format!("{}: unexpected EOF", what()))),
        _ => Ok(byte != *b"0"),
    }
}

/// The number of `cpu3`; `cpufreq` and `cpu3x` are no processors.
fn id(name: &str) -> Option<i64> {
    name.strip_prefix("cpu").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
#[path = "cpu/tests.rs"]
mod tests;
