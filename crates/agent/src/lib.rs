//! The QEMU guest agent: a small root daemon inside a virtual machine that answers the host.
//!
//! A request goes from the [`channel`] through [`session`] (framing, order, resynchronisation) to [`dispatch`] (the
//! rules that hold for every command), is carried out by one of [`commands`] on a thread of the [`executor`], and
//! touches the kernel under [`platform`] only.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::exit,
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::indexing_slicing
    )
)]

pub mod channel;
pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod dispatch;
pub mod executor;
pub mod guardian;
pub mod log;
pub mod notify;
pub mod persist;
pub mod platform;
pub mod reactor;
pub mod session;
pub mod state;
