//! Where hosts come from: a serial port that is one conversation, or a listening socket with one for each client.

pub mod isa_serial;
pub mod unix;
pub mod virtio_serial;
pub mod vsock;

use std::path::{Path, PathBuf};

use qga_proto::error::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

use crate::config::Config;
use crate::platform::linux::errno::ErrnoText;

/// Largest reply on a serial port where nothing else is configured, in bytes. libvirt drops an agent for good at 10 MiB.
const PORT_REPLY_MAX: usize = 8 << 20;

/// A source of conversations.
#[derive(Debug)]
pub enum Channel {
    /// A serial port.
    Port(Port),
    /// A listening socket.
    Listener(Listener),
}

/// Which kind of serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// A virtio-serial port: tells when the host comes and goes.
    Virtio,
    /// A UART, or anything else that is a terminal: tells nothing, but may hang up.
    Isa,
}

/// A serial port, open or not.
#[derive(Debug, Clone)]
pub struct Port {
    kind: PortKind,
    path: PathBuf,
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// The file to remove at the end, where we made one.
    _file: Option<unix::SocketFile>,
}

impl Channel {
    /// What the configuration asks for; a socket that the service manager passed in takes the place of it.
    pub fn from_config(config: &Config, passed: Option<OwnedFd>) -> Result<Self> {
        if let Some(fd) = passed {
            return Listener::passed(fd).map(Channel::Listener);
        }
        let path = config.path.clone().ok_or_else(|| Error::generic("must specify a path for this channel"))?;
        match config.method.as_str() {
            "virtio-serial" => Ok(Channel::Port(Port { kind: PortKind::Virtio, path })),
            "isa-serial" => Ok(Channel::Port(Port { kind: PortKind::Isa, path })),
            "unix-listen" => {
                let (fd, file) = unix::listen(&path)?;
                Ok(Channel::Listener(Listener { fd, _file: Some(file) }))
            }
            "vsock-listen" => {
                let fd = vsock::listen(&path.to_string_lossy())?;
                Ok(Channel::Listener(Listener { fd, _file: None }))
            }
            other => Err(Error::generic(format!("unsupported channel method/type: {other}"))),
        }
    }
}

/// Largest reply on this channel, in bytes; None for no limit.
pub fn reply_limit(config: &Config, channel: &Channel) -> Option<usize> {
    match (config.reply_limit, channel) {
        (Some(0), _) | (None, Channel::Listener(_)) => None,
        (Some(limit), _) => Some(limit),
        (None, Channel::Port(_)) => Some(PORT_REPLY_MAX),
    }
}

impl Port {
    /// Opens it.
    pub fn open(&self) -> std::result::Result<OwnedFd, Errno> {
        match self.kind {
            PortKind::Virtio => virtio_serial::open(&self.path),
            PortKind::Isa => isa_serial::open(&self.path),
        }
    }

    /// The complaint that it cannot be opened, with what to do about it.
    pub fn cannot_open(&self, errno: Errno) -> Error {
        let hint = match errno {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => {
                " (does the virtual machine have this port? --retry-path waits for it)"
            }
            Errno::BUSY => " (is another agent running?)",
            _ => "",
        };
        Error::generic(format!("error opening channel '{}': {}{hint}", self.path.display(), errno.errno_text()))
    }

    /// Where it is looked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which kind it is.
    pub fn kind(&self) -> PortKind {
        self.kind
    }
}

impl Listener {
    fn passed(fd: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)
            .map_err(|errno| Error::generic(format!("cannot use the socket passed in: {}", errno.errno_text())))?;
        Ok(Listener { fd, _file: None })
    }

    /// The next client that waits, if one does.
    pub fn accept(&self) -> std::result::Result<OwnedFd, Errno> {
        use rustix::net::SocketFlags;
        rustix::net::accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_limited_on_ports_and_not_on_sockets_unless_configured() {
        let dir = tempfile::tempdir().unwrap();
        let port = Channel::Port(Port { kind: PortKind::Virtio, path: "/dev/null".into() });
        let (fd, file) = unix::listen(&dir.path().join("s")).unwrap();
        let socket = Channel::Listener(Listener { fd, _file: Some(file) });
        for (configured, on_port, on_socket) in
            [(None, Some(8 << 20), None), (Some(0), None, None), (Some(100), Some(100), Some(100))]
        {
            let config = Config { reply_limit: configured, ..Config::default() };
            assert_eq!(reply_limit(&config, &port), on_port);
            assert_eq!(reply_limit(&config, &socket), on_socket);
        }
    }
}
