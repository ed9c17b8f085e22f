//! Reading and writing a file of the guest with several requests under way, so that neither side waits for the other.
//!
//! Every request has a number, which agents repeat in their reply: an answer that is out of turn is noticed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::thread::sleep;
use std::time::Duration;

use qga_proto::Command;
use qga_proto::base64::Decoder;
use qga_proto::types::file::{FileSeekRet, FileWriteRet, GuestFileRead, GuestFileSeek, GuestFileWrite, READ_MAX};
use serde::Deserialize;

use crate::client::Client;
use crate::error::Error;
use crate::file::{GuestFile, begin_write};

/// The pause before a FIFO that had nothing is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// Bytes of a base64 text that are decoded at a time: they stay in the cache.
const DECODED: usize = 48 << 10;

/// A file of the guest that is being read, from where it is, with requests sent ahead.
///
/// Whoever drops it before its end gives up on the answers under way; the position in the file is then unknown.
///
/// ```
/// # use std::time::Duration;
/// # use qga_client::{Client, Error, GuestFile};
/// # let guest = qga_testkit::fake::Agent::start(&[
/// #     ("guest-file-open", "1000"), ("guest-file-close", "{}"),
/// #     ("guest-file-read", r#"{"count": 6, "buf-b64": "ZGViaWFu", "eof": true}"#),
/// # ]);
/// let mut agent = Client::unix(guest.path(), Duration::from_secs(10))?;
/// let file = GuestFile::open(&mut agent, "/etc/hostname", "r")?;
/// let (mut piece, mut name) = (Vec::new(), Vec::new());
/// let mut reading = file.read_ahead(&mut agent, 6);
/// while reading.next_into(&mut piece)? {
///     name.extend_from_slice(&piece);
/// }
/// assert_eq!(name, b"debian");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct ReadAhead<'a> {
    agent: &'a mut Client,
    handle: i64,
    chunk: usize,
    ahead: usize,
    /// What is still to be asked for.
    left: u64,
    has_ended: bool,
    /// The counts of the requests under way, oldest first.
    asked: VecDeque<usize>,
    /// The number of the oldest request under way.
    oldest: u64,
}

/// What a read returned, with the bytes still in base64.
#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(borrow, rename = "buf-b64")]
    text: Cow<'a, str>,
    eof: bool,
}

impl GuestFile {
    /// Reads at most so many bytes from where the file is, with requests sent ahead; [`u64::MAX`] is all there are.
    pub fn read_ahead<'a>(&self, agent: &'a mut Client, count: u64) -> ReadAhead<'a> {
        let chunks = self.chunks();
        ReadAhead {
            agent,
            handle: self.handle(),
            chunk: chunks.read.min(READ_MAX as usize),
            ahead: chunks.ahead,
            left: count,
            has_ended: false,
            asked: VecDeque::new(),
            oldest: 0,
        }
    }

    /// Writes from where the file is, with requests sent ahead.
    pub fn write_ahead<'a>(&self, agent: &'a mut Client) -> WriteAhead<'a> {
        let chunks = self.chunks();
        WriteAhead {
            agent,
            handle: self.handle(),
            chunk: chunks.write,
            ahead: chunks.ahead,
            request: Vec::new(),
            under_way: VecDeque::new(),
            oldest: 0,
            written: 0,
        }
    }
}

impl ReadAhead<'_> {
    /// Replaces what is in `piece` with the next bytes; false at the end.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Malformed`] when there are more bytes than were asked for.
    pub fn next_into(&mut self, piece: &mut Vec<u8>) -> Result<bool, Error> {
        loop {
            self.ask()?;
            let Some(count) = self.asked.pop_front() else {
                piece.clear();
                return Ok(false);
            };
            let reply = self.agent.take(GuestFileRead::NAME)?;
            let read: Piece<'_> = self.agent.result(GuestFileRead::NAME, &reply, Some(self.oldest))?;
            self.oldest += 1;
            decode_into(piece, &read.text, count)?;
            let is_last = read.eof;
            self.agent.reuse(reply);
            if is_last {
                self.has_ended = true;
            } else {
                self.left = self.left.saturating_add((count - piece.len()) as u64);
            }
            if !piece.is_empty() {
                return Ok(true);
            }
            if !is_last && self.asked.is_empty() {
                sleep(PAUSE);
            }
        }
    }

    /// Sends the requests that may be under way.
    fn ask(&mut self) -> Result<(), Error> {
        while self.asked.len() < self.ahead && self.left > 0 && !self.has_ended {
            let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.chunk);
            let id = self.oldest + self.asked.len() as u64;
            let request = format!(
                "{{\"execute\":\"{}\",\"arguments\":{{\"handle\":{},\"count\":{count}}},\"id\":{id}}}\n",
                GuestFileRead::NAME,
                self.handle,
            );
            self.agent.ahead(request.as_bytes())?;
            self.asked.push_back(count);
            self.left -= count as u64;
        }
        Ok(())
    }
}

impl Drop for ReadAhead<'_> {
    fn drop(&mut self) {
        if !self.asked.is_empty() {
            self.agent.give_up();
        }
    }
}

/// Replaces what is in `piece` with the bytes that the text stands for, of which there may be so many.
fn decode_into(piece: &mut Vec<u8>, text: &str, limit: usize) -> Result<(), Error> {
    let malformed = |error: qga_proto::Error| Error::Malformed(format!("{}: {}", GuestFileRead::NAME, error.desc));
    if piece.len() < limit {
        piece.resize(limit, 0);
    }
    let mut decoder = Decoder::new(text);
    let mut filled = 0;
    while filled < limit {
        let end = limit.min(filled + DECODED);
        match decoder.next_piece(&mut piece[filled..end]).map_err(malformed)? {
            0 => break,
            count => filled += count,
        }
    }
    if filled == limit && decoder.next_piece(&mut [0; 3]).map_err(malformed)? > 0 {
        return Err(Error::Malformed(format!("more than the {limit} bytes that were asked for")));
    }
    piece.truncate(filled);
    Ok(())
}

/// A file of the guest that is being written, with requests sent ahead.
///
/// An agent that fails to write one piece still writes those behind it: after an error the file has holes.
///
/// ```
/// # use std::time::Duration;
/// # use qga_client::{Client, Error, GuestFile};
/// # let guest = qga_testkit::fake::Agent::start(&[
/// #     ("guest-file-open", "1000"), ("guest-file-close", "{}"),
/// #     ("guest-file-write", r#"{"count": 6, "eof": false}"#),
/// # ]);
/// let mut agent = Client::unix(guest.path(), Duration::from_secs(10))?;
/// let file = GuestFile::open(&mut agent, "/tmp/name", "w")?;
/// let mut writing = file.write_ahead(&mut agent);
/// writing.write(b"debian")?;
/// writing.finish()?;
/// file.close(&mut agent)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct WriteAhead<'a> {
    agent: &'a mut Client,
    handle: i64,
    chunk: usize,
    ahead: usize,
    /// The request that is being made; its memory serves all of them.
    request: Vec<u8>,
    /// What was sent and not yet answered, oldest first.
    under_way: VecDeque<Step>,
    /// The number of the oldest request under way.
    oldest: u64,
    written: u64,
}

/// What one request does.
#[derive(Debug, Clone, Copy)]
enum Step {
    Write(usize),
    Seek(u64),
}

impl WriteAhead<'_> {
    /// Writes all these bytes at the position of the file. They have been written, and without an error, once
    /// [`finish`](Self::finish) has returned.
    ///
    /// # Errors
    /// Any [`Error`], of this or of an earlier write; [`Error::Malformed`] when fewer bytes were written and no reason
    /// is given.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(self.chunk.max(1)) {
            let mut request = std::mem::take(&mut self.request);
            begin_write(&mut request, self.handle, piece);
            request.extend(format!("\"}},\"id\":{}}}\n", self.next_id()).bytes());
            let sent = self.send(&request, Step::Write(piece.len()));
            self.request = request;
            sent?;
        }
        Ok(())
    }

    /// Moves on to a position from the start of the file.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`Error::Arguments`] for a position beyond what the protocol can say.
    pub fn seek(&mut self, position: u64) -> Result<(), Error> {
        if i64::try_from(position).is_err() {
            return Err(Error::Arguments(format!("a position of {position}")));
        }
        let request = format!(
            "{{\"execute\":\"{}\",\"arguments\":{{\"handle\":{},\"offset\":{position},\"whence\":0}},\"id\":{}}}\n",
            GuestFileSeek::NAME,
            self.handle,
            self.next_id(),
        );
        self.send(request.as_bytes(), Step::Seek(position))
    }

    /// How many bytes the agent has said it has written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Waits until everything has been written.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn finish(mut self) -> Result<u64, Error> {
        while !self.under_way.is_empty() {
            self.take()?;
        }
        Ok(self.written)
    }

    fn next_id(&self) -> u64 {
        self.oldest + self.under_way.len() as u64
    }

    fn send(&mut self, request: &[u8], step: Step) -> Result<(), Error> {
        if self.under_way.len() >= self.ahead.max(1) {
            self.take()?;
        }
        self.agent.ahead(request)?;
        self.under_way.push_back(step);
        Ok(())
    }

    /// Waits for the oldest answer.
    fn take(&mut self) -> Result<(), Error> {
        match self.under_way.pop_front() {
            None => return Ok(()),
            Some(Step::Write(length)) => {
                let reply = self.agent.take(GuestFileWrite::NAME)?;
                let done: FileWriteRet = self.agent.result(GuestFileWrite::NAME, &reply, Some(self.oldest))?;
                if usize::try_from(done.count) != Ok(length) {
                    return Err(Error::Malformed(format!("{} of {length} bytes written", done.count)));
                }
                self.written += length as u64;
            }
            Some(Step::Seek(position)) => {
                let reply = self.agent.take(GuestFileSeek::NAME)?;
                let done: FileSeekRet = self.agent.result(GuestFileSeek::NAME, &reply, Some(self.oldest))?;
                if u64::try_from(done.position) != Ok(position) {
                    return Err(Error::Malformed(format!("at {} instead of {position}", done.position)));
                }
            }
        }
        self.oldest += 1;
        Ok(())
    }
}

impl Drop for WriteAhead<'_> {
    fn drop(&mut self) {
        if !self.under_way.is_empty() {
            self.agent.give_up();
        }
    }
}
