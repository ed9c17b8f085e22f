//! A vsock connection, between a host and a guest without any port or network.

use std::io;
use std::os::fd::OwnedFd;

use vsock::VsockStream;

use super::{Stream, socket};
use crate::deadline::Deadline;

/// A connected vsock socket.
#[derive(Debug)]
pub struct Vsock {
    socket: OwnedFd,
}

impl Vsock {
    /// Connects to a port of the guest with this context identifier. The kernel gives up after two seconds.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(cid: u32, port: u32) -> io::Result<Self> {
        let stream = VsockStream::connect_with_cid_port(cid, port)?;
        stream.set_nonblocking(true)?;
        Ok(Vsock { socket: stream.into() })
    }
}

impl Stream for Vsock {
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> io::Result<()> {
        socket::send_all(&self.socket, bytes, deadline)
    }

    fn receive(&mut self, buffer: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        socket::receive(&self.socket, buffer, deadline)
    }
}
