//! All unsafe code of the agent: calls into the C library that `rustix` does not cover.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process;
use std::ptr;

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

/// Makes the child that `command` starts begin afresh: in a session (and so a process group) of its own, with every
/// signal at its default and none blocked, and without any descriptor of ours but its three standard ones.
///
/// The daemon blocks the signals that it reads from a descriptor and ignores SIGPIPE; both would be inherited.
pub fn start_afresh(command: &mut process::Command) {
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe work is allowed: it makes system
    // calls on values of its own stack and neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() == -1 {
                return Err(io::Error::last_os_error());
            }
            // Numbers that cannot be set (SIGKILL, SIGSTOP, the C library's own 32 and 33) are refused; that is fine.
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            if libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut()) == -1 {
                return Err(io::Error::last_os_error());
            }
            // Everything we open closes on exec by itself; this is for what we were started with. Kernels before
            // 5.11 do not know the call.
            libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_started_afresh_has_no_signal_blocked_or_ignored() {
        // SAFETY: plain calls on values of this thread's stack; nothing else in the tests uses these two signals.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigaddset(&mut set, libc::SIGHUP);
            assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()), 0);
            libc::signal(libc::SIGUSR2, libc::SIG_IGN);
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        }
        let masks = |status: &str| -> Vec<u64> {
            ["SigBlk:", "SigIgn:"]
                .iter()
                .map(|name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim())
                .map(|mask| u64::from_str_radix(mask, 16).unwrap())
                .collect()
        };
        let ours = masks(&std::fs::read_to_string("/proc/thread-self/status").unwrap());
        assert_eq!(ours[0] & 0x4001, 0x4001);
        assert_eq!(ours[1] & 0x1800, 0x1800);

        let mut command = process::Command::new("/bin/cat");
        command.arg("/proc/self/status");
        start_afresh(&mut command);
        let status = command.output().unwrap().stdout;
        let childs = masks(&String::from_utf8(status).unwrap());
        // (32 and 33 belong to the C library, which leaves them ignored in what its posix_spawn starts.)
        let foreign = 3_u64 << 31;
        assert_eq!([childs[0], childs[1] & !foreign], [0, 0]);
    }
}
