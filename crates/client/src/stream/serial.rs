//! A serial line, or the pty that QEMU puts behind one (`-chardev pty`).

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::{Errno, read, write};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::Stream;
use super::poll::wait;
use crate::deadline::Deadline;
use crate::transport::Chunks;

/// How long to wait before a line that another program has is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// An open serial line in raw mode.
///
/// A line does not tell whether anybody is at its other end: an agent that is gone is an agent that is silent.
#[derive(Debug)]
pub struct Serial {
    line: OwnedFd,
}

impl Serial {
    /// Opens the line at `path` and switches off everything a terminal does to bytes. Its speed is left alone.
    ///
    /// Two programs on one line would get parts of each other's answers, so it is locked, with `flock`, as long as it is
    /// open.
    ///
    /// # Errors
    /// What the system says; [`TimedOut`](io::ErrorKind::TimedOut) when another program has it locked until the
    /// deadline.
    pub fn open(path: &Path, deadline: Deadline) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let line = open(path, flags, Mode::empty())?;
        loop {
            match flock(&line, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::AGAIN) if deadline.is_over() => return Err(io::ErrorKind::TimedOut.into()),
                Err(Errno::AGAIN) => sleep(LOCK_RETRY.min(deadline.left())),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut settings = tcgetattr(&line)?;
        settings.make_raw();
        tcsetattr(&line, OptionalActions::Now, &settings)?;
        Ok(Serial { line })
    }
}

impl Stream for Serial {
    fn send(&mut self, mut bytes: &[u8], deadline: Deadline) -> io::Result<()> {
        while !bytes.is_empty() {
            match write(&self.line, bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::AGAIN) => wait(&self.line, PollFlags::OUT, deadline)?,
                Err(Errno::INTR) => {}
                // The other end of a pty is gone, and QEMU with it.
                Err(Errno::IO) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        loop {
            match read(&self.line, &mut *buffer) {
                Ok(received) => return Ok(received),
                Err(Errno::AGAIN) => wait(&self.line, PollFlags::IN, deadline)?,
                Err(Errno::INTR) => {}
                Err(Errno::IO) => return Ok(0),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn chunks(&self) -> Chunks {
        // At the usual 115,200 baud a piece takes a second and a half.
        Chunks { read: 12 << 10, write: 12 << 10, ahead: 1 }
    }
}
