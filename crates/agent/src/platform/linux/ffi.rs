//! All unsafe code of the agent: calls into the C library that `rustix` does not cover.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::sync::{PoisonError, RwLock, TryLockError};
use std::time::SystemTime;
use std::{io, mem, process, ptr};

use rustix::io::Errno;
use rustix::ioctl::{self, opcode};
use rustix::process::{Pid, WaitOptions, waitpid};

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

/// Taken for writing while the C library may be reading the time zone from a disk, for which it has a lock of its own.
static ZONE: RwLock<()> = RwLock::new(());

/// The local time of a moment; None if it cannot be told, or not without waiting for [`local_zone`].
pub fn local_time(at: SystemTime) -> Option<LocalTime> {
    let _turn = match ZONE.try_read() {
        Ok(turn) => turn,
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
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

/// Seconds east of UTC and the abbreviation of the zone, as they are at `at` (seconds since 1970); None if the C
/// library cannot tell. A changed `/etc/localtime` is noticed.
pub fn local_zone(at: i64) -> Option<(i64, String)> {
    unsafe extern "C" {
        fn tzset();
    }
    let _turn = ZONE.write().unwrap_or_else(PoisonError::into_inner);
    let at = libc::time_t::try_from(at).ok()?;
    let mut parts = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: tzset has no memory preconditions and takes the C library's own lock; nobody changes the environment
    // while other threads run. Both pointers given to localtime_r are valid; it writes the structure and answers null
    // when it did not. The name it points to is null or a string that the C library keeps: names are never freed.
    unsafe {
        tzset();
        if libc::localtime_r(&at, parts.as_mut_ptr()).is_null() {
            return None;
        }
        let parts = parts.assume_init();
        let zone = if parts.tm_zone.is_null() {
            String::new()
        } else {
            CStr::from_ptr(parts.tm_zone).to_string_lossy().into_owned()
        };
        #[allow(clippy::useless_conversion, reason = "a long of 32 bits on some machines")]
        Some((i64::from(parts.tm_gmtoff), zone))
    }
}

/// `struct rtc_time` of the kernel's. Unused members are zero.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RtcTime {
    /// 0 to 59.
    pub sec: libc::c_int,
    /// 0 to 59.
    pub min: libc::c_int,
    /// 0 to 23.
    pub hour: libc::c_int,
    /// 1 to 31.
    pub mday: libc::c_int,
    /// 0 to 11.
    pub mon: libc::c_int,
    /// Years since 1900.
    pub year: libc::c_int,
    /// 0 (Sunday) to 6; drivers that need it are few.
    pub wday: libc::c_int,
    /// Not used by the kernel.
    pub yday: libc::c_int,
    /// Not used by the kernel.
    pub isdst: libc::c_int,
}

/// `RTC_RD_TIME`: what an open hardware clock shows.
pub fn rtc_read(fd: BorrowedFd<'_>) -> Result<RtcTime, Errno> {
    const RTC_RD_TIME: ioctl::Opcode = opcode::read::<RtcTime>(b'p', 9);
    // SAFETY: RTC_RD_TIME writes one `rtc_time`, which `RtcTime` is laid out as; any bytes are a value of it.
    unsafe { ioctl::ioctl(fd, ioctl::Getter::<RTC_RD_TIME, RtcTime>::new()) }
}

/// `RTC_SET_TIME`: sets an open hardware clock.
pub fn rtc_set(fd: BorrowedFd<'_>, time: RtcTime) -> Result<(), Errno> {
    const RTC_SET_TIME: ioctl::Opcode = opcode::write::<RtcTime>(b'p', 10);
    // SAFETY: RTC_SET_TIME reads one `rtc_time`, which `RtcTime` is laid out as; it lives as long as the call.
    unsafe { ioctl::ioctl(fd, ioctl::Setter::<RTC_SET_TIME, RtcTime>::new(time)) }
}

/// Overwrites a secret that is not needed any more, in a way that the compiler does not leave out.
pub fn wipe(secret: &mut [u8]) {
    for byte in secret {
        // SAFETY: the reference is valid for a write.
        unsafe { ptr::write_volatile(byte, 0) };
    }
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
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

/// A non-blocking vsock socket that listens at `cid` and `port`.
pub fn vsock_listener(cid: u32, port: u32, backlog: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket() takes no pointers; what it returns is owned by nobody else.
    let fd = unsafe {
        let fd = libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all-zero is a valid sockaddr_vm.
    let mut address: libc::sockaddr_vm = unsafe { mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = cid;
    address.svm_port = port;
    bind(&fd, &address)?;
    rustix::net::listen(&fd, backlog)?;
    Ok(fd)
}

/// A non-blocking socket that becomes readable when the kernel announces a device.
pub fn uevent_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket() takes no pointers; what it returns is owned by nobody else.
    let fd = unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all-zero is a valid sockaddr_nl.
    let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    // The group the kernel itself sends to; group 2 is udev's.
    address.nl_groups = 1;
    bind(&fd, &address)?;
    Ok(fd)
}

/// `T` must be one of the kernel's socket address structures.
fn bind<T>(fd: &OwnedFd, address: &T) -> io::Result<()> {
    let length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer is valid for `length` bytes for the time of the call.
    let rc = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(address).cast(), length) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

/// Bytes in the SMART log page of an NVMe disk.
pub const NVME_SMART_SIZE: usize = 512;

/// `NVME_IOCTL_ADMIN_CMD` with "Get Log Page", for the SMART page of the whole controller.
pub fn nvme_smart_log(fd: BorrowedFd<'_>, page: &mut [u8; NVME_SMART_SIZE]) -> Result<(), Errno> {
    /// `struct nvme_passthru_cmd` of the kernel's.
    #[repr(C)]
    #[derive(Default)]
    struct Passthru {
        opcode: u8,
        flags: u8,
        rsvd1: u16,
        nsid: u32,
        cdw2: u32,
        cdw3: u32,
        metadata: u64,
        addr: u64,
        metadata_len: u32,
        data_len: u32,
        cdw10: u32,
        cdw11: u32,
        cdw12: u32,
        cdw13: u32,
        cdw14: u32,
        cdw15: u32,
        timeout_ms: u32,
        result: u32,
    }
    const NVME_IOCTL_ADMIN_CMD: ioctl::Opcode = opcode::read_write::<Passthru>(b'N', 0x41);
    const WORDS: u32 = NVME_SMART_SIZE as u32 / 4;
    let mut command = Passthru {
        opcode: 0x02,
        nsid: u32::MAX,
        addr: page.as_mut_ptr() as u64,
        data_len: NVME_SMART_SIZE as u32,
        // Which log, "keep asynchronous events", and how many words less one.
        cdw10: 0x02 | 1 << 15 | (WORDS - 1) << 16,
        timeout_ms: 2000,
        ..Passthru::default()
    };
    // SAFETY: `Passthru` is laid out as `nvme_passthru_cmd`, which the ioctl reads and writes. The kernel writes at most
    // `data_len` bytes to `addr`, which is `page`, borrowed for the whole call.
    unsafe { ioctl::ioctl(fd, ioctl::Updater::<NVME_IOCTL_ADMIN_CMD, Passthru>::new(&mut command)) }
}

/// How many of the kernel's clock ticks make a second, in what it tells processes (`_SC_CLK_TCK`).
pub fn ticks_per_second() -> u64 {
    // SAFETY: sysconf takes a number and has no memory preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100)
}

/// Makes the child that `command` starts begin afresh: in a session (and so a process group) of its own, with every
/// signal at its default and none blocked, without any descriptor of ours but its three standard ones, and not spared
/// when memory runs out.
///
/// The daemon blocks the signals that it reads from a descriptor and ignores SIGPIPE; both would be inherited.
pub fn start_afresh(command: &mut process::Command) {
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe work is allowed: see begin_afresh.
    unsafe {
        command.pre_exec(|| begin_afresh());
    }
}

/// What [`start_afresh`] promises, done by the child itself.
///
/// # Safety
/// For a child before it becomes a program. Makes system calls on values of its own stack and neither allocates nor
/// takes a lock, so it may run in a child that shares our memory, or has lost our other threads.
unsafe fn begin_afresh() -> io::Result<()> {
    // SAFETY: as above.
    unsafe {
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
    }
    super::child::give_up_favour();
    Ok(())
}

/// Gives the calling thread a table of descriptors of its own, in which those from `first` on are not. They are not
/// closed: the other threads still have them. Does nothing on kernels before 5.9.
///
/// For a thread that ends soon after and uses no descriptor from `first` on; what it opens itself is seen by no other.
pub(super) fn leave_descriptors(first: u32) {
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
        /// The child's last words.
        failed: libc::c_int,
    }
    extern "C" fn begin(plan: *mut libc::c_void) -> libc::c_int {
        // SAFETY: it is the plan below, which nobody else touches while this runs.
        let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
        // SAFETY: this is a child before it becomes a program.
        let failed = match unsafe { take_over(plan.streams, plan.apart).and_then(|()| begin_afresh()) } {
            Ok(()) => plan.image.become_it(),
            Err(error) => error,
        };
        plan.failed = failed.raw_os_error().unwrap_or(libc::EIO);
        exit_now(127)
    }
    let mut plan = Plan { image, streams: streams.map(|fd| fd.as_raw_fd()), apart, failed: 0 };
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

/// Lets ended children be asked for their status, also when we were started by somebody who ignores SIGCHLD. To be
/// called before any child is started.
pub fn keep_ended_children() {
    // SAFETY: signal has no memory preconditions, and SIGCHLD has no handler of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

#[cfg(test)]
#[path = "ffi/tests.rs"]
mod tests;
