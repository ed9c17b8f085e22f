//! One open file: every call goes straight to the kernel, so that what others do to the file is seen, an error comes
//! with the call that caused it, and the position is the kernel's.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use qga_proto::base64;
use qga_proto::error::{Error, Result};
use rustix::fs::{Mode, OFlags, SeekFrom, fchmod, open, seek};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::child::FILES_FROM;
use super::errno::{Context, ErrnoText};
use super::ffi;

/// The permission bits of a file that we create, whatever the daemon's umask. (The C agent makes it writable for
/// everybody.)
const NEW_FILE: u32 = 0o644;

/// Bytes read at a time: a multiple of three, so that each piece is whole groups of base64, which stays in the cache. Small
/// enough for the common heap: otherwise it would have pages of its own, mapped, cleared and unmapped for each request.
pub const PIECE: usize = 96 << 10;

/// How a file is opened, as for `fopen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenMode {
    flags: OFlags,
}

impl OpenMode {
    /// The mode of this name; `b` has no effect. Exactly the names that are listed here are known.
    pub fn parse(name: &str) -> Option<Self> {
        let write = OFlags::WRONLY.union(OFlags::CREATE);
        let both = OFlags::RDWR.union(OFlags::CREATE);
        let flags = match name {
            "r" | "rb" => OFlags::RDONLY,
            "w" | "wb" => write.union(OFlags::TRUNC),
            "a" | "ab" => write.union(OFlags::APPEND),
            "r+" | "rb+" | "r+b" => OFlags::RDWR,
            "w+" | "wb+" | "w+b" => both.union(OFlags::TRUNC),
            "a+" | "ab+" | "a+b" => both.union(OFlags::APPEND),
            _ => return None,
        };
        Some(OpenMode { flags })
    }
}

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    created: bool,
    /// Why the last write ended early, until it is told: a write that got something out answers with how much, and a
    /// client that does not compare must not take the file for whole.
    untold: Option<Errno>,
}

impl OpenFile {
    /// Opens `path`. Never waits for the other end of a FIFO or the carrier of a line, and never makes a terminal the
    /// daemon's own. A new file is created only where there is none, not through a dangling link.
    ///
    /// # Errors
    ///
    /// `failed to open file ...`, `failed to set permission ...`, with the path and `mode_name`.
    pub fn open(path: &str, mode: OpenMode, mode_name: &str) -> Result<Self> {
        let (file, created) = Self::open_or_create(path, mode.flags)
            .context(|| format!("failed to open file '{path}' (mode: '{mode_name}')"))?;
        let opened = OpenFile { file, created, untold: None };
        if created {
            let permitted = fchmod(&opened.file, Mode::from_raw_mode(NEW_FILE));
            let what = || format!("failed to set permission {NEW_FILE:04o} on new file '{path}' (mode: '{mode_name}')");
            if let Err(error) = permitted.context(what) {
                opened.undo(path);
                return Err(error);
            }
        }
        Ok(opened)
    }

    /// The file, and whether it is new.
    fn open_or_create(path: &str, flags: OFlags) -> std::result::Result<(File, bool), Errno> {
        if path.contains('\0') {
            // No file has such a name.
            return Err(Errno::NOENT);
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        if flags.contains(OFlags::CREATE) {
            // Nobody else gets at it before it has its permissions.
            match retry(|| open(path, flags | OFlags::EXCL, Mode::empty())) {
                Ok(fd) => return Ok((File::from(set_apart(fd)), true)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        let fd = retry(|| open(path, flags - OFlags::CREATE, Mode::empty()))?;
        Ok((File::from(set_apart(fd)), false))
    }

    /// Removes the file again if [`open`](Self::open) created it and it is still the one at `path`.
    pub fn undo(self, path: &str) {
        let (Ok(ours), Ok(there)) = (self.file.metadata(), fs::symlink_metadata(path)) else { return };
        if !self.created || (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
            return;
        }
        if let Err(error) = fs::remove_file(path) {
            log::warn!("cannot remove '{path}' again: {}", error.errno_text());
        }
    }

    /// How many of `count` bytes a read is likely to get: as many as there are behind the position, in a file that
    /// has a size.
    pub fn available(&self, count: usize) -> usize {
        match (self.file.metadata(), seek(&self.file, SeekFrom::Current(0))) {
            (Ok(meta), Ok(position)) if meta.is_file() => {
                usize::try_from(meta.len().saturating_sub(position)).unwrap_or(count).min(count)
            }
            _ => 0,
        }
    }

    /// Reads until there are `count` bytes, the end is met or nothing more is there, and passes them on in pieces of
    /// [`PIECE`] bytes; only the last is shorter. Returns how many there were, and whether the end was met, which
    /// exactly the rest of a file does not.
    ///
    /// # Errors
    ///
    /// `failed to read file: <errno>` when there was nothing before the error. Else it counts as the end of what there
    /// is, and the next call meets it again.
    pub fn read(&mut self, count: usize, mut take: impl FnMut(&[u8])) -> Result<(usize, bool)> {
        let mut piece = vec![0; count.min(PIECE)];
        let mut total = 0;
        while total < count {
            let wanted = (count - total).min(PIECE);
            let mut filled = 0;
            let ended = loop {
                let Some(room) = piece.get_mut(filled..wanted).filter(|room| !room.is_empty()) else { break None };
                match retry_io(|| (&self.file).read(room)) {
                    Ok(0) => break Some(Ok(())),
                    Ok(got) => filled += got,
                    Err(error) => break Some(Err(error)),
                }
            };
            take(piece.get(..filled).unwrap_or_default());
            total += filled;
            match ended {
                None => {}
                Some(Ok(())) => return Ok((total, true)),
                Some(Err(_)) if total > 0 => return Ok((total, false)),
                Some(Err(error)) => return Err(error).context(|| "failed to read file".to_owned()),
            }
        }
        Ok((total, false))
    }

    /// Writes the first `count` bytes of what `text` decodes to (all when `None`) and returns how many went out. On
    /// a pipe or a full disk that may be fewer.
    ///
    /// # Errors
    ///
    /// Bad base64 and a bad count, before anything is written; `failed to write to file: <errno>` when nothing was.
    pub fn write(&mut self, text: &str, count: Option<i64>) -> Result<u64> {
        let decoded = base64::check(text)?;
        let wanted = match count {
            None => decoded,
            Some(count) => usize::try_from(count)
                .ok()
                .filter(|count| *count <= decoded)
                .ok_or_else(|| Error::generic(format!("value '{count}' is invalid for argument count")))?,
        };
        if wanted == 0 {
            return Ok(0);
        }
        self.untold = None;
        let mut decoder = base64::Decoder::new(text);
        let mut piece = vec![0; wanted.min(64 << 10)];
        let mut written = 0;
        while written < wanted {
            let got = decoder.next_piece(&mut piece)?.min(wanted - written);
            let mut unwritten = piece.get(..got).unwrap_or_default();
            if unwritten.is_empty() {
                break;
            }
            while !unwritten.is_empty() {
                match retry_io(|| (&self.file).write(unwritten)) {
                    Ok(0) => return self.ended_early(written, Errno::IO),
                    Ok(count) => {
                        written += count;
                        unwritten = unwritten.get(count..).unwrap_or_default();
                    }
                    Err(error) => return self.ended_early(written, Errno::from_io_error(&error).unwrap_or(Errno::IO)),
                }
            }
        }
        Ok(written as u64)
    }

    fn ended_early(&mut self, written: usize, why: Errno) -> Result<u64> {
        if written == 0 {
            return Err(why).context(|| "failed to write to file".to_owned());
        }
        self.untold = Some(why);
        Ok(written as u64)
    }

    /// Moves the position and returns it.
    ///
    /// # Errors
    ///
    /// `failed to seek file: <errno>`: `Invalid argument` before the start, `Illegal seek` where there are no
    /// positions.
    pub fn seek(&mut self, to: Seek) -> Result<u64> {
        let moved = match to {
            Seek::Start(offset) => match u64::try_from(offset) {
                Ok(offset) => seek(&self.file, SeekFrom::Start(offset)),
                Err(_) => seek(&self.file, SeekFrom::Current(0)).and(Err(Errno::INVAL)),
            },
            Seek::Current(offset) => seek(&self.file, SeekFrom::Current(offset)),
            Seek::End(offset) => seek(&self.file, SeekFrom::End(offset)),
        };
        moved.context(|| "failed to seek file".to_owned())
    }

    /// Nothing is buffered, so there is nothing to write out; tells why the last write ended early, once.
    ///
    /// # Errors
    ///
    /// `failed to flush file: <errno>`.
    pub fn flush(&mut self) -> Result<()> {
        match self.untold.take() {
            Some(errno) => Err(errno).context(|| "failed to flush file".to_owned()),
            None => Ok(()),
        }
    }

    /// Closes the file, and tells why the last write ended early.
    ///
    /// # Errors
    ///
    /// `failed to close handle: <errno>`. It is closed nevertheless.
    pub fn close(self) -> Result<()> {
        let closed = ffi::close(self.file.into());
        match self.untold {
            Some(errno) => Err(errno).context(|| "failed to close handle".to_owned()),
            None => closed.context(|| "failed to close handle".to_owned()),
        }
    }
}

/// Where to move the position to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// So many bytes from the start.
    Start(i64),
    /// So many bytes from the present position.
    Current(i64),
    /// So many bytes from the end.
    End(i64),
}

/// Gives a file a number among those that programs are started without. Where there is none the file keeps its own.
fn set_apart(fd: OwnedFd) -> OwnedFd {
    fcntl_dupfd_cloexec(&fd, FILES_FROM).unwrap_or(fd)
}

fn retry<T>(mut call: impl FnMut() -> std::result::Result<T, Errno>) -> std::result::Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn retry_io<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;
