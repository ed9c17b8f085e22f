//! A serial port that may not be there yet, or not any more.

use std::time::{Duration, Instant};

use qga_proto::error::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::poller::{Poller, Token};
use crate::channel::{Port, PortKind};
use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::ffi;

/// How often an absent port is looked for where the kernel's announcements cannot be heard. The C agent's figure.
const RETRY: Duration = Duration::from_secs(5);

/// How soon a terminal that hung up is opened again.
const AFTER_HANGUP: Duration = Duration::from_secs(1);

/// See the module's description.
#[derive(Debug)]
pub(super) struct PortWatch {
    port: Port,
    /// Whether an absent port is waited for.
    patient: bool,
    /// Whether it was open before.
    seen: bool,
    /// When to try next; `None` while it is open.
    next: Option<Instant>,
    /// Announcements of devices, while the port is absent.
    uevents: Option<OwnedFd>,
}

impl PortWatch {
    pub(super) fn new(port: Port, patient: bool) -> Self {
        PortWatch { port, patient, seen: false, next: Some(Instant::now()), uevents: None }
    }

    /// What was opened is no port; it is tried again later.
    pub(super) fn unusable(&mut self, errno: Errno) -> Error {
        self.next = Some(Instant::now() + RETRY);
        self.port.cannot_open(errno)
    }

    pub(super) fn kind(&self) -> PortKind {
        self.port.kind()
    }

    pub(super) fn is_open(&self) -> bool {
        self.next.is_none()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Opens the port if it is not open. `Ok(None)`: not yet. An error is one that waiting does not mend.
    pub(super) fn try_open(&mut self, poller: &Poller, token: Token) -> Result<Option<OwnedFd>> {
        if self.next.is_none() {
            return Ok(None);
        }
        self.drain();
        match self.port.open() {
            Ok(fd) => {
                if self.uevents.take().is_some() || self.seen {
                    log::warn!("channel '{}' is open", self.port.path().display());
                }
                self.next = None;
                self.seen = true;
                Ok(Some(fd))
            }
            Err(errno) if self.patient || self.seen => {
                if self.uevents.is_none() {
                    log::warn!("waiting for channel '{}': {}", self.port.path().display(), errno.errno_text());
                    self.listen(poller, token);
                    // It may have come between the first try and the first announcement we hear.
                    self.next = Some(Instant::now() + Duration::from_millis(100));
                } else {
                    self.next = Some(Instant::now() + RETRY);
                }
                Ok(None)
            }
            Err(errno) => Err(self.port.cannot_open(errno)),
        }
    }

    /// The port, which was open, cannot be read from any more.
    pub(super) fn lost(&mut self, errno: Errno) -> Result<()> {
        let hung_up = self.port.kind() == PortKind::Isa;
        if !self.patient && !hung_up {
            return Err(super::lost(format!(
                "lost channel '{}': {} (--retry-path waits for it to come back)",
                self.port.path().display(),
                errno.errno_text()
            )));
        }
        log::warn!("lost channel '{}': {}", self.port.path().display(), errno.errno_text());
        self.next = Some(Instant::now() + if hung_up { AFTER_HANGUP } else { Duration::from_millis(10) });
        Ok(())
    }

    fn listen(&mut self, poller: &Poller, token: Token) {
        match ffi::uevent_socket() {
            Ok(fd) => {
                if poller.watch_input(&fd, token).is_ok() {
                    self.uevents = Some(fd);
                }
            }
            Err(error) => log::debug!("no announcements of devices: {}", error.errno_text()),
        }
    }

    fn drain(&self) {
        let mut announcement = [0; 4096];
        if let Some(fd) = &self.uevents {
            // Until it is empty, or overran: what they say does not matter, only that something came.
            while matches!(rustix::io::read(fd, &mut announcement), Ok(1..) | Err(Errno::INTR | Errno::NOBUFS)) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::config::Config;

    fn watch(method: &str, patient: bool) -> PortWatch {
        let config = Config { method: method.into(), path: Some("/nonexistent/port".into()), ..Config::default() };
        let Ok(Channel::Port(port)) = Channel::from_config(&config, None) else { panic!("{method} is a port") };
        PortWatch { seen: true, next: None, ..PortWatch::new(port, patient) }
    }

    #[test]
    fn the_loss_of_a_port_that_is_not_waited_for_is_a_failure() {
        let lost = watch("virtio-serial", false).lost(Errno::NODEV).unwrap_err();
        let text = "lost channel '/nonexistent/port': No such device (--retry-path waits for it to come back)";
        assert_eq!(lost.desc, text);
    }

    #[test]
    fn what_turns_out_to_be_no_port_is_tried_again() {
        let mut watch = watch("virtio-serial", true);
        let error = watch.unusable(Errno::PERM);
        assert_eq!(error.desc, "error opening channel '/nonexistent/port': Operation not permitted");
        assert!(watch.deadline().is_some());
    }

    #[test]
    fn a_port_that_is_waited_for_and_a_line_that_hung_up_are_tried_again() {
        for (method, patient) in [("virtio-serial", true), ("isa-serial", true), ("isa-serial", false)] {
            let mut watch = watch(method, patient);
            watch.lost(Errno::IO).unwrap();
            assert!(watch.deadline().is_some(), "{method}");
        }
    }
}
