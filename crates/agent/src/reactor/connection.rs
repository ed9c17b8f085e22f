//! One descriptor and the conversation on it.

use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::poller::{Poller, Ready, Token};
use crate::session::{Environment, Session};

/// Bytes read in one call when nothing large is under way.
const READ_MIN: usize = 16 << 10;

/// Bytes read in one call in the middle of a large message.
const READ_LARGE: usize = 256 << 10;

/// Bytes read from one host, or written to it, before the others get their turn.
const TURN: usize = 1 << 20;

/// Bytes that came so shortly before a port reports that its host is gone may be those of the next host: they travel
/// beside the kernel's announcements of hosts coming and going, and overtake them.
const OVERTAKING: Duration = Duration::from_millis(100);

/// How long the announcement of that next host is waited for.
const ARRIVAL: Duration = Duration::from_secs(1);

/// What has become of a connection.
#[derive(Debug)]
pub(super) enum Fate {
    /// It goes on.
    Goes,
    /// The host has closed its end of a port; another may come.
    HostLeft,
    /// The client is gone.
    Over,
    /// The descriptor is of no use any more.
    Lost(Errno),
}

/// What is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A client of a listening socket: its end is the end of the connection.
    Client,
    /// A host that comes and goes while the port stays open.
    VirtioPort,
    /// A line that tells nothing, until it hangs up.
    Terminal,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Connection {
    fd: OwnedFd,
    session: Session,
    peer: Peer,
    /// Something may be there to read; edges are reported once.
    readable: bool,
    writable: bool,
    /// The client is watched for room.
    room_watched: bool,
    hangup: bool,
    /// A client that sends nothing more, but may still be reading.
    half_closed: bool,
    /// A host is at the other end of the port.
    attached: bool,
    /// When bytes last came.
    last_read: Option<Instant>,
    /// Bytes have come since the last event that told of a hang-up.
    read_since_hangup: bool,
    /// The port has no host, but bytes that may be the next one's have come: until when it may arrive.
    arriving: Option<Instant>,
}

impl Connection {
    pub(super) fn new(fd: OwnedFd, session: Session, peer: Peer) -> Self {
        Connection {
            fd,
            session,
            peer,
            readable: true,
            writable: true,
            room_watched: false,
            hangup: false,
            half_closed: false,
            attached: false,
            last_read: None,
            read_since_hangup: false,
            arriving: None,
        }
    }

    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(super) fn session_id(&self) -> u64 {
        self.session.id()
    }

    pub(super) fn is_running(&self) -> bool {
        self.session.is_running()
    }

    pub(super) fn note(&mut self, event: Ready) {
        self.readable |= event.readable || self.peer != Peer::Client;
        self.writable |= event.writable;
        self.hangup = event.hangup;
        if event.hangup {
            self.read_since_hangup = false;
        } else {
            self.arriving = None;
        }
    }

    /// Has a client watched for room while it takes no more of what there is for it, and only then. (Of a port, which is
    /// watched for it always, hardly anything is heard.)
    pub(super) fn watch(&mut self, poller: &Poller, token: Token) -> Result<(), Errno> {
        let room = !self.writable && self.session.has_output();
        if self.peer == Peer::Client && room != self.room_watched {
            poller.watch_room(&self.fd, token, room)?;
            self.room_watched = room;
        }
        Ok(())
    }

    /// Whether [`Connection::advance`] has something to do without any further event.
    pub(super) fn has_more(&self) -> bool {
        (self.readable && self.session.wants_input()) || (self.writable && self.session.has_output()) || self.hangup
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.session.deadline(), self.arriving].into_iter().flatten().min()
    }

    pub(super) fn expire(&mut self, env: &mut Environment<'_>, now: Instant) {
        if self.arriving.is_some_and(|deadline| deadline <= now) {
            // The next read finds out whether a host is there.
            self.readable = true;
            self.arriving = None;
            self.last_read = None;
            self.read_since_hangup = false;
        }
        if self.session.deadline().is_some_and(|deadline| deadline <= now) {
            self.session.expire(env, now);
            // What it answered is written in this turn.
            self.readable = true;
        }
    }

    /// Reads, works and writes until nothing more can be done without an event, or until the turn is over.
    pub(super) fn advance(&mut self, env: &mut Environment<'_>, ending: bool) -> Fate {
        let (mut read, mut written) = (0, 0);
        loop {
            let wants = self.readable && read < TURN && self.session.wants_input() && !self.half_closed && !ending;
            if wants {
                match self.read(env) {
                    Ok(Some(count)) => read += count,
                    Ok(None) => return self.end_of_input(),
                    Err(Errno::AGAIN) => {
                        // A port says so only while it has a host. It may be the next one, whose requests were
                        // read before anything told of it: the hang-up that is still noted is not its own.
                        self.readable = false;
                        self.arriving = None;
                        if self.peer == Peer::VirtioPort && self.may_have_overtaken(Instant::now()) {
                            self.hangup = false;
                        }
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => return Fate::Lost(errno),
                }
            }
            match self.write(env) {
                Ok(count) => written += count,
                Err(fate) => return fate,
            }
            // Reading goes on between two writes: behind a host that reads as fast as its old requests are answered
            // there may be a resynchronisation that ends them.
            let goes_on = (wants && self.readable) || (self.can_write() && written < TURN);
            if !goes_on {
                break;
            }
        }
        if self.half_closed {
            self.readable = false;
        }
        if ending {
            self.readable = false;
        }
        // What came before the hang-up is read first.
        if self.hangup && !(self.readable && self.session.wants_input()) {
            self.hangup = false;
            return self.hung_up(env);
        }
        if self.half_closed && self.session.is_idle() { Fate::Over } else { Fate::Goes }
    }

    /// `None` is the end of the input.
    fn read(&mut self, env: &mut Environment<'_>) -> Result<Option<usize>, Errno> {
        let framer = self.session.input();
        let room = if framer.pending() >= READ_LARGE { READ_LARGE } else { READ_MIN };
        let space = framer.space(room);
        let count = rustix::io::read(&self.fd, space)?;
        if count == 0 {
            return Ok(None);
        }
        // (That it was less than asked for does not mean that nothing is left: an end that came together with the last
        // bytes has no event of its own.)
        framer.filled(count);
        let now = Instant::now();
        self.attached = true;
        self.last_read = Some(now);
        self.read_since_hangup = true;
        self.session.advance(env, now);
        Ok(Some(count))
    }

    /// Whether what came last may be the next host's.
    fn may_have_overtaken(&self, now: Instant) -> bool {
        self.read_since_hangup || self.last_read.is_some_and(|at| now - at < OVERTAKING)
    }

    fn end_of_input(&mut self) -> Fate {
        self.readable = false;
        match self.peer {
            Peer::Terminal => Fate::Lost(Errno::IO),
            Peer::VirtioPort => {
                self.hangup = false;
                let now = Instant::now();
                if self.arriving.is_none() && self.may_have_overtaken(now) {
                    self.arriving = Some(now + ARRIVAL);
                }
                if self.arriving.is_some() {
                    return Fate::Goes;
                }
                // Without a host each event says so again; only the first is news.
                if std::mem::take(&mut self.attached) { Fate::HostLeft } else { Fate::Goes }
            }
            Peer::Client => {
                self.half_closed = true;
                if self.hangup || self.session.is_idle() { Fate::Over } else { Fate::Goes }
            }
        }
    }

    /// A hang-up while input is not being read, because too much of it waits already.
    fn hung_up(&mut self, env: &mut Environment<'_>) -> Fate {
        if self.peer == Peer::Client {
            return Fate::Over;
        }
        if self.session.output().pending() > 0 {
            self.session.output().clear();
            self.session.advance(env, Instant::now());
            self.readable = true;
        }
        Fate::Goes
    }

    fn can_write(&self) -> bool {
        self.writable && self.session.has_output()
    }

    /// Writes what there is, as far as it is taken, and says how much that was.
    fn write(&mut self, env: &mut Environment<'_>) -> Result<usize, Fate> {
        if !self.can_write() {
            return Ok(0);
        }
        let before = self.session.output().pending();
        if let Err(errno) = self.session.output().write_to(&self.fd) {
            return Err(if self.peer == Peer::Client { Fate::Over } else { Fate::Lost(errno) });
        }
        let left = self.session.output().pending();
        self.writable = left == 0;
        // Room in the output is what the next command may have waited for.
        self.session.advance(env, Instant::now());
        Ok(before - left)
    }

    /// Writes what can be written now; whether something is left.
    pub(super) fn flush(&mut self) -> bool {
        self.session.output().write_to(&self.fd).is_ok() && self.session.output().pending() > 0
    }
}

#[cfg(test)]
mod tests;
