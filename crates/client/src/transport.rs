//! What carries a request to an agent and its reply back.

use std::fmt;

use serde_json::Value;

use crate::deadline::Deadline;
use crate::error::Error;

/// What one request led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A reply, as the agent sent it: an object with `return` or `error`.
    Reply(Value),
    /// The other end closed the channel after it had got the request: what a machine that goes down does.
    Closed,
    /// Nothing came until the deadline. The transport is responsible for never handing out that reply later.
    Nothing,
}

/// Carries one request at a time to an agent.
///
/// Implemented by [`Wire`](crate::Wire) for everything that carries bytes. An engine that carries whole messages,
/// such as libvirt, implements it directly.
pub trait Transport: fmt::Debug + Send {
    /// Sends one request, a JSON object and a line end, and waits for what answers it.
    ///
    /// # Errors
    /// Everything that kept the request from being sent, or a reply that is none. A command that failed is no error
    /// here but an [`Answer::Reply`].
    fn exchange(&mut self, request: &[u8], deadline: Deadline) -> Result<Answer, Error>;
}
