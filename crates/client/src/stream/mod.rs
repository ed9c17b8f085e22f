//! Channels that carry bytes.

mod unix;

use std::fmt;
use std::io;

pub use unix::Unix;

use crate::deadline::Deadline;

/// A two-way byte stream whose every operation has a deadline.
pub trait Stream: fmt::Debug + Send {
    /// Sends all bytes.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut) when the deadline is over, in which case a part may have been sent;
    /// otherwise what the system says.
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> io::Result<()>;

    /// Receives some bytes: at least one, or 0 when the other end has closed the stream. A deadline that is over
    /// already still takes what has arrived.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut) when nothing came; otherwise what the system says.
    fn receive(&mut self, buffer: &mut [u8], deadline: Deadline) -> io::Result<usize>;
}
