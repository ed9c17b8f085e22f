//! What carries a request to an agent and its reply back.

use std::fmt;

use crate::deadline::Deadline;
use crate::error::Error;
use crate::reply::Reply;

/// What one request led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A reply, as the agent sent it: an object with `return` or `error`.
    Reply(Reply),
    /// The other end closed the channel after it had got the request: what a machine that goes down does.
    Closed,
    /// Nothing came until the deadline. The transport is responsible for never handing out that reply later.
    Nothing,
}

/// Carries one request at a time to an agent.
///
/// Implemented by [`Wire`](crate::Wire) for everything that carries bytes. An engine that carries whole messages,
/// such as [`Libvirt`](crate::Libvirt), implements it directly.
pub trait Transport: fmt::Debug + Send {
    /// Sends one request, a JSON object and a line end, and waits for what answers it.
    ///
    /// # Errors
    /// Everything that kept the request from being sent, or a reply that is none. A command that failed is no error
    /// here but an [`Answer::Reply`].
    fn exchange(&mut self, request: &[u8], deadline: Deadline) -> Result<Answer, Error>;

    /// Sends one request ahead: the reply is [taken](Self::take) later. Replies come in the order of the requests. The
    /// next [`exchange`](Self::exchange) gives up on those that have not been taken.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange). After any of them nothing is under way any more.
    fn ahead(&mut self, request: &[u8], deadline: Deadline) -> Result<(), Error>;

    /// Waits for the answer to the oldest request that was sent ahead. After anything but a reply nothing is under way
    /// any more.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange); [`Error::Malformed`] when nothing was sent ahead.
    fn take(&mut self, deadline: Deadline) -> Result<Answer, Error>;

    /// Takes back the memory of a reply that has been read, for the next one.
    fn reuse(&mut self, _reply: Reply) {}

    /// Is told that the last reply was none: what comes next cannot be trusted to be the answer to the next question.
    fn lose_step(&mut self) {}

    /// How many bytes of a file should go into one request.
    fn chunks(&self) -> Chunks {
        Chunks { read: 1 << 20, write: 1 << 20, ahead: 1 }
    }
}

/// How many bytes of a file a channel carries well in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// In one `guest-file-read`.
    pub read: usize,
    /// In one `guest-file-write`.
    pub write: usize,
    /// How many requests should be under way at the same time, so that the agent works while its last answer travels.
    pub ahead: usize,
}
