//! What lies on what, so that file systems are frozen from the inside out.
//!
//! A file system in an image file lies on the file system that holds the image: if the outer one is frozen first,
//! freezing the inner one waits for ever, as its last writes cannot go anywhere. The mount table's order does not
//! tell: an outer file system may be mounted again later, or moved. The kernel tells: `/sys/dev/block` has the file
//! under a loop device, and the devices under a device-mapper or md device.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::ffi;
use super::mountinfo::{Device, FileSystem, Mount, Table, unescape};
use super::root::Root;

/// The order in which to freeze: what lies on another comes before it; where nothing is known, what was mounted
/// last comes first. Gives indexes into `systems`, each once. A circle is cut where it is met.
pub fn inner_first(root: &Root, table: &Table, systems: &[FileSystem]) -> Vec<usize> {
    let order = Order { root, table, systems };
    // on[i]: those that lie on i.
    let mut on = vec![Vec::new(); systems.len()];
    for (inner, system) in systems.iter().enumerate().rev() {
        for outer in order.below(system) {
            if let Some(list) = on.get_mut(outer).filter(|_| outer != inner) {
                list.push(inner);
            }
        }
    }
    let mut out = Vec::with_capacity(systems.len());
    let mut seen = vec![false; systems.len()];
    for i in (0..systems.len()).rev() {
        visit(i, &on, &mut seen, &mut out);
    }
    out
}

/// Puts `i` behind everything that lies on it. An own stack instead of recursion: depth comes from the guest.
fn visit(i: usize, on: &[Vec<usize>], seen: &mut [bool], out: &mut Vec<usize>) {
    let mut stack = vec![(i, 0)];
    while let Some((at, next)) = stack.pop() {
        if next == 0 {
            match seen.get_mut(at) {
                Some(seen @ false) => *seen = true,
                _ => continue,
            }
        }
        match on.get(at).and_then(|list| list.get(next)) {
            Some(inner) => {
                stack.push((at, next + 1));
                stack.push((*inner, 0));
            }
            None => out.push(at),
        }
    }
}

/// The file under a loop device.
#[derive(Debug)]
struct Backing {
    /// `st_dev` of the file, from the loop device itself; none where it cannot be asked.
    device: Option<Device>,
    /// Its path when it was set up, which may be out of date.
    path: PathBuf,
}

struct Order<'a> {
    root: &'a Root,
    table: &'a Table,
    systems: &'a [FileSystem],
}

impl Order<'_> {
    /// The file systems, as indexes, that hold the images on which a file system lies.
    fn below(&self, system: &FileSystem) -> HashSet<usize> {
        let mut devices: Vec<Device> = system.block.into_iter().collect();
        if system.fs_type() == "btrfs" {
            devices.extend(system.block.map_or(Vec::new(), |block| btrfs_members(self.root, block)));
        }
        let mut files = Vec::new();
        self.walk(devices, &mut files);
        let mut found = HashSet::new();
        for file in files {
            self.holders(&file, &mut found);
        }
        found
    }

    /// Follows devices down to loop devices.
    fn walk(&self, mut todo: Vec<Device>, files: &mut Vec<Backing>) {
        let mut seen = HashSet::new();
        while let Some(device) = todo.pop() {
            if !seen.insert(device) {
                continue;
            }
            let dir = self.root.path(format!("/sys/dev/block/{device}"));
            if dir.join("partition").exists() {
                // The directory of a partition is below its disk's.
                todo.extend(read_device(&dir.join("../dev")));
                continue;
            }
            todo.extend(entries(&dir.join("slaves")).iter().filter_map(|slave| read_device(&slave.join("dev"))));
            if let Ok(mut path) = fs::read(dir.join("loop/backing_file")) {
                while path.last() == Some(&b'\n') {
                    path.pop();
                }
                files.push(Backing { device: self.loop_device(&dir), path: PathBuf::from(OsString::from_vec(path)) });
            }
        }
    }

    /// Asks the loop device whose sysfs directory this is. Its own answer holds when the path does not: after the
    /// mount through which the image was opened has been moved or detached.
    fn loop_device(&self, dir: &Path) -> Option<Device> {
        let uevent = fs::read(dir.join("uevent")).ok()?;
        let name = uevent.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"DEVNAME="))?;
        let node = self.root.path(Path::new("/dev").join(OsStr::from_bytes(name)));
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file: File = OpenOptions::new().read(true).custom_flags(flags).open(node).ok()?;
        ffi::loop_file(file.as_fd()).ok().map(|(device, _)| Device::from_raw(device))
    }

    /// The file systems in which a file lies.
    fn holders(&self, file: &Backing, found: &mut HashSet<usize>) {
        if let Some(device) = file.device {
            if let Some(i) = self.systems.iter().position(|system| system.device == device) {
                found.insert(i);
                return;
            }
            // A file on btrfs has its subvolume's number, which stands in no table.
            for (i, system) in self.systems.iter().enumerate().filter(|(_, system)| system.fs_type() == "btrfs") {
                let reachable = system.mounts.iter().filter(|mount| self.table.is_reachable(mount));
                if reachable.map(|mount| self.root.path(&mount.point)).any(|point| is_on(&point, device)) {
                    found.insert(i);
                    return;
                }
            }
            if let Some(mount) = self.table.mounts().iter().find(|mount| mount.device == device) {
                self.holders_by_mount(mount, found);
                return;
            }
            // Not a mount's number: a subvolume that is not mounted itself, or a file of an overlay. The path helps if
            // it still leads there.
            if device.major != 0 || !is_on(&self.root.path(&file.path), device) {
                return;
            }
        }
        if let Some(mount) = self.table.lookup(&file.path) {
            self.holders_by_mount(mount, found);
        }
    }

    /// The file system of a mount; for an overlay, those of its layers.
    fn holders_by_mount(&self, mount: &Mount, found: &mut HashSet<usize>) {
        let mut todo = vec![mount];
        let mut seen = HashSet::new();
        while let Some(mount) = todo.pop() {
            if !seen.insert(mount.device) {
                continue;
            }
            if let Some(i) = self.systems.iter().position(|system| system.device == mount.device) {
                found.insert(i);
            } else if mount.what.fs_type == "overlay" {
                todo.extend(layers(&mount.what.options).iter().filter_map(|layer| self.table.lookup(layer)));
            }
        }
    }
}

/// The directories of an overlay, from the options of its superblock.
fn layers(options: &[u8]) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for option in options.split(|b| *b == b',') {
        let Some(equals) = option.iter().position(|b| *b == b'=') else { continue };
        let (key, value) = option.split_at(equals);
        if matches!(key, b"upperdir" | b"lowerdir" | b"lowerdir+" | b"datadir+") {
            let dirs = value.get(1..).unwrap_or_default().split(|b| *b == b':').filter(|dir| !dir.is_empty());
            out.extend(dirs.map(|dir| PathBuf::from(OsString::from_vec(unescape(dir)))));
        }
    }
    out
}

/// All devices of the btrfs that one device belongs to.
pub fn btrfs_members(root: &Root, device: Device) -> Vec<Device> {
    for uuid in entries(&root.path("/sys/fs/btrfs")) {
        let members: Vec<Device> =
            entries(&uuid.join("devices")).iter().filter_map(|member| read_device(&member.join("dev"))).collect();
        if members.contains(&device) {
            return members;
        }
    }
    Vec::new()
}

fn is_on(path: &Path, device: Device) -> bool {
    fs::metadata(path).is_ok_and(|meta| Device::from_raw(meta.dev()) == device)
}

fn read_device(file: &Path) -> Option<Device> {
    Device::parse(&fs::read(file).ok()?)
}

/// What is in a directory; nothing where it is missing.
fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map_or(Vec::new(), |list| list.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
#[path = "fsorder/tests.rs"]
mod tests;
