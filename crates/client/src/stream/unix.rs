//! A unix socket, such as the one QEMU puts behind a port (`-chardev socket,path=...`).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::getpid;

use super::occupancy::Occupancy;
use super::{Stream, socket};
use crate::deadline::Deadline;
use crate::error::{Channel, is_libvirts};
use crate::transport::Chunks;

/// How long to wait before a full queue of connections is tried again: the kernel has no event for it.
const QUEUE_RETRY: Duration = Duration::from_millis(20);

/// A connected unix socket.
#[derive(Debug)]
pub struct Unix {
    socket: OwnedFd,
    path: PathBuf,
    /// Whether the agent itself is at the other end, and no port of a machine between.
    is_direct: bool,
}

impl Unix {
    /// Connects to the socket at `path`.
    ///
    /// QEMU serves one client at a time and lets others wait. The socket of a machine of libvirt's that libvirt has
    /// open is left alone: whoever waits there gets the agent when libvirt is restarted, and libvirt loses it.
    ///
    /// # Errors
    /// What the system says; [`TimedOut`](io::ErrorKind::TimedOut) when the listener's queue stays full;
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) when libvirt has it.
    pub fn connect(path: &Path, deadline: Deadline) -> io::Result<Self> {
        if is_libvirts(path) && Occupancy::of(path).served > 0 {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        loop {
            match connect(&socket, &address) {
                Ok(()) => {
                    let is_direct = is_agent(&socket);
                    return Ok(Unix { socket, path: path.to_owned(), is_direct });
                }
                Err(Errno::AGAIN) if deadline.is_over() => return Err(io::ErrorKind::TimedOut.into()),
                Err(Errno::AGAIN) => sleep(QUEUE_RETRY.min(deadline.left())),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Stream for Unix {
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> io::Result<()> {
        socket::send_all(&self.socket, bytes, deadline)
    }

    fn receive(&mut self, buffer: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        socket::receive(&self.socket, buffer, deadline)
    }

    fn held(&self) -> Option<Channel> {
        let occupancy = Occupancy::of(&self.path);
        (occupancy.served > 0 && occupancy.waiting > 0).then(|| Channel::Unix(self.path.clone()))
    }

    fn chunks(&self) -> Chunks {
        // Through a port the C agent loses answers when more requests come in while it writes them.
        Chunks { read: 1 << 20, write: 1 << 20, ahead: if self.is_direct { 2 } else { 1 } }
    }
}

/// Whether the process at the other end is an agent, or this one.
fn is_agent(socket: &OwnedFd) -> bool {
    let Ok(peer) = socket_peercred(socket) else { return false };
    let name = std::fs::read_to_string(format!("/proc/{}/comm", peer.pid.as_raw_nonzero()));
    peer.pid == getpid() || name.is_ok_and(|name| name.trim_end() == "qemu-ga")
}
