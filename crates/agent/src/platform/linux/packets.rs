//! Unix sockets that keep messages apart and carry descriptors: how the agent and its guardian talk.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

/// How long a message may wait for room at the other end.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// One end of a conversation in messages.
#[derive(Debug)]
pub struct Packets(OwnedFd);

/// A message that came.
#[derive(Debug)]
pub struct Packet {
    /// Its length; 0 is the end of the conversation.
    pub len: usize,
    /// The descriptor that came with it.
    pub fd: Option<OwnedFd>,
}

impl Packets {
    /// Takes over a socket of this kind.
    pub fn new(socket: OwnedFd) -> Self {
        Packets(socket)
    }

    /// Two ends.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn pair() -> Result<(Self, OwnedFd), Errno> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&a, sockopt::Timeout::Send, Some(SEND_LIMIT))?;
        Ok((Packets(a), b))
    }

    /// Waits for others at a name in the abstract name space, which needs no disk. Accepting does not block.
    ///
    /// # Errors
    /// The name is taken, or there is no such address family.
    pub fn listen(name: &[u8]) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
        rustix::net::listen(&socket, 4)?;
        Ok(Packets(socket))
    }

    /// Who connected, after [`Packets::listen`].
    ///
    /// # Errors
    /// Nobody (`EAGAIN`), or no descriptors are left.
    pub fn accept(&self) -> Result<Self, Errno> {
        let socket = rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(SEND_LIMIT))?;
        Ok(Packets(socket))
    }

    /// Connects to a name in the abstract name space.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(name: &[u8]) -> Result<Self, Errno> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(SEND_LIMIT))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
        Ok(Packets(socket))
    }

    /// Whether the other end belongs to root or to our own user.
    pub fn is_trusted(&self) -> bool {
        let ours = rustix::process::geteuid();
        sockopt::socket_peercred(&self.0).is_ok_and(|peer| peer.uid.is_root() || peer.uid == ours)
    }

    /// Sends a message, which is not empty, and a descriptor with it.
    ///
    /// # Errors
    /// The other end is gone (`EPIPE`), or has not read for 5 seconds (`EAGAIN`).
    pub fn send(&self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let fds = fd.as_slice();
        retry_on_intr(|| {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(fds));
            }
            rustix::net::sendmsg(&self.0, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)
        })
        .map(drop)
    }

    /// Takes the next message, waiting for it or not.
    ///
    /// # Errors
    /// There is none (`EAGAIN`).
    pub fn receive(&self, buf: &mut [u8], wait: bool) -> Result<Packet, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let flags = RecvFlags::CMSG_CLOEXEC | if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        retry_on_intr(|| {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let message = rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(buf)], &mut control, flags)?;
            let mut fd = None;
            for part in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = part {
                    fd = fds.last();
                }
            }
            Ok(Packet { len: message.bytes, fd })
        })
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
