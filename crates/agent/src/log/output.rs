//! Writing lines without ever waiting.

use std::env;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ::log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::aside::{Aside, Asked};
use super::line;

/// Where lines are written.
#[derive(Debug)]
pub(super) struct Output {
    fd: Target,
    way: Way,
    /// It is a file on a disk: writing may have to wait for that.
    disk: bool,
    journal: bool,
    /// The end of a line that went out in part.
    rest: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Target {
    Stderr,
    Own(Arc<OwnedFd>),
}

impl Target {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Target::Stderr => rustix::stdio::stderr(),
            Target::Own(fd) => fd.as_fd(),
        }
    }
}

/// How to write to it without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The descriptor is ours and in non-blocking mode, or a disk file, for which there is no such mode.
    Write,
    /// A socket.
    Send,
    /// A terminal or something else that is shared with other programs, whose mode we may not change.
    Ask,
}

impl Output {
    /// Standard error, as it is now.
    pub(super) fn stderr() -> Self {
        let stderr = rustix::stdio::stderr();
        let stat = fstat(stderr);
        let kind = stat.as_ref().map_or(FileType::Unknown, |s| FileType::from_raw_mode(s.st_mode));
        let journal = stat.is_ok_and(|s| is_journal(env::var("JOURNAL_STREAM").ok().as_deref(), &s));
        let (fd, way) = match kind {
            FileType::Socket => (Target::Stderr, Way::Send),
            FileType::RegularFile => (Target::Stderr, Way::Write),
            // Non-blocking mode belongs to the open file and not to the descriptor: opened anew it is ours alone.
            FileType::Fifo => match open_pipe_again() {
                Ok(own) => (Target::Own(Arc::new(own)), Way::Write),
                Err(_) => (Target::Stderr, Way::Ask),
            },
            _ => (Target::Stderr, Way::Ask),
        };
        Output { fd, way, disk: kind == FileType::RegularFile, journal, rest: Vec::new() }
    }

    /// A file to append to; created readable for its owner only.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        // NONBLOCK for a FIFO or terminal given as log file.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
        let kind = fstat(&fd).map_or(FileType::Unknown, |s| FileType::from_raw_mode(s.st_mode));
        let (fd, disk) = (Target::Own(Arc::new(fd)), kind == FileType::RegularFile);
        Ok(Output { fd, way: Way::Write, disk, journal: false, rest: Vec::new() })
    }

    /// Whether writing may have to wait for a disk.
    pub(super) fn is_disk_file(&self) -> bool {
        self.disk
    }

    /// Whether it is the service manager's journal.
    pub(super) fn is_journal(&self) -> bool {
        self.journal
    }

    /// Writes a line, whose text is printable; what may have to wait is done `aside`, where there is one. False if it
    /// is lost.
    pub(super) fn write(&mut self, now: SystemTime, level: Level, text: &str, aside: Option<&Aside>) -> bool {
        if !self.rest.is_empty() && !self.write_rest(aside) {
            return false;
        }
        let line = match self.journal {
            true => line::for_journal(level, text),
            false => line::stamped(now, level, text),
        };
        match self.write_bytes(line.into_bytes(), aside) {
            Ok(rest) => {
                self.rest = rest;
                true
            }
            Err(_) => false,
        }
    }

    fn write_rest(&mut self, aside: Option<&Aside>) -> bool {
        let rest = mem::take(&mut self.rest);
        match self.write_bytes(rest.clone(), aside) {
            Ok(left) => self.rest = left,
            Err(_) => self.rest = rest,
        }
        self.rest.is_empty()
    }

    /// Returns what has not been written. An error: nothing has.
    fn write_bytes(&self, bytes: Vec<u8>, aside: Option<&Aside>) -> Result<Vec<u8>, Errno> {
        let (fd, way) = (self.fd.clone(), self.way);
        let work = move || write_some(fd.fd(), way, bytes);
        match aside.filter(|_| self.disk) {
            None => work(),
            Some(aside) => match aside.run(work) {
                Asked::Done(result) => result,
                // It will be written when the disk answers.
                Asked::Late => Ok(Vec::new()),
                Asked::Busy => Err(Errno::AGAIN),
            },
        }
    }
}

fn write_some(fd: BorrowedFd<'_>, way: Way, mut bytes: Vec<u8>) -> Result<Vec<u8>, Errno> {
    let count = rustix::io::retry_on_intr(|| match way {
        Way::Write => rustix::io::write(fd, &bytes),
        Way::Send => rustix::net::send(fd, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        Way::Ask if !is_writable(fd)? => Err(Errno::AGAIN),
        Way::Ask => rustix::io::write(fd, &bytes),
    })?;
    bytes.drain(..count.min(bytes.len()));
    Ok(bytes)
}

fn open_pipe_again() -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open("/proc/self/fd/2", flags, Mode::empty())?)
}

fn is_writable(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(fds.iter().all(|fd| fd.revents().contains(PollFlags::OUT)))
}

/// Whether the file is the one that the service manager connected to the journal.
fn is_journal(stream: Option<&str>, stat: &Stat) -> bool {
    let parts = stream.and_then(|s| s.split_once(':'));
    let parts = parts.and_then(|(dev, ino)| Some((dev.parse().ok()?, ino.parse().ok()?)));
    parts == Some((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
impl Output {
    /// A pipe or socket of a test, which is in non-blocking mode.
    pub(super) fn own(fd: OwnedFd) -> Self {
        Output { fd: Target::Own(Arc::new(fd)), way: Way::Write, disk: false, journal: false, rest: Vec::new() }
    }

    /// One that has to be waited for, as a file on a disk that does not answer.
    pub(super) fn slow(fd: OwnedFd) -> Self {
        Output { disk: true, ..Output::own(fd) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let (a, _b) = UnixStream::pair().unwrap();
        let stat = fstat(&a).unwrap();
        assert!(is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino)), &stat));
        assert!(!is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino + 1)), &stat));
        for wrong in [None, Some(""), Some("1"), Some("x:y")] {
            assert!(!is_journal(wrong, &stat));
        }
    }

    #[test]
    fn a_log_file_is_appended_to_and_created_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for text in ["one", "two"] {
            let mut output = Output::file(&path).unwrap();
            assert!(output.write(SystemTime::UNIX_EPOCH, Level::Warn, text, None));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "0.000000: warning: one\n0.000000: warning: two\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        assert_eq!(Output::file(&dir.path().join("no/log")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_time() {
        for way in [Way::Send, Way::Ask] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut output = Output { way, journal: true, ..Output::own(ours.into()) };
            let text = "x".repeat(1000);
            let mut written = 0;
            while output.write(SystemTime::UNIX_EPOCH, Level::Warn, &text, None) {
                written += 1;
                assert!(written < 100_000, "the socket never fills");
            }
            // What came through is whole lines, also after the reader has come back.
            theirs.set_nonblocking(true).unwrap();
            let mut got = Vec::new();
            let _ = theirs.read_to_end(&mut got);
            assert!(output.write(SystemTime::UNIX_EPOCH, Level::Warn, "last", None));
            let _ = theirs.read_to_end(&mut got);
            let got = String::from_utf8(got).unwrap();
            assert_eq!(got.lines().count(), written + 1);
            assert!(got.lines().all(|line| line == "<4>last" || line == format!("<4>{text}")));
            assert!(got.ends_with("<4>last\n"));
        }
    }
}
