//! The bytes a framer holds, and the documents made of them.

use std::fmt;
use std::mem;

/// A message of at least this size takes the buffer over instead of being copied.
pub(super) const TAKE_OVER: usize = 256 << 10;

/// An empty buffer of more than this is given back when its owner says so.
pub(super) const KEEP: usize = 1 << 20;

/// The bytes of a message.
pub struct Document {
    pub(super) bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether all its strings are printable ASCII without an escape, as the framer has seen.
    pub(super) plain: bool,
}

impl Document {
    /// Whether no string in it needs to be looked at: printable ASCII, and no escape.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// The message, from its first byte to its last.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }
}

/// Requests can hold passwords: what went through memory of an ordinary size does not stay there.
impl Drop for Document {
    fn drop(&mut self) {
        // Larger ones are contents of files; clearing them would only cost time.
        if self.as_bytes().len() < TAKE_OVER {
            clear(&mut self.bytes);
        }
    }
}

/// Overwrites bytes that are not needed any more. (This crate has no unsafe code, hence no volatile writes.)
///
/// Never inlined: a crate that is built for size, as the agent is, would make a loop over single bytes of it.
#[inline(never)]
fn clear(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the contents: there may be a password in them.
        f.debug_struct("Document").field("len", &self.as_bytes().len()).finish_non_exhaustive()
    }
}

/// Input that came and is still needed: from the start of the message.
pub(super) struct Input {
    /// Input is `start..end`; beyond `end` there is room that has been used before.
    pub(super) buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Everything before this has been looked at.
    pos: usize,
    /// Beyond this nothing has been written since the buffer was last cleared.
    used: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Input { buf: Vec::new(), start: 0, end: 0, pos: 0, used: 0 }
    }

    /// Room for at least `min` bytes.
    pub(super) fn space(&mut self, min: usize) -> &mut [u8] {
        // Moved only when more is gone than is left, so that no byte is moved again and again.
        if self.start > 0 && self.start >= self.end - self.start {
            self.buf.copy_within(self.start..self.end, 0);
            self.pos -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        if self.buf.len() < self.end + min {
            self.buf.resize(self.end + min, 0);
        }
        &mut self.buf[self.end..]
    }

    pub(super) fn filled(&mut self, n: usize) {
        self.end = self.buf.len().min(self.end + n);
        self.used = self.used.max(self.end);
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Bytes of the message that have been looked at.
    pub(super) fn seen(&self) -> usize {
        self.pos - self.start
    }

    /// Input that has not been looked at.
    pub(super) fn window(&self) -> &[u8] {
        self.buf.get(self.pos..self.end).unwrap_or_default()
    }

    /// Its first byte.
    pub(super) fn byte(&self) -> Option<u8> {
        self.window().first().copied()
    }

    /// The message from its byte `from` up to what has been looked at.
    pub(super) fn text(&self, from: usize) -> &[u8] {
        self.buf.get(self.start + from..self.pos).unwrap_or_default()
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.pos += n;
    }

    /// The byte just seen is to be looked at once more.
    pub(super) fn step_back(&mut self) {
        self.pos -= 1;
    }

    /// What has been looked at is not needed any more.
    pub(super) fn drop_seen(&mut self) {
        self.start = self.pos;
    }

    /// Nothing is needed any more.
    pub(super) fn drop_all(&mut self) {
        self.pos = self.end;
        self.start = self.end;
    }

    /// Clears the memory when nothing is held.
    pub(super) fn tidy(&mut self) {
        if self.start == self.end {
            clear(self.buf.get_mut(..self.used).unwrap_or_default());
            (self.start, self.end, self.pos, self.used) = (0, 0, 0, 0);
        }
    }

    /// Whether a large buffer is there and holds nothing.
    pub(super) fn has_spare(&self) -> bool {
        self.start == self.end && self.buf.len() > KEEP
    }

    /// Gives a large buffer back that holds nothing.
    pub(super) fn release(&mut self) {
        if self.has_spare() {
            self.buf = Vec::new();
            (self.start, self.end, self.pos, self.used) = (0, 0, 0, 0);
        }
    }

    /// Takes the buffer of a document for what comes next, if it is the larger one and nothing is held.
    pub(super) fn reuse(&mut self, mut document: Document) {
        if self.start == self.end && document.bytes.len() > self.buf.len().max(KEEP) {
            self.buf = mem::take(&mut document.bytes);
            (self.start, self.end, self.pos, self.used) = (0, 0, 0, 0);
        }
    }

    /// All that has been looked at, as a document. A large one goes with the buffer it stands in, and the input
    /// behind it moves.
    pub(super) fn take_document(&mut self) -> Document {
        let behind = self.window().len();
        if self.seen() < TAKE_OVER.max(behind) {
            let bytes = self.text(0).to_vec();
            self.drop_seen();
            return Document { end: bytes.len(), bytes, start: 0, plain: false };
        }
        let tail = self.window().to_vec();
        let bytes = mem::replace(&mut self.buf, tail);
        let document = Document { bytes, start: self.start, end: self.pos, plain: false };
        (self.start, self.pos, self.end, self.used) = (0, 0, behind, behind);
        document
    }
}
