//! `guest-get-fsinfo`

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::storage::{GuestDiskAddress, GuestFilesystemInfo, GuestGetFsinfo};

use crate::commands::{Context, Handler};
use crate::platform::linux::device::Blocks;
use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::fsorder;
use crate::platform::linux::mountinfo::{self, Device, Mount, Table};
use crate::platform::linux::root::Root;
use crate::platform::linux::usage::{Answer, Asker, Question};

impl Handler for GuestGetFsinfo {
    const NEEDS: &'static str = "/proc/self/mountinfo; /sys for the disks; serial numbers are udev's where it runs";

    fn run(cx: Context<'_>, _: Empty) -> Result<Vec<GuestFilesystemInfo>> {
        fsinfo(&cx.state.root, &cx.state.usage)
    }
}

/// What makes two mounts one entry: they are of the same file system and, with btrfs, of the same subvolume.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    device: Device,
    subvolume: Vec<u8>,
}

/// # Errors
/// No mount table. Whatever fails for one file system leaves its own entry shorter.
fn fsinfo(root: &Root, usage: &Asker) -> Result<Vec<GuestFilesystemInfo>> {
    let questions = Arc::new(list(&Arc::new(Table::read(root)?)));
    let answers = usage.ask(root, Arc::clone(&questions));
    let blocks = Blocks::new(root);
    let listed = questions.iter().zip(answers);
    let mut found: Vec<_> = listed.filter_map(|(question, answer)| describe(root, &blocks, question, answer)).collect();
    found.reverse();
    Ok(found)
}

/// The mounts that count, by entry, in the order of the first mount of each.
fn list(table: &Arc<Table>) -> Vec<Question> {
    let mut all: Vec<Question> = Vec::new();
    let mut index: HashMap<Key, usize> = HashMap::new();
    let mut last: Option<(Device, usize)> = None;
    for (place, mount) in table.mounts().iter().enumerate() {
        // Where there are thousands of mounts most are of what the one before is of.
        let at = match last.filter(|(device, _)| *device == mount.device && device.major != 0) {
            Some((_, at)) => at,
            None => {
                let Some(key) = key(mount) else { continue };
                *index.entry(key).or_insert(all.len())
            }
        };
        last = Some((mount.device, at));
        match all.get_mut(at) {
            Some(known) => known.mounts.push(place),
            None => all.push(Question { device: mount.device, table: Arc::clone(table), mounts: vec![place] }),
        }
    }
    all
}

/// `None` for a mount that is not listed: of a file system that is neither on a block device nor one that people keep
/// their data in as if it were.
fn key(mount: &Mount) -> Option<Key> {
    let mut subvolume = Vec::new();
    if mount.device.major == 0 {
        match mount.what.fs_type.as_bytes() {
            b"btrfs" => {
                let mut options = mount.what.options.split(|b| *b == b',');
                subvolume.extend_from_slice(options.find_map(|o| o.strip_prefix(b"subvolid=")).unwrap_or_default());
            }
            b"bcachefs" | b"virtiofs" => {}
            // Snapshots are mounted when somebody looks into them.
            b"zfs" if !mount.what.source.as_bytes().contains(&b'@') => {}
            // The root of a live system or a container; each container has one more of its own.
            b"overlay" if mount.point == Path::new("/") => {}
            _ => return None,
        }
    }
    Some(Key { device: mount.device, subvolume })
}

fn describe(
    root: &Root,
    blocks: &Blocks<'_>,
    question: &Question,
    answer: Option<Answer>,
) -> Option<GuestFilesystemInfo> {
    let first = question.mounts().next()?;
    let shown = answer.and_then(|answer| question.table.mounts().get(answer.mount));
    let point = shown.map_or_else(|| question.point(), |mount| &mount.point);
    let space = answer.and_then(|answer| answer.space);
    let (name, disk) = device(root, blocks, first);
    Some(GuestFilesystemInfo {
        name,
        total_bytes: space.map(|space| space.total),
        total_bytes_privileged: space.map(|space| space.privileged),
        mountpoint: mountinfo::text(point),
        disk,
        used_bytes: space.map(|space| space.used),
        fs_type: first.what.fs_type.to_string_lossy().into_owned(),
    })
}

/// The name of the device, and the addresses of the disks under it.
fn device(root: &Root, blocks: &Blocks<'_>, mount: &Mount) -> (String, Vec<GuestDiskAddress>) {
    let source = mount.what.source.to_string_lossy().into_owned();
    let numbers = match mount.device.major {
        0 => members(root, mount),
        _ => vec![mount.device],
    };
    let mut name = None;
    let mut disks = Vec::new();
    for number in numbers {
        match blocks.by_number(number) {
            Ok(Some(device)) => {
                name.get_or_insert_with(|| device.name.clone());
                // Members of one file system may lie on one disk.
                for address in blocks.addresses(&device) {
                    if !disks.contains(&address) {
                        disks.push(address);
                    }
                }
            }
            Ok(None) => {}
            Err(e) => log::warn!("realpath(\"/sys/dev/block/{number}\"): {}", e.errno_text()),
        }
    }
    let unknown = || if mount.device.major == 0 { source } else { mount.device.to_string() };
    (name.unwrap_or_else(unknown), disks)
}

/// The block devices of a file system without a number of its own, the one it was mounted by first: of btrfs all that
/// belong to it, of bcachefs those that stand in its source.
fn members(root: &Root, mount: &Mount) -> Vec<Device> {
    let node = |path: &[u8]| mountinfo::block_device(&root.path(Path::new(std::ffi::OsStr::from_bytes(path))));
    match mount.what.fs_type.as_bytes() {
        b"btrfs" => {
            let Some(source) = node(mount.what.source.as_bytes()) else { return Vec::new() };
            let mut all = vec![source];
            all.extend(fsorder::btrfs_members(root, source).into_iter().filter(|member| *member != source));
            all
        }
        b"bcachefs" => mount.what.source.as_bytes().split(|b| *b == b':').filter_map(node).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "get_fsinfo/tests.rs"]
mod tests;
