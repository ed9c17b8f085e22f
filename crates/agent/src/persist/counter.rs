//! `qga.state`: the handle counter. A handle of an earlier life of the agent must not come to mean another file.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use qga_proto::Error;
use rustix::fs::{Mode, OFlags};

use crate::config::keyfile::KeyFile;
use crate::platform::linux::errno::{Context, ErrnoText, is_fault_of_disk};

/// The first handle, as the C agent's.
const FIRST: i64 = 1000;
/// How many handles one write of the file reserves. After a restart at most this many numbers are left out.
const BLOCK: i64 = 64;
/// A counter above this is not believed: 2^53, the last number that every JSON reader keeps exact.
const LAST: i64 = 1 << 53;

/// Hands out the numbers of file handles, each only once in the life of the state directory.
#[derive(Debug)]
pub struct HandleCounter {
    file: PathBuf,
    numbers: Mutex<Numbers>,
}

#[derive(Debug)]
struct Numbers {
    next: i64,
    /// What the file says: no number from here on has been handed out.
    reserved: i64,
}

impl HandleCounter {
    /// Goes on from the file in `statedir`, which is created if missing and not `frozen`. A disk that is read-only or full
    /// or fails is logged, and is met again by [`HandleCounter::next`].
    ///
    /// # Errors
    /// It is missing and cannot be created for another reason: `failed to write persistent state to <file>: <reason>`.
    pub fn open(statedir: &Path, frozen: bool) -> Result<Self, String> {
        let file = statedir.join("qga.state");
        let found = read(&file);
        if let Found::Bad { what, next } = &found {
            log::warn!("{} {what}; file handles go on from {next}", file.display());
        }
        let (next, write) = match found {
            Found::Good(next) => (next, false),
            Found::Missing => (FIRST, true),
            // Repaired with the first handle if not here.
            Found::Bad { next, .. } => (next, true),
        };
        if write && !frozen {
            if let Err(e) = write_file(&file, next) {
                let text = format!("failed to write persistent state to {}: {}", file.display(), e.errno_text());
                if !is_fault_of_disk(&e) {
                    return Err(text);
                }
                // All commands but one work without it.
                log::warn!("{text}; until that is mended no file can be opened by the host");
            }
        }
        Ok(HandleCounter { file, numbers: Mutex::new(Numbers { next, reserved: next }) })
    }

    /// The next handle. Writes the file once in a while, so it must not be called while file systems are frozen.
    ///
    /// # Errors
    /// `failed to commit persistent state to disk: <file>: <reason>`.
    pub fn next(&self) -> Result<i64, Error> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.next >= numbers.reserved {
            let reserved = numbers.next + BLOCK;
            let what = || format!("failed to commit persistent state to disk: {}", self.file.display());
            write_file(&self.file, reserved).context(what)?;
            numbers.reserved = reserved;
        }
        let handle = numbers.next;
        numbers.next += 1;
        Ok(handle)
    }
}

enum Found {
    Good(i64),
    Missing,
    Bad { what: String, next: i64 },
}

fn read(file: &Path) -> Found {
    let bad = |what: &str| Found::Bad { what: what.into(), next: FIRST };
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Found::Missing,
        Err(e) => return bad(&format!("cannot be read: {}", e.errno_text())),
    };
    let Ok(keys) = KeyFile::parse(&text) else { return bad("is no key file") };
    match keys.integer("global", "fd_counter") {
        Ok(Some(next @ 1..=LAST)) => Found::Good(next),
        // The C agent counts in 64 bits and writes 32: this is what it had handed out.
        Ok(Some(wrapped @ -0x8000_0000..=-1)) => {
            Found::Bad { what: format!("holds the overflown number {wrapped}"), next: wrapped + (1 << 32) }
        }
        Ok(None) => Found::Missing,
        Ok(Some(_)) | Err(_) => bad("holds no usable number"),
    }
}

/// Replaces the file in one step, so that it is never seen half written. Not synced: what a power cut may undo is
/// handles whose files that power cut closed.
fn write_file(file: &Path, counter: i64) -> io::Result<()> {
    let temporary = file.with_extension("state.new");
    let result = create(&temporary)
        .and_then(|mut f| f.write_all(format!("[global]\nfd_counter={counter}\n").as_bytes()))
        .and_then(|()| fs::rename(&temporary, file));
    result.inspect_err(|_| {
        // Nothing to add if there is none to remove.
        let _ = fs::remove_file(&temporary);
    })
}

fn create(path: &Path) -> io::Result<fs::File> {
    if let Err(e) = fs::remove_file(path) {
        if e.kind() != ErrorKind::NotFound {
            return Err(e);
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(dir: &Path) -> String {
        fs::read_to_string(dir.join("qga.state")).unwrap()
    }

    #[test]
    fn the_first_handle_is_1000_and_the_file_is_there_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let counter = HandleCounter::open(dir.path(), false).unwrap();
        assert_eq!(content(dir.path()), "[global]\nfd_counter=1000\n");
        assert_eq!(counter.next().unwrap(), 1000);
        assert_eq!(counter.next().unwrap(), 1001);
    }

    #[test]
    fn no_handle_is_ever_given_twice_and_the_file_is_written_once_a_block() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = 0;
        for _ in 0..3 {
            let counter = HandleCounter::open(dir.path(), false).unwrap();
            let mut written = 0;
            let mut before = content(dir.path());
            for _ in 0..(BLOCK * 2) {
                let handle = counter.next().unwrap();
                assert!(handle > last);
                last = handle;
                let after = content(dir.path());
                written += i32::from(after != before);
                let reserved: i64 = after.trim().rsplit('=').next().unwrap().parse().unwrap();
                assert!(reserved > handle, "the file always holds a number not handed out yet");
                before = after;
            }
            assert_eq!(written, 2);
        }
    }

    #[test]
    fn what_the_file_says_decides_the_first_handle() {
        // (content, first handle, said)
        let table: &[(&[u8], i64, bool)] = &[
            (b"", 1000, false),
            (b"[global]\n", 1000, false),
            (b"[other]\nfd_counter=7\n", 1000, false),
            (b"[global]\nfd_counter=5\n", 5, false),
            (b"[global]\r\nfd_counter=5 \r\n", 5, false),
            (b"[global]\nfd_counter=2147483648\n", 2_147_483_648, false),
            (b"[global]\nfd_counter=-2147483647\n", 2_147_483_649, true),
            (b"[global]\nfd_counter=-1\n", 4_294_967_295, true),
            (b"[global]\nfd_counter=0\n", 1000, true),
            (b"[global]\nfd_counter=x\n", 1000, true),
            (b"[global]\nfd_counter=\xff\n", 1000, true),
            (b"[global]\nfd_counter=9223372036854775807\n", 1000, true),
            (b"[global]\nfd_counter=-9223372036854775808\n", 1000, true),
            (b"[global]\nfd_counter=99999999999999999999\n", 1000, true),
            (b"\x00\x01garbage", 1000, true),
        ];
        for (text, first, said) in table {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("qga.state"), text).unwrap();
            let found = read(&dir.path().join("qga.state"));
            let shown = String::from_utf8_lossy(text);
            assert_eq!(matches!(found, Found::Bad { .. }), *said, "{shown}");
            let counter = HandleCounter::open(dir.path(), false).unwrap();
            assert_eq!(counter.next().unwrap(), *first, "{shown}");
        }
    }

    #[test]
    fn while_frozen_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        HandleCounter::open(dir.path(), true).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_state_directory_that_is_not_there_is_an_error_in_one_line() {
        let error = HandleCounter::open(Path::new("/nonexistent/dir"), false).unwrap_err();
        assert_eq!(error, "failed to write persistent state to /nonexistent/dir/qga.state: No such file or directory");
    }

    #[test]
    fn a_handle_is_refused_when_it_cannot_be_recorded_and_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let counter = HandleCounter::open(&state, false).unwrap();
        fs::remove_dir_all(&state).unwrap();
        let file = state.join("qga.state");
        let desc = format!("failed to commit persistent state to disk: {}: No such file or directory", file.display());
        assert_eq!(counter.next().unwrap_err().desc, desc);
        fs::create_dir(&state).unwrap();
        assert_eq!(counter.next().unwrap(), 1000);
    }

    #[test]
    fn a_link_left_in_place_of_the_temporary_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "keep").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("qga.state.new")).unwrap();
        HandleCounter::open(dir.path(), false).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "keep");
        assert_eq!(content(dir.path()), "[global]\nfd_counter=1000\n");
    }
}
