//! Blocking client for the QEMU guest agent.
//!
//! It reaches an agent (this project's or the C one) through a channel of the host and asks it typed or raw
//! questions. Every operation has a deadline, an answer is never taken for the answer to another question, and
//! what a guest sends is bounded, because a guest is not trusted.
//!
//! ```no_run
//! use std::time::Duration;
//! use qga_client::Client;
//! use qga_proto::command::Empty;
//! use qga_proto::types::core::GuestInfo;
//!
//! # fn main() -> Result<(), qga_client::Error> {
//! let mut agent = Client::unix("/run/vm/qga.sock", Duration::from_secs(10))?;
//! let info = agent.call::<GuestInfo>(Empty {})?;
//! println!("an agent like that of QEMU {}", info.version);
//! # Ok(())
//! # }
//! ```
//!
//! The layers, from below: a [`Stream`] carries bytes; [`Wire`] cuts them into replies and keeps questions and
//! answers in step; both together are a [`Transport`], and so would be libvirt, which carries whole messages;
//! [`Client`] knows commands, arguments and errors.
#![forbid(unsafe_code)]

mod client;
mod deadline;
mod error;
mod printable;
mod reply;
pub mod stream;
mod transport;
mod wire;

pub use client::{Client, DEFAULT_TIMEOUT, SILENCE, answers_on_success};
pub use deadline::Deadline;
pub use error::{Blocker, Error, Layer, Monitor};
pub use printable::printable;
pub use stream::Stream;
pub use transport::{Answer, Transport};
pub use wire::{HANDSHAKE_TIMEOUT, REPLY_ITEMS_MAX, REPLY_MAX, Wire};
