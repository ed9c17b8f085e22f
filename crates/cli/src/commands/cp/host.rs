//! This host's side of a copy.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use qga_client::printable;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;

use super::guest::Stat;
use super::job::How;
use crate::exit::Failure;

/// The piece of zeroes that is left out of a file with holes.
const BLOCK: usize = 4096;

/// The failure of something on this host, with its path.
pub(super) fn failure(path: &Path, what: impl Display) -> Failure {
    let text = what.to_string();
    let reason = text.find(" (os error ").map_or(text.as_str(), |end| &text[..end]);
    Failure::Host(format!("host: {}: {}", shown(path), printable(reason)))
}

/// A path as it can be shown.
pub(super) fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// The parts of a file that hold data, from `from` on, as the file system tells them; all of it when it does not.
pub(super) fn extents(file: &File, from: u64, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut position = from;
    while position < size {
        let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => return Ok(vec![(position, size)]),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start))?.min(size);
        if start >= end {
            break;
        }
        found.push((start, end));
        position = end;
    }
    Ok(found)
}

/// The place on this host where a file goes.
#[derive(Debug)]
pub(super) struct Target {
    file: File,
    /// Where it will be, behind links.
    path: PathBuf,
    /// The partial file beside it, unless it is written in place.
    part: Option<PathBuf>,
    /// Where the next bytes go.
    position: u64,
    /// Whether zeroes become holes.
    is_sparse: bool,
}

impl Target {
    /// Opens what will be the file at `path`. A directory is refused, a device written as it is. A link is followed where
    /// the user named the file; in a tree, which may be an earlier one of a guest that plans something, it is replaced.
    pub(super) fn open(path: &Path, is_named: bool) -> Result<Self, Failure> {
        let path = match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() && is_named => {
                path.canonicalize().map_err(|_| failure(path, "the link leads nowhere"))?
            }
            _ => path.to_owned(),
        };
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {}
            Ok(found) if found.is_dir() => return Err(failure(&path, "is a directory")),
            Ok(found) if !found.is_file() => {
                let file = OpenOptions::new().write(true).open(&path).map_err(|error| failure(&path, error))?;
                return Ok(Target { file, path, part: None, position: 0, is_sparse: false });
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failure(&path, error)),
        }
        let part = part_beside(&path).ok_or_else(|| failure(&path, "not the name of a file"))?;
        let file = open_part(&part).map_err(|error| failure(&part, error))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(failure(&part, "another qga is copying to it"));
        }
        Ok(Target { file, path, part: Some(part), position: 0, is_sparse: false })
    }

    /// The partial file, if there is one.
    pub(super) fn part(&self) -> Option<&Path> {
        self.part.as_deref()
    }

    /// How much of the file an earlier copy left.
    pub(super) fn left_over(&self) -> Result<u64, Failure> {
        match &self.part {
            Some(part) => self.file.metadata().map(|found| found.len()).map_err(|error| failure(part, error)),
            None => Ok(0),
        }
    }

    /// What was written so far, to be read from the start.
    pub(super) fn reader(&mut self) -> Result<&mut File, Failure> {
        self.move_to(0)?;
        Ok(&mut self.file)
    }

    /// Goes on behind so many bytes and drops what is behind them.
    pub(super) fn start_at(&mut self, position: u64, is_sparse: bool) -> Result<(), Failure> {
        if self.part.is_some() {
            self.file.set_len(position).map_err(|error| failure(&self.path, error))?;
            self.move_to(position)?;
        }
        self.is_sparse = is_sparse && self.part.is_some();
        Ok(())
    }

    fn move_to(&mut self, position: u64) -> Result<(), Failure> {
        self.file.seek(SeekFrom::Start(position)).map_err(|error| failure(&self.path, error))?;
        self.position = position;
        Ok(())
    }

    /// Leaves a hole of so many bytes.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), Failure> {
        self.move_to(self.position + bytes)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if !self.is_sparse {
            self.file.write_all(bytes).map_err(|error| failure(&self.path, error))?;
            self.position += bytes.len() as u64;
            return Ok(());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let zeroes = run(rest, true);
            if zeroes > 0 {
                self.skip(zeroes as u64)?;
            }
            let data = run(&rest[zeroes..], false);
            self.file.write_all(&rest[zeroes..zeroes + data]).map_err(|error| failure(&self.path, error))?;
            self.position += data as u64;
            rest = &rest[zeroes + data..];
        }
        Ok(())
    }

    /// Puts the file where it should be: whoever looks sees the old one or the whole new one.
    pub(super) fn put_in_place(self, stat: Option<&Stat>, how: How, durable: bool) -> Result<(), Failure> {
        let Some(part) = &self.part else { return Ok(()) };
        let failed = |error: io::Error| failure(&self.path, error);
        self.file.set_len(self.position).map_err(failed)?;
        let old = fs::symlink_metadata(&self.path).ok().filter(Metadata::is_file);
        let mode = match (stat, &old) {
            (Some(stat), _) => how.permissions(stat.mode),
            (None, Some(old)) => old.mode() & 0o777,
            (None, None) => 0o600,
        };
        let owner = match (stat, old) {
            (Some(stat), _) if how.preserve => Some((stat.uid, stat.gid)),
            (_, Some(old)) => Some((old.uid(), old.gid())),
            (Some(stat), None) if how.is_root => Some((stat.uid, stat.gid)),
            _ => None,
        };
        if let Some((uid, gid)) = owner {
            own(&self.file, uid, gid).map_err(failed)?;
        }
        self.file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
        if let Some(stat) = stat {
            self.file.set_modified(moment(stat.mtime)).map_err(failed)?;
        }
        if durable {
            self.file.sync_all().map_err(failed)?;
        }
        fs::rename(part, &self.path).map_err(failed)
    }

    /// Takes a partial file away that must not be continued.
    pub(super) fn discard(self) {
        if let Some(part) = &self.part {
            // Nothing depends on it: it would be found out again.
            let _ = fs::remove_file(part);
        }
    }
}

/// Gives a file to a user and a group. That is for root; for others it stays theirs, as with `cp -p`.
fn own(file: &File, uid: u32, gid: u32) -> io::Result<()> {
    let now = file.metadata()?;
    if (now.uid(), now.gid()) == (uid, gid) {
        return Ok(());
    }
    match fchown(file, Some(uid), Some(gid)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Gives a directory what the guest's has: one that was there already only on demand.
pub(super) fn dress(path: &Path, stat: &Stat, how: How, is_new: bool) -> io::Result<()> {
    if !how.preserve && !is_new {
        return Ok(());
    }
    let directory =
        OpenOptions::new().read(true).custom_flags((OFlags::DIRECTORY | OFlags::NOFOLLOW).bits() as i32).open(path)?;
    if how.preserve || how.is_root {
        own(&directory, stat.uid, stat.gid)?;
    }
    directory.set_permissions(Permissions::from_mode(how.permissions(stat.mode)))?;
    directory.set_modified(moment(stat.mtime))
}

/// A point in time.
fn moment((seconds, nanoseconds): (i64, u32)) -> std::time::SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base.and_then(|base| base.checked_add(Duration::from_nanos(nanoseconds.into()))).unwrap_or(UNIX_EPOCH)
}

/// The partial file for a path: hidden beside it.
fn part_beside(path: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name()?);
    // A name may have 255 bytes.
    let mut name = name.to_string_lossy().chars().take(if name.len() > 200 { 60 } else { 255 }).collect::<String>();
    name.push_str(".qga-part");
    Some(path.with_file_name(name))
}

/// Opens a partial file of ours, or a new one. Somebody else's, or what is no plain file, is not written to.
fn open_part(part: &Path) -> io::Result<File> {
    let open = |create_new: bool| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(create_new)
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
            .open(part)
    };
    match fs::symlink_metadata(part) {
        Ok(found) if found.is_file() && found.uid() == geteuid().as_raw() && found.nlink() == 1 => {
            let file = open(false)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        }
        Ok(_) => {
            fs::remove_file(part)?;
            open(true)
        }
        Err(_) => open(true),
    }
}

/// The length of what is at the start: whole blocks of zeroes, or everything up to the next one.
fn run(bytes: &[u8], zeroes: bool) -> usize {
    let mut length = 0;
    for block in bytes.chunks(BLOCK) {
        if block.iter().all(|byte| *byte == 0) != zeroes {
            break;
        }
        length += block.len();
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_whole_blocks() {
        let mut bytes = vec![0; 3 * BLOCK + 10];
        bytes[BLOCK + 5] = 1;
        assert_eq!(run(&bytes, true), BLOCK);
        assert_eq!(run(&bytes[BLOCK..], false), BLOCK);
        assert_eq!(run(&bytes[2 * BLOCK..], true), BLOCK + 10);
        assert_eq!((run(&[], true), run(&[], false)), (0, 0));
    }

    #[test]
    fn moments_before_1970_exist() {
        assert_eq!(moment((-1, 500_000_000)), UNIX_EPOCH - Duration::from_millis(500));
        assert_eq!(moment((1, 5)), UNIX_EPOCH + Duration::new(1, 5));
    }

    #[test]
    fn zeroes_become_holes_and_the_length_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut target = Target::open(&path, true).unwrap();
        target.start_at(0, true).unwrap();
        let mut bytes = vec![0; 1 << 20];
        bytes[..5].copy_from_slice(b"start");
        target.write(&bytes).unwrap();
        target.skip(100).unwrap();
        let how = How { preserve: false, is_root: true, verify: true, resume: true };
        target.put_in_place(None, how, false).unwrap();
        let found = fs::read(&path).unwrap();
        assert_eq!((found.len(), &found[..6]), ((1 << 20) + 100, &b"start\0"[..]));
        assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_link_in_place_of_the_partial_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(".file.qga-part")).unwrap();
        let mut target = Target::open(&dir.path().join("file"), true).unwrap();
        target.start_at(0, false).unwrap();
        target.write(b"new").unwrap();
        let how = How { preserve: false, is_root: true, verify: true, resume: true };
        target.put_in_place(None, how, false).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"new");
    }
}
