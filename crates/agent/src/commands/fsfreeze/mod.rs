//! Freezing file systems for a snapshot, and trimming them.

pub mod freeze;
pub mod freeze_list;
pub mod status;
pub mod thaw;
pub mod trim;
