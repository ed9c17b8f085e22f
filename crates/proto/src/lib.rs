//! The QEMU guest agent protocol, without any input or output of its own.
//!
//! The agent, the client and the fuzzers share this crate: [`frame`] cuts a byte stream into messages, [`json`]
//! reads and writes QEMU's dialect of JSON, [`bind`] turns a parsed object into typed arguments with QAPI's
//! exact complaints, [`envelope`] knows requests and replies, and [`types`] has the commands.
#![forbid(unsafe_code)]

pub mod base64;
pub mod bind;
pub mod command;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod json;
mod lanes;
pub mod types;

pub use command::Command;
pub use error::{Error, ErrorClass};
