//! Giving free blocks back to the device: `FITRIM`.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::ffi::{self, TrimRange};

/// What was done, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    /// The least length of a range, as the file system rounded it.
    pub minimum: u64,
    /// How much was given back.
    pub trimmed: u64,
}

/// Trims all of the file system of an open file or directory, but for free ranges shorter than `minimum` bytes.
/// Takes as long as the device takes: minutes, or for ever while somebody has frozen the file system.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` where the file system or its device has nothing of the kind.
pub fn trim(fd: impl AsFd, minimum: u64) -> Result<Trimmed, Errno> {
    let mut range = TrimRange { start: 0, len: u64::MAX, minlen: minimum };
    ffi::fitrim(fd.as_fd(), &mut range)?;
    Ok(Trimmed { minimum: range.minlen, trimmed: range.len })
}
