//! The system log: datagrams to `/dev/log`, as syslog(3) sends them.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ::log::Level;

use super::line;
use crate::platform::linux::zone;

/// How long a log daemon that is not there is not looked for again.
const RETRY: Duration = Duration::from_secs(5);

/// Facility "user", as the C agent's.
const FACILITY: u8 = 1 << 3;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The connection to the system's log daemon.
#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    not_before: Option<Instant>,
}

impl Syslog {
    /// The log daemon that listens at `path`; it need not be there yet.
    pub(super) fn new(path: &Path) -> Self {
        Syslog { path: path.to_owned(), socket: None, not_before: None }
    }

    /// Sends a line, whose text is printable. False if the daemon did not take it. Does not block.
    pub(super) fn send(&mut self, now: SystemTime, level: Level, text: &str) -> bool {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let message = message(now, level, text);
        // Twice, since the daemon may have been started again.
        for _ in 0..2 {
            if self.socket.is_none() {
                self.socket = connect(&self.path).ok();
            }
            let Some(socket) = &self.socket else { break };
            match socket.send(message.as_bytes()) {
                Ok(_) => return true,
                // Too busy to take it.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => self.socket = None,
            }
        }
        self.not_before = Instant::now().checked_add(RETRY);
        false
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

/// `<14>Nov 22 12:34:33 qemu-ga: info: guest-ping called`. The time is left out if it cannot be told.
fn message(now: SystemTime, level: Level, text: &str) -> String {
    let time = zone::local_time(now).and_then(|t| {
        let month = MONTHS.get(t.month)?;
        Some(format!("{month} {:2} {:02}:{:02}:{:02} ", t.day, t.hour, t.minute, t.second))
    });
    let priority = FACILITY | line::severity(level);
    let head = format!("<{priority}>{}qemu-ga: {}: ", time.unwrap_or_default(), line::level_name(level));
    line::finish_datagram(head, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(daemon: &UnixDatagram) -> String {
        let mut buf = [0; 8192];
        daemon.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let n = daemon.recv(&mut buf).unwrap();
        String::from_utf8(buf[..n].to_vec()).unwrap()
    }

    #[test]
    fn a_line_has_the_form_of_syslog() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&path);
        assert!(syslog.send(SystemTime::now(), Level::Info, "guest-ping called"));
        let line = receive(&daemon);
        let time = line.strip_prefix("<14>").unwrap().strip_suffix(" qemu-ga: info: guest-ping called").unwrap();
        let parts: Vec<&str> = time.split_whitespace().collect();
        assert!(MONTHS.contains(&parts[0]) && parts[2].len() == 8, "{time}");
        assert_eq!(time.len(), "Nov 22 12:34:33".len());
        assert!(syslog.send(SystemTime::now(), Level::Error, "no"));
        assert!(receive(&daemon).starts_with("<11>"));
    }

    #[test]
    fn a_daemon_started_again_gets_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&path);
        assert!(syslog.send(SystemTime::now(), Level::Info, "one"));
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert!(syslog.send(SystemTime::now(), Level::Info, "two"));
        assert!(receive(&daemon).ends_with("two"));
    }

    #[test]
    fn a_daemon_that_is_not_there_is_not_looked_for_at_every_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut syslog = Syslog::new(&path);
        assert!(!syslog.send(SystemTime::now(), Level::Info, "one"));
        let _daemon = UnixDatagram::bind(&path).unwrap();
        assert!(!syslog.send(SystemTime::now(), Level::Info, "two"));
        syslog.not_before = Some(Instant::now());
        assert!(syslog.send(SystemTime::now(), Level::Info, "three"));
    }

    #[test]
    fn a_daemon_that_does_not_read_costs_lines_and_no_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let _daemon = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&path);
        let mut sent = 0;
        while syslog.send(SystemTime::now(), Level::Info, "x") {
            sent += 1;
            assert!(sent < 100_000, "the socket never fills");
        }
        assert!(syslog.not_before.is_none(), "being busy is no reason to stay away");
    }
}
