//! Disks, and the file systems on them.

pub mod get_disks;
pub mod get_fsinfo;
