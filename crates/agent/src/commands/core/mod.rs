//! The commands that every conversation begins with.

mod info;
mod ping;
mod sync;
mod sync_delimited;
