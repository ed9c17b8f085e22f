//! A pseudo terminal, and an emulator that keeps what was on its screen.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use vt100::{Parser, Screen};

use crate::process::{Result, program};

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// Runs a line for a shell in a terminal that shows `shown` already, and returns the screens that were seen, one after
/// each piece of output, the last one last. What has not ended after `limit` is ended.
pub(crate) fn record(
    line: &str,
    shown: &str,
    programs: &Path,
    place: &Path,
    size: Size,
    limit: Duration,
) -> Result<Vec<Screen>> {
    let (terminal, slave) = open(size).map_err(|error| format!("no pseudo terminal: {error}"))?;
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    // With a session of its own the terminal is the one that the program finds when it looks for its terminal.
    let mut command = program("setsid", ["--ctty", "sh", "-c", line]);
    command.current_dir(place).env("PATH", path).env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
    command.env_remove("QGA_TARGET").env_remove("NO_COLOR");
    let stdio = || slave.try_clone().map(Stdio::from).map_err(|error| format!("no pseudo terminal: {error}"));
    command.stdin(stdio()?).stdout(stdio()?).stderr(stdio()?);
    let mut child = command.spawn().map_err(|error| format!("setsid: {error}"))?;
    // Its own ends are in there: with them the output would never end.
    drop((command, slave));

    let (sender, pieces) = channel();
    let mut reader = File::from(terminal);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        loop {
            match reader.read(&mut piece) {
                Ok(count @ 1..) if sender.send(piece[..count].to_vec()).is_ok() => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A terminal whose last user is gone gives an error, which is its end.
                _ => return,
            }
        }
    });
    let one = NonZeroU16::MIN;
    let mut parser =
        Parser::new(NonZeroU16::new(size.rows).unwrap_or(one), NonZeroU16::new(size.columns).unwrap_or(one), 0);
    parser.process(shown.as_bytes());
    let mut screens = Vec::new();
    let end = Instant::now() + limit;
    loop {
        match pieces.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(piece) => {
                parser.process(&piece);
                screens.push(parser.screen().clone());
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill().map_err(|error| format!("{line}: {error}"))?;
                break;
            }
        }
    }
    child.wait().map_err(|error| format!("{line}: {error}"))?;
    Ok(screens)
}

/// Both ends of a new terminal of this size.
fn open(size: Size) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let name = ptsname(&terminal, Vec::new())?.into_string().map_err(|_| ErrorKind::InvalidData)?;
    let slave = File::options().read(true).write(true).open(name)?;
    tcsetwinsize(&slave, Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((terminal, slave.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { rows: 5, columns: 40 };

    #[test]
    fn what_a_program_shows_in_its_terminal_is_recorded() {
        let place = tempfile::tempdir().unwrap();
        let line = "printf 'one\\033[31m red\\033[0m\\n'; stty size </dev/tty";
        let screens = record(line, "$ x\r\n", place.path(), place.path(), SIZE, Duration::from_secs(60)).unwrap();
        assert_eq!(screens.last().unwrap().contents().trim_end(), "$ x\none red\n5 40");
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let place = tempfile::tempdir().unwrap();
        let screens =
            record("echo up; exec sleep 600", "", place.path(), place.path(), SIZE, Duration::from_secs(2)).unwrap();
        assert_eq!(screens.last().unwrap().contents().trim_end(), "up");
    }
}
