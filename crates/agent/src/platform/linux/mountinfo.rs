//! The mount table, `/proc/self/mountinfo`: which file systems there are, by which mounts each can be reached, and
//! which mount a path leads to.
//!
//! A file system is one superblock, however often it is mounted. Names are bytes: the kernel allows any byte but
//! NUL in them, and writes blanks, tabs, newlines and backslashes as octal escapes.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qga_proto::error::Result;

use super::errno::Context;
use super::root::Root;

/// A device number, as `st_dev` and the mount table have it. Written `8:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The driver; 0 for a file system that has no block device of its own.
    pub major: u32,
    /// The unit.
    pub minor: u32,
}

impl Device {
    /// Takes a number as `stat` gives it apart.
    pub fn from_raw(dev: u64) -> Self {
        Device { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) }
    }

    /// Reads `8:1`; blanks and newlines around it are allowed.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let colon = text.iter().position(|b| *b == b':')?;
        let number = |text: &[u8]| u32::try_from(number(text)?).ok();
        Some(Device { major: number(text.get(..colon)?)?, minor: number(text.get(colon + 1..)?)? })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Number of the mount, as `statx` and `/proc/PID/fdinfo` give it for an open file.
    pub id: u64,
    /// Number of the mount that it is mounted on; `None` for the first one.
    pub parent: Option<u64>,
    /// Device number of the superblock; its major is 0 where there is no block device, and for btrfs.
    pub device: Device,
    /// Where it is mounted.
    pub point: PathBuf,
    /// What is mounted there. Mounts of the same share it.
    pub what: Arc<Mounted>,
}

/// What the table says of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Type, such as `ext4`.
    pub fs_type: OsString,
    /// What is mounted; a path, or a word such as `none`.
    pub source: OsString,
    /// Options of the superblock, separated by commas, not decoded.
    pub options: Vec<u8>,
}

/// A file system that lives on a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Device number of the superblock.
    pub device: Device,
    /// The block device; `None` for a btrfs whose source is no device node any more.
    pub block: Option<Device>,
    /// Its mounts in table order; never empty.
    pub mounts: Vec<Mount>,
}

impl FileSystem {
    /// The mount that stands for it where only one is named: the first of the table, as the C agent has it.
    pub fn point(&self) -> &Path {
        self.mounts.first().map_or(Path::new("/"), |mount| &mount.point)
    }

    /// Type, such as `ext4`.
    pub fn fs_type(&self) -> &OsStr {
        self.mounts.first().map_or(OsStr::new(""), |mount| &mount.what.fs_type)
    }

    /// Whether the mount with this number is one of its mounts.
    pub fn has_mount(&self, id: u64) -> bool {
        self.mounts.iter().any(|mount| mount.id == id)
    }
}

/// Room for the text of the table of most systems.
const TEXT: usize = 16 << 10;

/// The whole table at one moment.
#[derive(Debug, Clone, Default)]
pub struct Table {
    mounts: Vec<Mount>,
    /// Of each mount [`spot`], and its place in `mounts`; ascending. Numbers, because to sort the paths themselves took half
    /// of the time that 1,000 mounts cost.
    spots: Vec<(u64, usize)>,
}

impl Table {
    /// Reads the table.
    ///
    /// # Errors
    /// `failed to open mtab file: '/proc/self/mounts': <errno>`, the C agent's words when it finds no table, and the reason.
    pub fn read(root: &Root) -> Result<Self> {
        let mut text = Vec::with_capacity(TEXT);
        let read = File::open(root.path("/proc/self/mountinfo")).and_then(|mut file| file.read_to_end(&mut text));
        read.context(|| "failed to open mtab file: '/proc/self/mounts'".to_owned())?;
        Ok(Table::parse(&text))
    }

    /// Makes it from the text of `mountinfo`. Lines that do not fit are left out.
    pub fn parse(text: &[u8]) -> Self {
        let mut last = None;
        let mut start = 0;
        // What is behind the last newline is nothing, as the kernel writes it.
        let ends = memchr::memchr_iter(b'\n', text).chain([text.len()]);
        let lines = ends.filter_map(|end| text.get(std::mem::replace(&mut start, end + 1)..end));
        let mut mounts: Vec<Mount> = lines.filter_map(|line| parse_line(line, &mut last)).collect();
        let mut known: Vec<u64> = mounts.iter().map(|mount| mount.id).collect();
        known.sort_unstable();
        // What the first mount lies on is outside of our root, hence not in the table; rootfs names itself.
        for mount in &mut mounts {
            mount.parent = mount.parent.filter(|parent| *parent != mount.id && known.binary_search(parent).is_ok());
        }
        let spot_of = |(place, mount): (usize, &Mount)| (spot(mount.parent, mount.point.as_os_str()), place);
        let mut spots: Vec<(u64, usize)> = mounts.iter().enumerate().map(spot_of).collect();
        spots.sort_unstable();
        Table { mounts, spots }
    }

    /// All mounts in table order.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The mount that an absolute path without links leads to; other mounts on the way cover what is below them.
    pub fn lookup(&self, path: &Path) -> Option<&Mount> {
        let mut at: Option<&Mount> = None;
        let mut steps = 0;
        let mut prefix = OsString::with_capacity(path.as_os_str().len());
        for part in path.components() {
            if !matches!(prefix.as_bytes(), b"" | b"/") {
                prefix.push("/");
            }
            prefix.push(part);
            while let Some(mount) = self.mounted_at(at.map(|mount| mount.id), &prefix) {
                at = Some(mount);
                steps += 1;
                // A table of the kernel's is a tree; one that is not must not hold us.
                if steps > self.mounts.len() {
                    return None;
                }
            }
        }
        at
    }

    /// What is mounted on this mount in this place; of several the last.
    fn mounted_at(&self, parent: Option<u64>, point: &OsStr) -> Option<&Mount> {
        let spot = spot(parent, point);
        let end = self.spots.partition_point(|(other, _)| *other <= spot);
        let same = self.spots.get(..end)?.iter().rev().take_while(|(other, _)| *other == spot);
        // Two may have one number by chance.
        let mut mounts = same.filter_map(|(_, place)| self.mounts.get(*place));
        mounts.find(|mount| mount.parent == parent && mount.point.as_os_str() == point)
    }

    /// Whether the path of a mount leads to that mount, and not to another one that covers it.
    pub fn is_reachable(&self, mount: &Mount) -> bool {
        self.lookup(&mount.point).is_some_and(|found| found.id == mount.id)
    }

    /// The file systems that live on a block device, in the order of their first mounts.
    ///
    /// Of those without a device number of their own only btrfs is one. (The C agent leaves out a btrfs whose
    /// source, say `/dev/root`, does not exist; for us the mount is enough.) `fuseblk` is one as well.
    pub fn file_systems(&self, root: &Root) -> Vec<FileSystem> {
        let mut found: Vec<FileSystem> = Vec::new();
        let mut index: HashMap<Device, usize> = HashMap::new();
        for mount in &self.mounts {
            if let Some(known) = index.get(&mount.device).and_then(|i| found.get_mut(*i)) {
                known.mounts.push(mount.clone());
                continue;
            }
            let block = if mount.device.major != 0 {
                Some(mount.device)
            } else if mount.what.fs_type == "btrfs" {
                block_device(&root.path(Path::new(&mount.what.source)))
            } else {
                continue;
            };
            index.insert(mount.device, found.len());
            found.push(FileSystem { device: mount.device, block, mounts: vec![mount.clone()] });
        }
        found
    }
}

/// A number for a place that something is mounted in: the mount below, and the path. It decides nothing, so a hash that
/// whoever mounts could find equals for will do; the library's takes 250 instructions for each mount.
fn spot(parent: Option<u64>, point: &OsStr) -> u64 {
    // The multiplier of Knuth's linear congruential generator.
    let mixed = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(6_364_136_223_846_793_005);
    let words = point.as_bytes().chunks_exact(8);
    let rest = words.remainder();
    let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    let hash = words.fold(parent.unwrap_or_default(), |hash, bytes| mixed(hash, word(bytes)));
    rest.iter().fold(hash, |hash, byte| mixed(hash, u64::from(*byte)))
}

/// The number of a block device's node.
pub fn block_device(node: &Path) -> Option<Device> {
    let meta = fs::metadata(node).ok()?;
    meta.file_type().is_block_device().then(|| Device::from_raw(meta.rdev()))
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG]... - TYPE SOURCE SUPEROPTIONS`
///
/// `last` is what the line before says from the type on: where there are thousands of mounts most are of what the one before is
/// of, and what they share need not be made for each.
fn parse_line<'a>(line: &'a [u8], last: &mut Option<(&'a [u8], Arc<Mounted>)>) -> Option<Mount> {
    let mut fields = line.splitn(6, |b| *b == b' ');
    let [id, parent, device, _, point] = [(); 5].map(|()| fields.next());
    let rest = fields.next()?;
    let mut dashes = memchr::memchr_iter(b'-', rest);
    let end = dashes.find(|at| at.checked_sub(1).and_then(|start| rest.get(start..at + 2)) == Some(b" - "))?;
    let rest = rest.get(end + 2..)?;
    let what = match last {
        Some((text, what)) if *text == rest => Arc::clone(what),
        _ => {
            let what = Arc::new(parse_mounted(rest)?);
            *last = Some((rest, Arc::clone(&what)));
            what
        }
    };
    Some(Mount {
        id: number(id?)?,
        parent: number(parent?),
        device: Device::parse(device?)?,
        point: PathBuf::from(name(point?)?),
        what,
    })
}

/// `TYPE SOURCE SUPEROPTIONS`
fn parse_mounted(text: &[u8]) -> Option<Mounted> {
    let mut fields = text.split(|b| *b == b' ');
    let [fs_type, source, options] = [(); 3].map(|()| fields.next());
    Some(Mounted {
        fs_type: OsString::from_vec(unescape(fs_type?)),
        source: name(source?)?,
        options: options.unwrap_or_default().to_vec(),
    })
}

/// A name that is not empty.
fn name(field: &[u8]) -> Option<OsString> {
    (!field.is_empty()).then(|| OsString::from_vec(unescape(field)))
}

fn number(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let append = |number: u64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    if text.is_empty() { None } else { text.iter().try_fold(0, append) }
}

/// Turns `\040` into a blank and `\\` into a backslash; any other backslash stays.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    if !text.contains(&b'\\') {
        return text.to_vec();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                tail
            }
            [b'\\', b'\\', tail @ ..] => {
                out.push(b'\\');
                tail
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
            [] => return out,
        }
    }
}

/// A mount point as text: what is no UTF-8 in it is replaced.
pub fn text(point: &Path) -> String {
    String::from_utf8_lossy(point.as_os_str().as_bytes()).into_owned()
}

#[cfg(test)]
#[path = "mountinfo/tests.rs"]
mod tests;
