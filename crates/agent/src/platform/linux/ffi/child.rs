//! Children on their way to be other programs.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::sync::OnceLock;
use std::{io, process, ptr};

use rustix::process::{Pid, WaitOptions, waitpid};

use super::exit_now;
use crate::platform::linux::child::{give_up_favour, is_favoured};

/// Makes the child that `command` starts begin afresh: in a session (and so a process group) of its own, with every
/// signal at its default and none blocked, without any descriptor of ours but its three standard ones, and not spared
/// when memory runs out.
///
/// The daemon blocks the signals that it reads from a descriptor and ignores SIGPIPE; both would be inherited.
pub fn start_afresh(command: &mut process::Command) {
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe work is allowed: see begin_afresh.
    unsafe {
        command.pre_exec(|| {
            begin_afresh(ALL_SIGNALS)?;
            give_up_favour();
            Ok(())
        });
    }
}

/// A set of signals: bit N - 1 is signal N.
type Signals = u64;

const ALL_SIGNALS: Signals = Signals::MAX;

/// Every signal whose disposition is not the default: those that somebody ignores, and those with a handler. Nothing here
/// changes one after the first program has been started, so they are looked for once. To reset all 64 in each child
/// takes 11 of the 80 us that the kernel needs for a program that does nothing.
fn changed_signals() -> Signals {
    static CHANGED: OnceLock<Signals> = OnceLock::new();
    *CHANGED.get_or_init(|| {
        let is_changed = |signal: &u32| {
            let Ok(number) = libc::c_int::try_from(*signal) else { return false };
            // SAFETY: the structure is plain data, for which all zeros are a value; the call writes one such structure to
            // where it is told, and changes nothing.
            let (rc, old) = unsafe {
                let mut old: libc::sigaction = std::mem::zeroed();
                (libc::sigaction(number, ptr::null(), &mut old), old)
            };
            rc == 0 && old.sa_sigaction != libc::SIG_DFL
        };
        (1..=Signals::BITS).filter(is_changed).fold(0, |set, signal| set | 1 << (signal - 1))
    })
}

/// What [`start_afresh`] promises of session, signals and descriptors, done by the child itself. `signals` are those whose
/// disposition is not the default.
///
/// # Safety
/// For a child before it becomes a program. Makes system calls on values of its own stack and neither allocates nor
/// takes a lock, so it may run in a child that shares our memory, or has lost our other threads.
unsafe fn begin_afresh(signals: Signals) -> io::Result<()> {
    // SAFETY: as above.
    unsafe {
        if libc::setsid() == -1 {
            return Err(io::Error::last_os_error());
        }
        // Numbers that cannot be set (SIGKILL, SIGSTOP, the C library's own 32 and 33) are refused; that is fine.
        for signal in (1..=64).filter(|signal| signals >> (signal - 1) & 1 != 0) {
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
    }
    Ok(())
}

/// Gives the calling thread a table of descriptors of its own, in which those from `first` on are not. They are not
/// closed: the other threads still have them. Does nothing on kernels before 5.9.
///
/// For a thread that ends soon after and uses no descriptor from `first` on; what it opens itself is seen by no other.
pub(in crate::platform::linux) fn leave_descriptors(first: u32) {
    // SAFETY: the call has no memory preconditions. No descriptor is closed under somebody who owns it: with
    // CLOSE_RANGE_UNSHARE only the table of this thread changes.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
}

/// What a child becomes: files that are tried in turn, arguments, environment. Made before the fork, because nothing
/// can be allocated after it.
#[derive(Debug)]
pub struct Image {
    files: Vec<CString>,
    /// What the pointers below point into; never read by itself.
    _strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    /// Arguments of the shell for a file that the kernel cannot run; the second place is for the file.
    shell_argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

// SAFETY: the pointers point into strings that the image owns, which move with it (their bytes stay where they are)
// and are not written to.
unsafe impl Send for Image {}
// SAFETY: as above; nothing behind a shared reference changes.
unsafe impl Sync for Image {}

impl Image {
    /// `argv` begins with the program's own name. The environment is exactly `envp`.
    pub fn new(files: Vec<CString>, argv: Vec<CString>, envp: Vec<CString>) -> Self {
        let pointers = |strings: &[CString]| strings.iter().map(|string| string.as_ptr()).collect::<Vec<_>>();
        let ended = |mut list: Vec<_>| {
            list.push(ptr::null());
            list
        };
        let mut shell_argv = vec![SHELL.as_ptr(), ptr::null()];
        shell_argv.extend(pointers(argv.get(1..).unwrap_or_default()));
        Image {
            files,
            shell_argv: ended(shell_argv),
            argv: ended(pointers(&argv)),
            envp: ended(pointers(&envp)),
            _strings: argv.into_iter().chain(envp).collect(),
        }
    }

    /// Becomes the first of the files that can be run. Comes back only with the reason why none could. Makes system
    /// calls and nothing else.
    fn become_it(&mut self) -> io::Error {
        let (mut refused, mut last) = (false, libc::ENOENT);
        for file in &self.files {
            // SAFETY: all arrays end with a null pointer and hold pointers to C strings that live as long as `self`.
            unsafe { libc::execve(file.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
            last = io::Error::last_os_error().raw_os_error().unwrap_or_default();
            if last == libc::ENOEXEC {
                if let Some(place) = self.shell_argv.get_mut(1) {
                    *place = file.as_ptr();
                }
                // SAFETY: as above.
                unsafe { libc::execve(SHELL.as_ptr(), self.shell_argv.as_ptr(), self.envp.as_ptr()) };
            }
            match last {
                libc::EACCES => refused = true,
                // Not here; perhaps in the next directory.
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                _ => return io::Error::from_raw_os_error(last),
            }
        }
        io::Error::from_raw_os_error(if refused { libc::EACCES } else { last })
    }
}

const SHELL: &CStr = c"/bin/sh";

/// Address space for a child until it is another program.
const CHILD_STACK: usize = 64 << 10;

/// Starts `image` as [`start_afresh`] describes, with these standard streams, and returns its process id. None of our
/// descriptors from `apart` on is even for a moment the child's: to close its copy of a file on a server that does
/// not answer would hang.
///
/// The child borrows our memory until it is another program, and this thread waits for that: nothing is copied, and no
/// thread is made for it. Of the 1.5 ms from a request to the result of a program that does nothing, a copy of the
/// process made on a thread with a table of descriptors of its own was 0.6 ms.
///
/// # Errors
/// Why there can be no process, or why it cannot become `image`.
pub fn start_image(image: &mut Image, streams: [BorrowedFd<'_>; 3], apart: u32) -> io::Result<Pid> {
    struct Plan<'a> {
        image: &'a mut Image,
        streams: [RawFd; 3],
        apart: u32,
        signals: Signals,
        is_favoured: bool,
        /// The child's last words.
        failed: libc::c_int,
    }
    extern "C" fn begin(plan: *mut libc::c_void) -> libc::c_int {
        // SAFETY: it is the plan below, which nobody else touches while this runs.
        let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
        // SAFETY: this is a child before it becomes a program.
        let failed = match unsafe { take_over(plan.streams, plan.apart).and_then(|()| begin_afresh(plan.signals)) } {
            Ok(()) => {
                if plan.is_favoured {
                    give_up_favour();
                }
                plan.image.become_it()
            }
            Err(error) => error,
        };
        plan.failed = failed.raw_os_error().unwrap_or(libc::EIO);
        exit_now(127)
    }
    let streams = streams.map(|fd| fd.as_raw_fd());
    // (Asked here: the kernel has the names of our own files below /proc at hand, and would make those of each child,
    // which takes 8 us.)
    let (signals, is_favoured) = (changed_signals(), is_favoured());
    let mut plan = Plan { image, streams, apart, signals, is_favoured, failed: 0 };
    let mut stack = Vec::<u8>::with_capacity(CHILD_STACK);
    let all_signals = u64::MAX;
    let mut before = 0_u64;
    // SAFETY: with CLONE_VFORK this thread stands still while the child uses the plan and the stack, which is its
    // own and large enough for system calls. Signals wait meanwhile, so that no handler of ours runs in the child; it
    // does nothing but what begin_afresh and Image::become_it promise. The masks are 64 bits wide, as the kernel's.
    let pid = unsafe {
        let mask = |how: libc::c_int, new: *const u64, old: *mut u64| {
            libc::syscall(libc::SYS_rt_sigprocmask, how, new, old, 8_usize)
        };
        mask(libc::SIG_BLOCK, &all_signals, &mut before);
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
        let top = stack.as_mut_ptr().add(CHILD_STACK).cast();
        let pid = libc::clone(begin, top, flags, ptr::from_mut(&mut plan).cast());
        let error = io::Error::last_os_error();
        mask(libc::SIG_SETMASK, &before, ptr::null_mut());
        Pid::from_raw(pid).filter(|_| pid > 0).ok_or(error)?
    };
    // SAFETY: the plan is there; the compiler does not see who else has written to it.
    match unsafe { ptr::read_volatile(&plan.failed) } {
        0 => Ok(pid),
        failed => {
            let _ = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
            Err(io::Error::from_raw_os_error(failed))
        }
    }
}

/// Gives a child that shares our table of descriptors one of its own, and its standard streams.
///
/// # Safety
/// As [`begin_afresh`].
unsafe fn take_over(streams: [RawFd; 3], apart: u32) -> io::Result<()> {
    // SAFETY: as above. With CLOSE_RANGE_UNSHARE only the table of this process changes.
    unsafe {
        let is_apart = |fd: &RawFd| fd.unsigned_abs() >= apart;
        // With so many descriptors that the streams come to lie among the files there is no telling them apart. Kernels
        // before 5.9 do not know the call.
        let whole = streams.iter().any(is_apart)
            || libc::syscall(libc::SYS_close_range, apart, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) == -1;
        if whole && libc::unshare(libc::CLONE_FILES) == -1 {
            return Err(io::Error::last_os_error());
        }
        for (target, fd) in (0..).zip(streams) {
            if libc::dup2(fd, target) == -1 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
