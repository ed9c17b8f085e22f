//! The guardian: a process of its own that thaws when the agent cannot.
//!
//! The agent starts it before it freezes anything, from its own program, and gives it the descriptors of all file
//! systems, a deadline, and a word before and after each freeze and each hook. So the guardian knows at any time what
//! has to be undone, and does so
//!
//! - at the deadline;
//! - when the agent is gone and no other one has taken over within [`GRACE`];
//! - when it is told to end.
//!
//! It thaws in reverse order, and only what the agent froze. When nobody else is there to do so it also runs the hooks
//! with `thaw`, after that. Until then it touches no disk: its memory is locked, and nothing is opened or allocated
//! from when the first file system may be frozen.
//!
//! [`client`] is the agent's end, [`process`] the guardian itself, [`message`] what they say to each other.

pub mod client;
pub mod message;
pub mod process;

use std::time::Duration;

pub use self::client::{Client, Ending, TakeOver, Taken};
pub use self::message::Reason;

/// The first argument of a guardian. No option of the agent's looks like it.
pub const ARGUMENT: &str = "(guardian of frozen file systems)";

/// How long a frozen set waits for another agent after its own is gone.
pub const GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
