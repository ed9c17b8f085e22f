//! The commands: their arguments and results, one module a family. The documentation here is the users' too.
//!
//! Names of members are the schema's; a member that may be absent is an `Option` that is skipped when it is
//! `None`. Order of the fields is the order of the schema, because the first wrong one is the one complained about.

pub mod account;
pub mod core;
pub mod cpu;
pub mod exec;
pub mod file;
pub mod fsfreeze;
pub mod memory;
pub mod network;
pub mod power;
pub mod ssh;
pub mod stats;
pub mod storage;
pub mod system;
pub mod time;
