//! All unsafe code of the agent: calls into the C library that `rustix` does not cover.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{io, mem};

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

/// Ends the process at once: no destructor, no exit handler, no waiting for a thread that hangs.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}
