//! Replies on their way to the host: written as the channel takes them, never waited for.

use std::collections::VecDeque;

use rustix::fd::AsFd;
use rustix::io::Errno;

/// Replies that have not been written yet, in order.
#[derive(Debug, Default)]
pub struct Output {
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the first that are out already.
    written: usize,
    pending: usize,
}

impl Output {
    /// Appends a reply; an empty one is none.
    pub fn push(&mut self, reply: Vec<u8>) {
        if !reply.is_empty() {
            self.pending += reply.len();
            self.queue.push_back(reply);
        }
    }

    /// Bytes that wait.
    pub fn pending(&self) -> usize {
        self.pending
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
            self.queue.pop_front();
            self.written = 0;
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
    fn a_reply_that_is_empty_is_none() {
        let mut output = Output::default();
        output.push(Vec::new());
        assert!(output.queue.is_empty());
    }
}
