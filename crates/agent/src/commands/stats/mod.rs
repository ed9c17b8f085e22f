//! Counters of disks and processors, and the load.

pub mod get_cpustats;
pub mod get_diskstats;
pub mod get_load;
