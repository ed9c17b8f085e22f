//! Block devices in sysfs: which there are, what they are called, and what lies under what.
//!
//! A device is its directory below `/sys/devices`. The path of that directory says how the device is attached
//! ([`address`]); `uevent` in it says its number and its node. Each file is read once for one command.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use qga_proto::types::storage::GuestDiskAddress;
use rustix::fs::CWD;
use rustix::io::Errno;

use super::address;
use super::errno::ErrnoText;
use super::mountinfo::Device;
use super::root::Root;
use super::serial;
use super::sysfs::{Failure, Reader};
use super::udev::Properties;

/// One block device.
#[derive(Debug)]
pub struct Block {
    /// Its directory, without links.
    pub dir: PathBuf,
    /// The same as the guest sees it: `/sys/devices/pci0000:00/.../block/sda/sda1`.
    pub path: String,
    /// The kernel's name of it: `sda1`, `cciss!c0d0`.
    pub name: String,
    /// Its number.
    pub number: Option<Device>,
    /// Its node: `/dev/sda1`, `/dev/cciss/c0d0`.
    pub node: String,
    is_partition: bool,
}

impl Block {
    /// Whether it is made by the kernel of other devices, of files or of memory, and is attached to nothing.
    pub fn is_virtual(&self) -> bool {
        self.path.contains("/devices/virtual/block/")
    }

    /// The directory of the disk: for a partition the one that it is in.
    pub fn disk_dir(&self) -> &Path {
        if self.is_partition { self.dir.parent().unwrap_or(&self.dir) } else { &self.dir }
    }
}

/// All block devices of a system. To be made anew for each command: it remembers what it has read.
#[derive(Debug)]
pub struct Blocks<'a> {
    root: &'a Root,
    /// The root without links, as the directories of devices start with it.
    base: PathBuf,
    known: RefCell<HashMap<PathBuf, Rc<Block>>>,
    addresses: RefCell<HashMap<PathBuf, Rc<Vec<GuestDiskAddress>>>>,
    reader: RefCell<Reader>,
}

impl<'a> Blocks<'a> {
    /// Those of the system under `root`.
    pub fn new(root: &'a Root) -> Self {
        let base = root.path("/");
        let base = fs::canonicalize(&base).unwrap_or(base);
        let (known, addresses, reader) = Default::default();
        Blocks { root, base, known, addresses, reader }
    }

    /// The device with this number; `None` where sysfs has none.
    ///
    /// # Errors
    /// The link cannot be followed, for other reasons than that it is not there.
    pub fn by_number(&self, number: Device) -> io::Result<Option<Rc<Block>>> {
        self.at(&self.root.path(format!("/sys/dev/block/{number}")))
    }

    /// All disks that have something in them, without their partitions, by name: no drives without a disk, no loop devices
    /// without a file (which a machine may have hundreds of: one file tells of them all), and not the hidden devices by
    /// which the kernel keeps the several ways to one disk.
    ///
    /// # Errors
    /// `/sys/block` cannot be read. Disks that go meanwhile are left out.
    pub fn disks(&self) -> io::Result<Vec<Rc<Block>>> {
        let dir = fs::File::open(self.root.path("/sys/block"))?;
        let list = self.root.read("/proc/partitions").unwrap_or_default();
        let filled = filled(&list);
        let is_empty = |name: &OsStr| {
            match &filled {
                Some(names) if names.contains(name.as_bytes()) => return false,
                Some(_) if is_loop(name) => return true,
                _ => {}
            }
            let mut reader = self.reader.borrow_mut();
            reader.read(&dir, &Path::new(name).join("size")).map_or(true, |size| size.trim_ascii() == b"0")
        };
        let links = fs::read_dir(self.root.path("/sys/block"))?.flatten();
        let links = links.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        let mut disks = self.at_all(links.filter(|entry| !is_empty(&entry.file_name())).map(|entry| entry.path()));
        disks.retain(|disk| disk.number.is_some());
        Ok(disks)
    }

    /// The partitions of a disk, by number.
    pub fn partitions(&self, disk: &Block) -> Vec<Rc<Block>> {
        let Ok(entries) = fs::read_dir(&disk.dir) else { return Vec::new() };
        let parts = entries.flatten().filter(|entry| is_partition_of(&disk.name, &entry.file_name()));
        self.at_all(parts.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()))
    }

    /// What a device is made of, by name from the last to the first; `None` where the kernel keeps no such list.
    pub fn members(&self, device: &Block) -> Option<Vec<Rc<Block>>> {
        let dir = device.disk_dir().join("slaves");
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries.flatten(),
            Err(e) => {
                if e.kind() != io::ErrorKind::NotFound {
                    log::warn!("opendir(\"{}/slaves\"): {}", device.path, e.errno_text());
                }
                return None;
            }
        };
        let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        let mut members = self.at_all(links.map(|entry| entry.path()));
        members.reverse();
        Some(members)
    }

    /// How the disks under a device are attached: its own address, or those of all that it is made of, however deep,
    /// each device once.
    pub fn addresses(&self, device: &Rc<Block>) -> Vec<GuestDiskAddress> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut todo = vec![Rc::clone(device)];
        while let Some(device) = todo.pop() {
            if !seen.insert(device.dir.clone()) {
                continue;
            }
            if device.is_virtual() {
                todo.extend(self.members(&device).unwrap_or_default().into_iter().rev());
            } else {
                found.extend(self.own_addresses(&device).iter().cloned());
            }
        }
        found
    }

    /// How a device that is not virtual is attached; several ways where it has several controllers.
    pub fn own_addresses(&self, device: &Block) -> Rc<Vec<GuestDiskAddress>> {
        if let Some(known) = self.addresses.borrow().get(&device.dir) {
            return Rc::clone(known);
        }
        let mut addresses = Vec::new();
        for place in self.places(device) {
            let address = address::of(&place.0, &place.1);
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            addresses.push(address::of(&device.path, &device.dir));
        }
        let serial = self.serial(device);
        for address in &mut addresses {
            address.dev = Some(device.node.clone());
            address.serial.clone_from(&serial);
        }
        let addresses = Rc::new(addresses);
        self.addresses.borrow_mut().insert(device.dir.clone(), Rc::clone(&addresses));
        addresses
    }

    /// What udev knows of a device.
    pub fn properties(&self, device: &Block) -> Properties {
        device.number.map_or_else(Properties::default, |number| Properties::of_block(self.root, number))
    }

    /// udev's serial number, or what udev would make of what the kernel tells.
    fn serial(&self, device: &Block) -> Option<String> {
        self.properties(device).get("ID_SERIAL").or_else(|| serial::compose(device))
    }

    /// Paths and directories that tell how a device is attached: its own; those of the controllers, in order, for an
    /// NVMe namespace that is reached over several. That one lies in the directory of a subsystem, in which there is
    /// a link to each controller.
    fn places(&self, device: &Block) -> Vec<(String, PathBuf)> {
        let mut places = Vec::new();
        if device.path.contains("/devices/virtual/nvme-subsystem/") {
            let Some(subsystem) = device.disk_dir().parent() else { return places };
            let entries = fs::read_dir(subsystem).into_iter().flatten().flatten();
            let mut links: Vec<PathBuf> = entries
                .filter(|entry| {
                    entry.file_type().is_ok_and(|kind| kind.is_symlink()) && is_controller(&entry.file_name())
                })
                .map(|entry| entry.path())
                .collect();
            links.sort_by_cached_key(|link| natural(link.file_name().unwrap_or_default()));
            let dirs = links.iter().filter_map(|link| fs::canonicalize(link).ok());
            places.extend(dirs.map(|dir| (self.guest_path(&dir), dir)));
        } else {
            places.push((device.path.clone(), device.dir.clone()));
        }
        places
    }

    fn at_all(&self, paths: impl Iterator<Item = PathBuf>) -> Vec<Rc<Block>> {
        let mut found: Vec<Rc<Block>> = paths.filter_map(|path| self.at(&path).ok().flatten()).collect();
        found.sort_by_cached_key(|block| natural(OsStr::new(&block.name)));
        found
    }

    /// The device to which a path leads; `None` where it leads nowhere.
    fn at(&self, path: &Path) -> io::Result<Option<Rc<Block>>> {
        let dir = match self.resolve(path) {
            Ok(dir) => dir,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if let Some(known) = self.known.borrow().get(&dir) {
            return Ok(Some(Rc::clone(known)));
        }
        let uevent = match self.reader.borrow_mut().read(CWD, &dir.join("uevent")) {
            Ok(text) => text.to_vec(),
            Err(Failure::Open(Errno::NOENT)) if !dir.exists() => return Ok(None),
            Err(_) => Vec::new(),
        };
        let get = |key: &str| -> Option<String> {
            let lines = uevent.split(|b| *b == b'\n');
            let mut values = lines.filter_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b"="));
            values.next().map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let name = String::from_utf8_lossy(dir.file_name().unwrap_or_default().as_bytes()).into_owned();
        let number = || Some(Device { major: get("MAJOR")?.parse().ok()?, minor: get("MINOR")?.parse().ok()? });
        let number = number().or_else(|| Device::parse(&fs::read(dir.join("dev")).ok()?));
        // The kernel cannot have a slash in a name and puts a mark in its place.
        let node = format!("/dev/{}", get("DEVNAME").unwrap_or_else(|| name.replace('!', "/")));
        let is_partition = match get("DEVTYPE") {
            Some(kind) => kind == "partition",
            None => dir.join("partition").exists(),
        };
        let block = Rc::new(Block { path: self.guest_path(&dir), name, number, node, is_partition, dir });
        self.known.borrow_mut().insert(block.dir.clone(), Rc::clone(&block));
        Ok(Some(block))
    }

    /// The directory to which a path leads, without links.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        // A link of the kernel's leads to a directory below /sys/devices, and no part of that is a link: looking at
        // each, up to ten of them, took half of the time of a list of disks.
        let devices = self.base.join("sys/devices");
        let dir = match fs::read_link(path) {
            Ok(target) => follow(path, &target),
            Err(_) => path.to_owned(),
        };
        if dir.starts_with(&devices) { Ok(dir) } else { fs::canonicalize(path) }
    }

    fn guest_path(&self, dir: &Path) -> String {
        let inside = dir.strip_prefix(&self.base).unwrap_or(dir);
        format!("/{}", String::from_utf8_lossy(inside.as_os_str().as_bytes()).trim_start_matches('/'))
    }
}

/// Where a link leads, going by the names alone.
fn follow(link: &Path, target: &Path) -> PathBuf {
    let mut path = link.parent().unwrap_or(link).to_owned();
    for part in target.components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
    }
    path
}

/// The names in `/proc/partitions`, which has what is not empty: ten times faster than a file of each device. `None` where
/// it is no such list.
///
/// Older kernels leave out removable drives and memory disks, and names with a slash are not those of sysfs, so of most
/// that is not in it nothing is known. Loop devices are always in it when they have a file.
fn filled(list: &[u8]) -> Option<HashSet<&[u8]>> {
    let mut lines = list.split(|b| *b == b'\n').map(|line| line.rsplit(|b| *b == b' ').next().unwrap_or_default());
    let heading = lines.next()?;
    (heading == b"name").then(|| lines.filter(|name| !name.is_empty()).collect())
}

fn is_loop(name: &OsStr) -> bool {
    let digits = name.as_bytes().strip_prefix(b"loop").unwrap_or_default();
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// `sda1` of `sda`, `nvme0n1p1` of `nvme0n1`.
fn is_partition_of(disk: &str, name: &OsStr) -> bool {
    let Some(rest) = name.as_bytes().strip_prefix(disk.as_bytes()) else { return false };
    let digits = rest.strip_prefix(b"p").unwrap_or(rest);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// `nvme0`, and not `nvme0n1` or `nvme0c0n1`.
fn is_controller(name: &OsStr) -> bool {
    let digits = name.as_bytes().strip_prefix(b"nvme").unwrap_or_default();
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Sorts names as people do: by kind of device (the first two letters), then `sdz` before `sdaa` and `dm-9` before
/// `dm-10`.
pub fn natural(name: &OsStr) -> (Vec<u8>, Vec<(usize, Vec<u8>)>) {
    let name = name.as_bytes();
    let runs = name.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    (name.iter().take(2).copied().collect(), runs.map(|run| (run.len(), run.to_vec())).collect())
}

#[cfg(test)]
#[path = "device/tests.rs"]
mod tests;
#[cfg(test)]
#[path = "device/tree.rs"]
pub(crate) mod tree;
