//! `epoll`, edge-triggered throughout: the virtio-serial port reports a hang-up for as long as no host is there,
//! and with level triggering that would be a busy loop.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// What an event is about; chosen by whoever registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(pub(super) u64);

/// One event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    /// What it is about.
    pub(super) token: Token,
    /// Something can be read, or the end has been reached: read to find out.
    pub(super) readable: bool,
    /// It takes bytes again.
    pub(super) writable: bool,
    /// The other side is gone.
    pub(super) hangup: bool,
}

/// What every client is watched for.
const CLIENT: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

/// Events taken in one call.
const AT_ONCE: usize = 32;

/// The set of watched descriptors.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// An empty set.
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// One that only fails.
    #[cfg(test)]
    pub(super) fn broken() -> Self {
        let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC);
        Poller { epoll: fd.unwrap() }
    }

    /// Watches `fd` both ways until it is closed.
    pub(super) fn watch(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, fd, EventData::new_u64(token.0), flags)
    }

    /// Watches a client's `fd` until it is closed: for input and its end, and for room only after
    /// [`watch_room`](Self::watch_room). Otherwise each reply that the client reads would wake the loop for nothing, on
    /// the processor that the next command runs on.
    pub(super) fn watch_client(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.0), CLIENT)
    }

    /// Begins to watch a client's `fd` for room as well, or no longer does. Room that is there already is reported too.
    pub(super) fn watch_room(&self, fd: impl AsFd, token: Token, room: bool) -> Result<(), Errno> {
        let flags = if room { CLIENT | EventFlags::OUT } else { CLIENT };
        epoll::modify(&self.epoll, fd, EventData::new_u64(token.0), flags)
    }

    /// Watches `fd` for input only, until it is closed.
    pub(super) fn watch_input(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.0), EventFlags::IN | EventFlags::ET)
    }

    /// Waits for events until `deadline`, for ever without one, and adds them to `events`.
    pub(super) fn wait(&self, deadline: Option<Instant>, events: &mut Vec<Ready>) -> Result<(), Errno> {
        let timeout = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        let mut room = [const { MaybeUninit::uninit() }; AT_ONCE];
        match epoll::wait(&self.epoll, &mut room[..], timeout.as_ref()) {
            Ok((came, _)) => events.extend(came.iter().map(ready)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }
}

fn ready(event: &epoll::Event) -> Ready {
    let flags = event.flags;
    let hangup = flags.intersects(EventFlags::HUP | EventFlags::ERR);
    Ready {
        token: Token(event.data.u64()),
        readable: hangup || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
        writable: flags.contains(EventFlags::OUT),
        hangup,
    }
}

/// Rounded up, so that the deadline has passed when the wait ends.
fn timespec(duration: Duration) -> Timespec {
    let rounded = duration + Duration::from_micros(999);
    Timespec {
        tv_sec: i64::try_from(rounded.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(rounded.subsec_nanos()),
    }
}
