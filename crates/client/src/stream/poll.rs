//! Waiting for a descriptor, with a deadline.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::deadline::Deadline;

/// Waits until a descriptor is ready for `what`, or broken.
pub(crate) fn wait(descriptor: &OwnedFd, what: PollFlags, deadline: Deadline) -> io::Result<()> {
    loop {
        if deadline.is_over() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match poll(&mut [PollFd::new(descriptor, what)], Some(&deadline.timespec())) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
