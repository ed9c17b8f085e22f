//! Waiting for any of many descriptors (`epoll`, level-triggered), with a bell that other threads can ring.

use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// What the bell is reported as; no key of a caller's.
const BELL: u64 = u64::MAX;

/// Most events of one wait; the others come with the next.
const EVENTS: usize = 32;

/// A set of descriptors, each under a key of the caller's.
#[derive(Debug)]
pub struct Watch {
    epoll: OwnedFd,
    bell: OwnedFd,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, or the end.
    Read,
    /// Room to write, or nobody to read it.
    Write,
}

impl Watch {
    /// An empty set.
    ///
    /// # Errors
    /// The kernel's: no descriptors or no memory.
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Watch { epoll, bell })
    }

    /// Adds a descriptor; also while another thread waits.
    ///
    /// # Errors
    /// The kernel's: the limit of watches, or no memory.
    pub fn add(&self, fd: impl AsFd, key: u64, interest: Interest) -> Result<(), Errno> {
        let flags = match interest {
            Interest::Read => EventFlags::IN,
            Interest::Write => EventFlags::OUT,
        };
        epoll::add(&self.epoll, fd, EventData::new_u64(key), flags)
    }

    /// Takes a descriptor out, which must be done before it is closed: a child that is just being started has a copy
    /// of it for a moment, and for as long it would be reported.
    pub fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Ends a wait, the present or the next one.
    pub fn ring(&self) {
        // A full counter is readable all the same.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Waits until something is ready, the bell rings or the time has come, and returns the keys of what is ready.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self, until: Option<Instant>) -> Result<Vec<u64>, Errno> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Rounded up to the kernel's step, so that the time has come when the wait ends.
        let left = left.and_then(|left| Timespec::try_from(left + Duration::from_millis(1)).ok());
        let mut events = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut keys: Vec<u64> = events.iter().map(|event| event.data.u64()).collect();
        if keys.contains(&BELL) {
            let _ = rustix::io::read(&self.bell, &mut [0; 8]);
            keys.retain(|key| *key != BELL);
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn what_is_ready_is_reported_until_it_is_taken_out() {
        let watch = Watch::new().unwrap();
        let (reader, writer) = pipe().unwrap();
        watch.add(&reader, 1, Interest::Read).unwrap();
        watch.add(&writer, 2, Interest::Write).unwrap();
        assert_eq!(watch.wait(None), Ok(vec![2]));
        watch.remove(&writer);
        assert_eq!(watch.wait(Some(Instant::now())), Ok(vec![]));
        drop(writer);
        assert_eq!(watch.wait(None), Ok(vec![1]));
        assert_eq!(watch.wait(None), Ok(vec![1]));
        watch.remove(&reader);
        assert_eq!(watch.wait(Some(Instant::now())), Ok(vec![]));
    }

    #[test]
    fn the_bell_ends_one_wait_and_a_deadline_another() {
        let watch = Watch::new().unwrap();
        watch.ring();
        watch.ring();
        assert_eq!(watch.wait(None), Ok(vec![]));
        let until = Instant::now() + Duration::from_millis(20);
        assert_eq!(watch.wait(Some(until)), Ok(vec![]));
        assert!(Instant::now() >= until);
    }
}
