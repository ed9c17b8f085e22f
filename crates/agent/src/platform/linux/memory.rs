//! Blocks of memory that can be switched on and off: `/sys/devices/system/memory`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use qga_proto::Error;
use qga_proto::error::Result;
use rustix::fs::{Access, AtFlags};
use rustix::io::Errno;

use super::errno::Context;
use super::root::Root;
use super::sysfs::{Failure, Reader};

const BASE: &str = "/sys/devices/system/memory";

/// A block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub index: u64,
    /// Whether it is in use.
    pub online: bool,
    /// Whether the kernel thinks it could be switched off. Recent kernels say yes for every block.
    pub can_offline: bool,
}

/// All blocks by number. One that goes while we look is left out; a kernel without any gives an empty list.
///
/// # Errors
/// The directory, or a file of a block, cannot be read.
pub fn all(root: &Root) -> Result<Vec<Block>> {
    let list = || format!("Can't open directory \"{BASE}/\"");
    let base = root.path(BASE);
    let entries = match fs::read_dir(&base) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).context(list),
    };
    let mut indexes = Vec::new();
    for entry in entries {
        indexes.extend(entry.context(list)?.file_name().to_str().and_then(index));
    }
    indexes.sort_unstable();
    let base = File::open(base).context(list)?;
    let mut eye = Eye { base, reader: Reader::default(), removable: None, all_alike: removable_is_one_for_all(root) };
    if let Some(can_offline) = eye.said_of_all(root, &indexes)? {
        return Ok(indexes.into_iter().map(|index| Block { index, online: true, can_offline }).collect());
    }
    let mut blocks = Vec::with_capacity(indexes.len());
    for index in indexes {
        blocks.extend(eye.look(index)?);
    }
    Ok(blocks)
}

/// What looks at one block after the other.
struct Eye {
    /// The directory with all of them.
    base: File,
    reader: Reader,
    /// What the last file `removable` said.
    removable: Option<bool>,
    /// Whether that holds for all.
    all_alike: bool,
}

impl Eye {
    /// Whether blocks can be switched off, where that and that all are on is known without a look at each.
    fn said_of_all(&mut self, root: &Root, indexes: &[u64]) -> Result<Option<bool>> {
        match indexes.first() {
            Some(index) if self.all_alike && are_all_online(root, indexes.len()) => {
                self.read(&format!("memory{index}/removable"), "removable", |text| !text.starts_with(b"0"))
            }
            _ => Ok(None),
        }
    }

    /// `None` where it has gone.
    fn look(&mut self, index: u64) -> Result<Option<Block>> {
        let online = self.read(&format!("memory{index}/state"), "state", |text| text.starts_with(b"online"))?;
        let Some(online) = online else {
            let block = format!("memory{index}");
            let is_there = rustix::fs::accessat(&self.base, block, Access::EXISTS, AtFlags::empty()).is_ok();
            // What cannot be switched is on.
            return Ok(is_there.then_some(Block { index, online: true, can_offline: false }));
        };
        if self.removable.is_none() || !self.all_alike {
            let file = format!("memory{index}/removable");
            self.removable = self.read(&file, "removable", |text| !text.starts_with(b"0"))?;
        }
        Ok(Some(Block { index, online, can_offline: self.removable.unwrap_or(false) }))
    }

    /// What a file says; `None` where it is missing.
    fn read<T>(&mut self, file: &str, name: &str, understand: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        match self.reader.read(&self.base, Path::new(file)) {
            // The block went between the two calls.
            Err(Failure::Open(Errno::NOENT) | Failure::Read(Errno::NODEV)) => Ok(None),
            Err(Failure::Open(errno)) => Err(errno).context(|| format!("open sysfs file \"{name}\"")),
            Err(Failure::Read(errno)) => Err(errno).context(|| format!("pread sysfs file \"{name}\"")),
            Ok(b"") => Err(Error::generic(format!("pread sysfs file \"{name}\": unexpected EOF"))),
            Ok(text) => Ok(Some(understand(text))),
        }
    }
}

/// Whether the pages of memory in use are so many that there can be no block without any: holes that the firmware keeps
/// take less than one block of most machines. The one file takes a twentieth of the time that the files of 192 blocks
/// take. (A block counts as on until all of it is off.)
fn are_all_online(root: &Root, count: usize) -> bool {
    let enough = || {
        let (count, size) = (u64::try_from(count).ok()?, block_size(root).ok()?);
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        let missing = count.checked_mul(size)?.checked_sub(present_pages(root)?.checked_mul(page)?)?;
        Some(missing < size)
    };
    enough().unwrap_or(false)
}

/// The pages of all zones that are there and not switched off.
fn present_pages(root: &Root) -> Option<u64> {
    let zones = root.read("/proc/zoneinfo").ok()?;
    let counts = zones.split(|b| *b == b'\n').filter_map(|line| line.trim_ascii().strip_prefix(b"present"));
    counts.map(|count| std::str::from_utf8(count.trim_ascii()).ok()?.parse::<u64>().ok()).sum()
}

/// Since 5.7 the file `removable` of each block says only whether the kernel was built with memory hot-remove. There
/// may be tens of thousands of blocks, and half of the time is to read these files. (5.10 to be sure: older kernels
/// with parts of newer ones are about.)
fn removable_is_one_for_all(root: &Root) -> bool {
    let release = root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = String::from_utf8_lossy(&release);
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(Some(major)), Some(Some(minor))) if (major, minor) >= (5, 10))
}

/// The size of a block in bytes.
///
/// # Errors
/// `open("/sys/devices/system/memory/"): <errno>` where this kernel has no such thing; else those of the file.
pub fn block_size(root: &Root) -> Result<u64> {
    const NAME: &str = "block_size_bytes";
    fs::metadata(root.path(BASE)).context(|| format!("open(\"{BASE}/\")"))?;
    let file = root.path(format!("{BASE}/{NAME}"));
    let text = match read_file(file, NAME)? {
        Some(text) => text,
        None => return Err(rustix::io::Errno::NOENT).context(|| format!("open sysfs file \"{NAME}\"")),
    };
    let text = String::from_utf8_lossy(&text);
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16)
        .map_err(|_| Error::generic(format!("sysfs file \"{NAME}\" holds no size: {}", text.trim())))
}

/// Why a block was not switched.
#[derive(Debug)]
pub enum SwitchError {
    /// There is no such block.
    NotFound,
    /// This kernel has no blocks, or this one cannot be switched.
    NotSupported,
    /// The kernel refused.
    Failed(io::Error),
}

/// Switches a block on or off; nothing is written where it is as asked for. Switching off takes as long as the kernel
/// needs to move what is in it.
///
/// # Errors
/// What stood in the way.
pub fn set(root: &Root, index: u64, online: bool) -> std::result::Result<(), SwitchError> {
    let dir = dir(root, index);
    let mut file = match File::options().read(true).write(true).open(dir.join("state")) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return match (fs::read_dir(&dir), root.path(BASE).exists()) {
                (Ok(_), _) if online => Ok(()),
                (Ok(_), _) | (_, false) => Err(SwitchError::NotSupported),
                (Err(e), true) if e.kind() == io::ErrorKind::NotFound => Err(SwitchError::NotFound),
                (Err(e), true) => Err(SwitchError::Failed(e)),
            };
        }
        Err(e) => return Err(SwitchError::Failed(e)),
    };
    let mut state = [0; 16];
    let length = file.read(&mut state).map_err(SwitchError::Failed)?;
    let is_online = state.get(..length).unwrap_or_default().starts_with(b"online");
    if is_online == online {
        return Ok(());
    }
    let word: &[u8] = if online { b"online" } else { b"offline" };
    file.write_all(word).map_err(SwitchError::Failed)
}

/// The file's text; `None` where it is missing.
fn read_file(path: PathBuf, name: &str) -> Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context(|| format!("open sysfs file \"{name}\"")),
    };
    let mut text = Vec::new();
    match file.read_to_end(&mut text) {
        Ok(0) => Err(Error::generic(format!("pread sysfs file \"{name}\": unexpected EOF"))),
        Ok(_) => Ok(Some(text)),
        // The block went between the two calls.
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(None),
        Err(e) => Err(e).context(|| format!("pread sysfs file \"{name}\"")),
    }
}

fn dir(root: &Root, index: u64) -> PathBuf {
    root.path(format!("{BASE}/memory{index}"))
}

/// The number of `memory7`; `memory_x` is no block.
fn index(name: &str) -> Option<u64> {
    name.strip_prefix("memory").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
#[path = "memory/tests.rs"]
mod tests;
