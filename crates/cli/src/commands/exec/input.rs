//! Standard input, read by a thread of its own: it may wait for ever.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::exit::Failure;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Bytes that are sent at once.
const BATCH: usize = 512 << 10;

/// Most that is read for a command that gets all of it at once: a request may have no more.
const WHOLE_MAX: usize = 16 << 20;

/// Time in which an input that is empty shows it.
const AT_ONCE: Duration = Duration::from_millis(20);

/// Standard input while it is read.
#[derive(Debug)]
pub(super) struct Input {
    chunks: Receiver<io::Result<Vec<u8>>>,
    /// What was read and not sent yet.
    pending: Vec<u8>,
    is_over: bool,
}

impl Input {
    /// Begins to read; nothing when there is nothing to be read.
    pub(super) fn start() -> Option<Self> {
        let (sender, chunks) = sync_channel(2);
        thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            let mut buffer = vec![0; CHUNK];
            loop {
                let chunk = match stdin.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => Ok(buffer[..count].to_vec()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let is_last = chunk.is_err();
                if sender.send(chunk).is_err() || is_last {
                    return;
                }
            }
        });
        let mut input = Input { chunks, pending: Vec::new(), is_over: false };
        // An error shows when it is met again.
        let _ = input.wait(AT_ONCE);
        (!input.is_at_end()).then_some(input)
    }

    /// Waits until there is something to be sent, but no longer than this.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<(), Failure> {
        if self.is_over || !self.pending.is_empty() {
            thread::sleep(limit);
            return Ok(());
        }
        match self.chunks.recv_timeout(limit) {
            Ok(chunk) => self.take(chunk)?,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => self.is_over = true,
        }
        while self.pending.len() < BATCH {
            match self.chunks.try_recv() {
                Ok(chunk) => self.take(chunk)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.is_over = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, chunk: io::Result<Vec<u8>>) -> Result<(), Failure> {
        match chunk {
            Ok(chunk) => self.pending.extend(chunk),
            Err(error) => {
                self.is_over = true;
                return Err(Failure::Host(format!("cannot read standard input: {}", error.kind())));
            }
        }
        Ok(())
    }

    /// What is to be sent.
    pub(super) fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// So much of it was sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.pending.drain(..count.min(self.pending.len()));
    }

    /// Whether everything has been read and sent.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_over && self.pending.is_empty()
    }

    /// All of it, for a command that cannot be sent more later.
    pub(super) fn read_all(mut self) -> Result<Vec<u8>, Failure> {
        while let Ok(chunk) = self.chunks.recv() {
            self.take(chunk)?;
            if self.pending.len() > WHOLE_MAX {
                let what = "standard input is longer than the 16 MiB that can be sent without streaming";
                return Err(Failure::Host(what.into()));
            }
        }
        Ok(self.pending)
    }
}
