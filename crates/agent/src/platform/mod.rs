//! The seam between what a command decides and what a kernel does. Linux is the one kernel so far.

pub mod linux;
