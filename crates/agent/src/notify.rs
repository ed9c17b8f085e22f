//! Tells the service manager how we are: systemd's notification protocol, one datagram a message.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::ffi;

/// Where messages go; nowhere if no service manager asked for any.
#[derive(Debug, Default)]
pub struct Notifier {
    to: Option<SocketAddr>,
    /// Kept, so that a sign of life does not need a descriptor when there are none.
    socket: Option<UnixDatagram>,
    watchdog: Option<Limit>,
}

/// What the service manager wants of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    time: Duration,
    /// Of this process, or of whoever is asked.
    process: Option<u32>,
}

impl Notifier {
    /// Takes `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` out of the environment, so that children do not speak
    /// for us. To be called before any other thread runs.
    pub fn take() -> Self {
        let [socket, time, process] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].map(|name| {
            let value = env::var_os(name);
            if value.is_some() {
                ffi::remove_env(name);
            }
            value
        });
        let limit = limit(time.as_deref(), process.as_deref());
        Notifier::new(socket.and_then(address), limit)
    }

    fn new(to: Option<SocketAddr>, watchdog: Option<Limit>) -> Self {
        let socket = to.as_ref().and_then(|_| socket().ok());
        Notifier { watchdog: watchdog.filter(|_| to.is_some()), to, socket }
    }

    /// One for a manager that listens at `path`, with a watchdog of `time` if any.
    #[cfg(test)]
    pub(crate) fn to(path: &std::path::Path, time: Option<Duration>) -> Self {
        Notifier::new(address(path.into()), time.map(|time| Limit { time, process: None }))
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.to.is_some()
    }

    /// The time after which the manager takes this process for dead when it has not heard [`Notifier::alive`]. None if
    /// it does not watch this very process.
    pub fn watchdog(&self) -> Option<Duration> {
        let limit = self.watchdog?;
        limit.process.is_none_or(|process| process == std::process::id()).then_some(limit.time)
    }

    /// The agent answers, and how it is.
    pub fn ready(&self, status: &str) {
        self.tell_or_say(&format!("READY=1\n{}", status_line(status)));
    }

    /// The agent is about to end.
    pub fn stopping(&self) {
        self.tell_or_say("STOPPING=1\nSTATUS=about to end");
    }

    /// What the service's status line shows.
    pub fn status(&self, text: &str) {
        self.tell_or_say(&status_line(text));
    }

    /// The loop turns.
    ///
    /// # Errors
    /// The manager has not heard it.
    pub fn alive(&self) -> io::Result<()> {
        self.tell("WATCHDOG=1")
    }

    /// A failure is only worth a debug line.
    fn tell_or_say(&self, message: &str) {
        if let Err(e) = self.tell(message) {
            log::debug!("cannot notify the service manager: {}", e.errno_text());
        }
    }

    /// Sends a message. Never blocks.
    fn tell(&self, message: &str) -> io::Result<()> {
        let Some(to) = &self.to else { return Ok(()) };
        let send = |socket: &UnixDatagram| socket.send_to_addr(message.as_bytes(), to).map(drop);
        match &self.socket {
            Some(socket) => send(socket),
            None => send(&socket()?),
        }
    }
}

fn status_line(text: &str) -> String {
    format!("STATUS={}", text.replace('\n', " "))
}

/// A path, or with a leading `@` a name in the abstract name space.
fn address(name: OsString) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(&name).ok(),
        _ => None,
    }
}

/// Microseconds, and the number of a process. What is no number asks for nothing.
fn limit(time: Option<&OsStr>, process: Option<&OsStr>) -> Option<Limit> {
    let time = time?.to_str()?.parse().ok().filter(|time| *time > 0).map(Duration::from_micros)?;
    let process = process.map(|process| process.to_str().and_then(|text| text.parse().ok()));
    match process {
        Some(None) => None,
        process => Some(Limit { time, process: process.flatten() }),
    }
}

fn socket() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
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
        let notifier = Notifier::to(&path, None);
        assert!(notifier.is_heard());
        notifier.ready("at rest");
        assert_eq!(received(&manager), "READY=1\nSTATUS=at rest");
        notifier.status("frozen\nsince 3");
        assert_eq!(received(&manager), "STATUS=frozen since 3");
        notifier.alive().unwrap();
        assert_eq!(received(&manager), "WATCHDOG=1");
        notifier.stopping();
        assert_eq!(received(&manager), "STOPPING=1\nSTATUS=about to end");
    }

    #[test]
    fn messages_reach_an_abstract_socket() {
        let name = format!("qemu-ga-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::new(address(format!("@{name}").into()), None).status("here");
        assert_eq!(received(&manager), "STATUS=here");
    }

    #[test]
    fn a_name_that_is_no_socket_address_is_ignored() {
        assert!(address("vsock:2:1".into()).is_none());
        assert!(address("".into()).is_none());
        let nobody = Notifier::new(address("/nonexistent/socket".into()), None);
        nobody.ready("");
        nobody.alive().unwrap_err();
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for_and_the_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(&path, None);
        let full = (0..100_000).find_map(|_| notifier.alive().err()).expect("a full queue");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_watchdog_is_that_of_this_process_and_a_number() {
        let of = |time: &str, process: Option<&str>| {
            Notifier::new(address("/x".into()), limit(Some(time.as_ref()), process.map(OsStr::new))).watchdog()
        };
        let own = std::process::id();
        let second = Some(Duration::from_secs(1));
        assert_eq!(of("1000000", None), second);
        assert_eq!(of("1000000", Some(&own.to_string())), second);
        assert_eq!(of("1000000", Some(&(own + 1).to_string())), None);
        for (time, process) in [("0", None), ("", None), ("-1", None), ("1s", None), ("1000000", Some("x"))] {
            assert_eq!(of(time, process), None, "{time} {process:?}");
        }
        // Nobody would hear it.
        let deaf = Notifier::new(None, limit(Some("1000000".as_ref()), None));
        assert_eq!(deaf.watchdog(), None);
    }
}
