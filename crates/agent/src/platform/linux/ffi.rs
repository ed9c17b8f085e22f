//! All unsafe code of the agent: calls into the C library that `rustix` does not cover.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process;
use std::ptr;

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

/// Closes a descriptor and tells what the kernel said; some file systems report lost data only here.
pub fn close(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor was owned and is given up here, so nobody uses or closes it afterwards.
    match unsafe { libc::close(fd.into_raw_fd()) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // Linux has closed it nevertheless.
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
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
