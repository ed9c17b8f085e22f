//! All unsafe code of the agent: calls into the C library that `rustix` does not cover.
#![allow(unsafe_code)]

mod child;
mod compare;
mod copy;
mod heap;

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::{io, mem, ptr};

use rustix::io::Errno;
use rustix::ioctl::{self, opcode};

pub(super) use child::leave_descriptors;
pub use child::{Image, start_afresh, start_image};
pub use heap::Heap;

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

/// `NETLINK_GET_STRICT_CHK`: dumps are of what the request names, and not of everything.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 4.20.
pub(super) fn set_strict_dumps(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the kernel reads one int.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_GET_STRICT_CHK,
            ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
#[cfg(all(test, target_env = "gnu"))]
pub(crate) fn c_strerror(errno: i32) -> String {
    let mut buf: [libc::c_char; 256] = [0; 256];
    // SAFETY: the buffer is writable for its whole length, and XSI strerror_r ends what it writes with a NUL
    // within that length, whether it knows the number or not.
    unsafe {
        libc::strerror_r(errno, buf.as_mut_ptr(), buf.len());
        std::ffi::CStr::from_ptr(buf.as_ptr()).to_string_lossy().into_owned()
    }
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

/// Lets ended children be asked for their status, also when we were started by somebody who ignores SIGCHLD. To be
/// called before any child is started.
pub fn keep_ended_children() {
    // SAFETY: signal has no memory preconditions, and SIGCHLD has no handler of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}
