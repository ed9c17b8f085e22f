//! Blocking client for the QEMU guest agent.
//!
//! It reaches an agent (this project's or the C one) through a channel of the host and asks it typed or raw
//! questions. Every operation has a deadline, an answer is never taken for the answer to another question, and
//! what a guest sends is bounded, because a guest is not trusted.
//!
//! ```
//! use std::time::Duration;
//! use qga_client::{Client, Error};
//! use qga_proto::command::Empty;
//! use qga_proto::types::core::GuestInfo;
//!
//! fn version(socket: &str) -> Result<String, Error> {
//!     let mut agent = Client::unix(socket, Duration::from_secs(10))?;
//!     Ok(agent.call::<GuestInfo>(Empty {})?.version)
//! }
//!
//! # let guest = qga_testkit::fake::Agent::start(&[("guest-info", r#"{"version": "11.1.3", "supported_commands": []}"#)]);
//! # let path = guest.path();
//! # let socket = path.to_str().unwrap();
//! assert_eq!(version(socket)?, "11.1.3");
//!
//! // Every error says how far the question came, and most of them what to do about it.
//! let error = version("/nowhere/qga.sock").unwrap_err();
//! assert_eq!(error.layer().name(), "channel");
//! assert_eq!(error.to_string(), "no such socket: /nowhere/qga.sock");
//! # Ok::<(), Error>(())
//! ```
//!
//! [`Client::unix`], [`Client::vsock`], [`Client::serial`] and [`Client::libvirt`] open the channels there are;
//! [`GuestFile`], [`Exec`] and [`freeze`] do what takes more than one command.
//!
//! The layers, from below: a [`Stream`] carries bytes; [`Wire`] cuts them into replies and keeps questions and
//! answers in step; both together are a [`Transport`], and so is [`Libvirt`], which carries whole messages;
//! [`Client`] knows commands, arguments and errors.
#![forbid(unsafe_code)]

mod ahead;
mod client;
mod deadline;
mod error;
mod exec;
mod file;
pub mod freeze;
mod libvirt;
mod printable;
mod random;
mod reply;
pub mod stream;
mod transport;
mod wire;

pub use ahead::{ReadAhead, WriteAhead};
pub use client::{Client, DEFAULT_TIMEOUT, SILENCE, VSOCK_PORT, answers_on_success};
pub use deadline::Deadline;
pub use error::{Blocker, Channel, Error, Layer, Monitor};
pub use exec::{Ending, Exec, Finished, Heard, KEEP, Process, Remote, Running};
pub use file::{GuestFile, Piece};
pub use libvirt::Libvirt;
pub use printable::printable;
pub use reply::{AgentError, Reply};
pub use stream::Stream;
pub use transport::{Answer, Chunks, Transport};
pub use wire::{HANDSHAKE_TIMEOUT, REPLY_ITEMS_MAX, REPLY_MAX, Wire};
