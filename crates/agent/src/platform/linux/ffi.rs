//! All unsafe code of the agent: calls into the C library that `rustix` does not cover.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{self, opcode};

/// The C library's text for an error number, in the C locale: `No such file or directory`.
pub fn strerror(errno: i32) -> String {
    let mut buf: [libc::c_char; 256] = [0; 256];
    // SAFETY: the buffer is writable for its whole length, and XSI strerror_r ends what it writes with a NUL
    // within that length.
    let rc = unsafe { libc::strerror_r(errno, buf.as_mut_ptr(), buf.len()) };
    if rc != 0 {
        return format!("Unknown error {errno}");
    }
    // SAFETY: rc is 0, so the buffer holds a NUL-terminated string.
    unsafe { CStr::from_ptr(buf.as_ptr()) }.to_string_lossy().into_owned()
}

/// `FIFREEZE`: writes everything back and stops all writes to the file system of an open file or directory. Blocks
/// until that is done.
pub fn fifreeze(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    const FIFREEZE: ioctl::Opcode = opcode::read_write::<libc::c_int>(b'X', 119);
    // SAFETY: whatever its encoding says, FIFREEZE takes no argument; the kernel reads and writes none of our memory.
    unsafe { ioctl::ioctl(fd, ioctl::NoArg::<FIFREEZE>::new()) }
}

/// `FITHAW`: ends one freeze of the file system of an open file or directory. `EINVAL` where none was.
pub fn fithaw(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    const FITHAW: ioctl::Opcode = opcode::read_write::<libc::c_int>(b'X', 120);
    // SAFETY: whatever its encoding says, FITHAW takes no argument; the kernel reads and writes none of our memory.
    unsafe { ioctl::ioctl(fd, ioctl::NoArg::<FITHAW>::new()) }
}

/// `struct fstrim_range` of the kernel's: lengths in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct TrimRange {
    /// Where to begin.
    pub start: u64,
    /// How far to go; on return, how much was given back.
    pub len: u64,
    /// Free ranges shorter than this are left alone; on return, as the file system rounded it.
    pub minlen: u64,
}

/// `FITRIM`: gives the free blocks of the file system of an open file or directory back to its device.
pub fn fitrim(fd: BorrowedFd<'_>, range: &mut TrimRange) -> Result<(), Errno> {
    const FITRIM: ioctl::Opcode = opcode::read_write::<TrimRange>(b'X', 121);
    // SAFETY: FITRIM reads and writes one `fstrim_range`, which `TrimRange` is laid out as; it is borrowed for the
    // whole call.
    unsafe { ioctl::ioctl(fd, ioctl::Updater::<FITRIM, TrimRange>::new(range)) }
}

/// `LOOP_GET_STATUS64`: `st_dev` and inode number of the file that lies under a loop device.
pub fn loop_file(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    /// `struct loop_info64`, 232 bytes, of which the first two words are the ones asked for.
    type LoopInfo64 = [u64; 29];
    const LOOP_GET_STATUS64: ioctl::Opcode = 0x4C05;
    // SAFETY: LOOP_GET_STATUS64 writes one `loop_info64`; `LoopInfo64` has its size and alignment, and any bytes
    // are a value of it.
    let [device, inode, ..] = unsafe { ioctl::ioctl(fd, ioctl::Getter::<LOOP_GET_STATUS64, LoopInfo64>::new()) }?;
    Ok((device, inode))
}
