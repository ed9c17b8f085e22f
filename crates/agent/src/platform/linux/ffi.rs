//! All unsafe code of the agent: calls into the C library that `rustix` does not cover.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::SystemTime;

/// Keeps memory small after large messages: blocks of 128 KiB and above go back to the system when freed, and
/// threads share one arena. Without this glibc raises the first limit by itself and 50 to 76 MB stay behind.
pub fn tune_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers and has no memory preconditions.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Which side of a [`fork`] this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The caller.
    Parent,
    /// The copy.
    Child,
}

/// Splits the process in two.
///
/// # Errors
/// The kernel's, and `EBUSY` if the process has more than one thread: the child would keep the locks of threads that
/// it does not have.
pub fn fork() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: the process has one thread (checked above where /proc is there, and promised by the callers where not),
    // so the child is a whole copy, with no lock held by a thread that is missing in it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        _ => Ok(Fork::Parent),
    }
}

/// Ends the process at once: no destructor runs and no thread is waited for, stuck ones included.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Blocks the signals for this thread and those it starts, and gives a descriptor (close-on-exec, non-blocking) that
/// they are read from, as `signalfd_siginfo` structures.
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set it is given; sigaddset and the two calls after it get that initialised
    // set; a null pointer for the old mask is allowed.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            if libc::sigaddset(set.as_mut_ptr(), *signal) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let failed = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd succeeded, so fd is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the calling thread only.
#[cfg(test)]
pub(crate) fn raise(signal: i32) {
    // SAFETY: raise has no memory preconditions.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// Size of what a signal descriptor gives for each signal; the first four bytes are the signal's number.
pub const SIGNAL_INFO_SIZE: usize = size_of::<libc::signalfd_siginfo>();

/// Takes over a descriptor that this process was started with, and sets close-on-exec.
///
/// # Errors
/// `EBADF` if it is not open, or is one of the standard three.
pub(crate) fn inherited_fd(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: fcntl on a number that is no open descriptor fails and does nothing else.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open. The caller's part of the bargain, as told by the name: it came from whoever
    // started us (`LISTEN_FDS`), is taken over once, and so nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Removes a variable from the environment. To be called before any other thread runs.
pub fn remove_env(name: &str) {
    // SAFETY: no other thread runs yet (the agent calls this first thing in main), so nobody reads the environment at
    // the same time.
    unsafe { std::env::remove_var(name) }
}

/// Local time, as syslog lines carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// 0 to 11.
    pub month: usize,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 60.
    pub second: u32,
}

/// The local time of a moment; None if it cannot be told.
pub fn local_time(at: SystemTime) -> Option<LocalTime> {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let seconds = libc::time_t::try_from(seconds).ok()?;
    let mut parts = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are valid; localtime_r writes the structure and answers null when it did not.
    let parts = unsafe {
        if libc::localtime_r(&seconds, parts.as_mut_ptr()).is_null() {
            return None;
        }
        parts.assume_init()
    };
    let number = |n: libc::c_int| u32::try_from(n).ok();
    Some(LocalTime {
        month: usize::try_from(parts.tm_mon).ok()?,
        day: number(parts.tm_mday)?,
        hour: number(parts.tm_hour)?,
        minute: number(parts.tm_min)?,
        second: number(parts.tm_sec)?,
    })
}

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
