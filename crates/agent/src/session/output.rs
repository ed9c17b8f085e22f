//! Replies on their way to the host: written as the channel takes them, never waited for.

use std::collections::VecDeque;

use rustix::fd::AsFd;
use rustix::io::Errno;

/// A buffer of at least this size is kept for the next large reply.
const LARGE: usize = 128 << 10;

/// A reply below this size does not hold a large buffer: its host may be long in reading it.
const SMALL: usize = 16 << 10;

/// Replies that have not been written yet, in order.
#[derive(Debug, Default)]
pub struct Output {
    queue: VecDeque<Vec<u8>>,
    /// The buffer of a large reply that is out, empty; see [`Output::take_spare`].
    spare: Vec<u8>,
    /// Bytes of the first that are out already.
    written: usize,
    pending: usize,
}

impl Output {
    /// Appends a reply; an empty one is none.
    pub fn push(&mut self, mut reply: Vec<u8>) {
        if reply.capacity() >= LARGE && reply.len() < SMALL {
            let copy = reply.as_slice().to_vec();
            self.keep(std::mem::replace(&mut reply, copy));
        }
        if !reply.is_empty() {
            self.pending += reply.len();
            self.queue.push_back(reply);
        }
    }

    /// Bytes that wait.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// An empty buffer for a reply, which may have much room: to make 53 MiB anew for each of many replies costs as
    /// much time as to encode and send them.
    pub fn take_spare(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spare)
    }

    /// Whether there is a large buffer that nobody uses.
    pub fn has_spare(&self) -> bool {
        self.spare.capacity() > 0
    }

    /// Gives it back to the system.
    pub fn release(&mut self) {
        self.spare = Vec::new();
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= LARGE.max(self.spare.capacity()) {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// The host is gone: nothing of this is for the next one.
    pub fn clear(&mut self) {
        *self = Output::default();
    }

    /// Writes as much as the channel takes. `Ok` with bytes still pending means: wait until it can be written to.
    pub fn write_to(&mut self, fd: impl AsFd) -> Result<(), Errno> {
        while let Some(reply) = self.queue.front() {
            let rest = reply.get(self.written..).unwrap_or_default();
            match rustix::io::write(&fd, rest) {
                Ok(count) => self.advance(count),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        self.pending -= count;
        self.written += count;
        if self.queue.front().is_some_and(|reply| self.written >= reply.len()) {
            let reply = self.queue.pop_front();
            self.written = 0;
            self.keep(reply.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_whole_and_in_order_whatever_the_writes_take() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let mut output = Output::default();
        let mut expected = Vec::new();
        for n in 0..100u8 {
            let reply = vec![n; 5000];
            expected.extend_from_slice(&reply);
            output.push(reply);
        }
        let mut got = Vec::new();
        let mut buf = [0; 777];
        while got.len() < expected.len() {
            output.write_to(&writer).unwrap();
            let count = rustix::io::read(&reader, &mut buf).unwrap();
            got.extend_from_slice(&buf[..count]);
            assert_eq!(output.pending() > 0, got.len() + 65_536 < expected.len() || output.pending() > 0);
        }
        assert_eq!(output.pending(), 0);
        assert!(got == expected);
    }

    #[test]
    fn the_buffer_of_a_large_reply_is_there_for_the_next_and_no_small_one_holds_it() {
        let (_reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let mut output = Output::default();
        let mut reply = output.take_spare();
        reply.reserve(1 << 20);
        reply.extend_from_slice(&[b'x'; 20_000]);
        output.push(reply);
        assert!(!output.has_spare());
        output.write_to(&writer).unwrap();
        assert!(output.has_spare());
        let mut reply = output.take_spare();
        assert!(reply.is_empty() && reply.capacity() >= 1 << 20);
        reply.push(b'y');
        output.push(reply);
        assert!(output.has_spare() && output.queue[0].capacity() < SMALL);
        output.release();
        assert!(!output.has_spare());
    }

    #[test]
    fn a_reply_that_is_empty_is_none() {
        let mut output = Output::default();
        output.push(Vec::new());
        assert!(output.queue.is_empty());
    }
}
