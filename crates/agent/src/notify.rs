//! Tells the service manager how we are: systemd's notification protocol, one datagram a message.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::ffi;

/// Where messages go; nowhere if no service manager asked for any.
#[derive(Debug, Default)]
pub struct Notifier {
    to: Option<SocketAddr>,
}

impl Notifier {
    /// Takes `NOTIFY_SOCKET` out of the environment, so that children do not speak for us. To be called before any
    /// other thread runs.
    pub fn take() -> Self {
        let name = env::var_os("NOTIFY_SOCKET");
        if name.is_some() {
            ffi::remove_env("NOTIFY_SOCKET");
        }
        Notifier { to: name.and_then(address) }
    }

    /// The agent answers.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The agent is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// What the service's status line shows.
    pub fn status(&self, text: &str) {
        self.tell(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// Sends a message. Never blocks; a failure is only worth a debug line.
    fn tell(&self, message: &str) {
        let Some(to) = &self.to else { return };
        if let Err(e) = send(to, message) {
            log::debug!("cannot notify the service manager: {}", e.errno_text());
        }
    }
}

/// A path, or with a leading `@` a name in the abstract name space.
fn address(name: OsString) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(&name).ok(),
        _ => None,
    }
}

fn send(to: &SocketAddr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), to).map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn received(at: &UnixDatagram) -> String {
        at.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buf = [0; 64];
        let n = at.recv(&mut buf).unwrap();
        String::from_utf8(buf[..n].to_vec()).unwrap()
    }

    #[test]
    fn messages_reach_a_socket_with_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier { to: address(path.into_os_string()) };
        notifier.ready();
        assert_eq!(received(&manager), "READY=1");
        notifier.status("frozen\nsince 3");
        assert_eq!(received(&manager), "STATUS=frozen since 3");
        notifier.stopping();
        assert_eq!(received(&manager), "STOPPING=1");
    }

    #[test]
    fn messages_reach_an_abstract_socket() {
        let name = format!("qemu-ga-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier { to: address(format!("@{name}").into()) }.ready();
        assert_eq!(received(&manager), "READY=1");
    }

    #[test]
    fn a_name_that_is_no_socket_address_is_ignored() {
        assert!(address("vsock:2:1".into()).is_none());
        assert!(address("".into()).is_none());
        Notifier { to: address("/nonexistent/socket".into()) }.ready();
    }
}
