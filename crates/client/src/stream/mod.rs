//! Channels that carry bytes.

mod occupancy;
mod poll;
mod serial;
mod socket;
mod unix;
mod vsock;

use std::fmt;
use std::io;

pub use serial::Serial;
pub use unix::Unix;
pub use vsock::Vsock;

use crate::deadline::Deadline;
use crate::error::Channel;
use crate::transport::Chunks;

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

    /// The channel, when another program has it and this one only waits for its turn, as far as that can be told.
    fn held(&self) -> Option<Channel> {
        None
    }

    /// How many bytes of a file should go into one request.
    fn chunks(&self) -> Chunks {
        Chunks { read: 1 << 20, write: 1 << 20, ahead: 2 }
    }
}
