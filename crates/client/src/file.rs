//! A file of the guest, read and written in pieces.

use std::io::SeekFrom;

use qga_proto::Command;
use qga_proto::base64;
use qga_proto::types::file::{
    FileHandleArgs, FileOpenArgs, FileReadArgs, FileSeekArgs, FileWriteRet, GuestFileClose, GuestFileFlush,
    GuestFileOpen, GuestFileRead, GuestFileSeek, GuestFileWrite, READ_MAX, Whence,
};

use crate::client::Client;
use crate::error::Error;
use crate::transport::Chunks;

/// An open file of the guest.
///
/// It is no more than the number the agent gave: whoever uses it says over which connection, so that one connection
/// serves several files. The agent keeps it open until [`close`](Self::close), whatever becomes of the connection.
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
/// assert_eq!(file.read_to_end(&mut agent, 1 << 20)?, b"debian");
/// file.close(&mut agent)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct GuestFile {
    handle: i64,
    chunks: Chunks,
}

/// What one read gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// The bytes; none at the end of a file, and when a FIFO has nothing at the moment.
    pub bytes: Vec<u8>,
    /// Whether the end was reached.
    pub is_last: bool,
}

impl GuestFile {
    /// Opens a file of the guest; the mode is one of `fopen`, such as `r`, `w` or `a+`.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Failed`] with the guest's words when it cannot be opened.
    pub fn open(agent: &mut Client, path: &str, mode: &str) -> Result<Self, Error> {
        let args = FileOpenArgs { path: path.into(), mode: Some(mode.into()) };
        let handle = agent.call::<GuestFileOpen>(args)?;
        Ok(GuestFile { handle, chunks: agent.chunks() })
    }

    /// The agent's number for it.
    pub fn handle(&self) -> i64 {
        self.handle
    }

    /// How many bytes go into one request on the channel it was opened over.
    pub(crate) fn chunks(&self) -> Chunks {
        self.chunks
    }

    /// Reads at most so many bytes, and no more than the channel carries well in one piece.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Malformed`] when there are more bytes than were asked for.
    pub fn read(&self, agent: &mut Client, limit: usize) -> Result<Piece, Error> {
        let count = limit.min(self.chunks.read).min(READ_MAX as usize);
        let args = FileReadArgs { handle: self.handle, count: Some(count as i64) };
        let read = agent.call::<GuestFileRead>(args)?;
        if read.buf.0.len() > count {
            return Err(Error::Malformed(format!("{} bytes where {count} were asked for", read.buf.0.len())));
        }
        Ok(Piece { bytes: read.buf.0, is_last: read.eof })
    }

    /// Reads from the current position to the end.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::TooBig`] when there are more than `limit` bytes: a file of a guest need not have an end.
    pub fn read_to_end(&self, agent: &mut Client, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        loop {
            let piece = self.read(agent, usize::MAX)?;
            if bytes.len() + piece.bytes.len() > limit {
                return Err(Error::TooBig(limit));
            }
            let is_last = piece.is_last || piece.bytes.is_empty();
            bytes.extend(piece.bytes);
            if is_last {
                return Ok(bytes);
            }
        }
    }

    /// Writes one piece, as much of the bytes as the channel carries well, and says how many those were.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Malformed`] when the agent claims to have written more than it got.
    pub fn write(&self, agent: &mut Client, bytes: &[u8]) -> Result<usize, Error> {
        let piece = &bytes[..bytes.len().min(self.chunks.write)];
        let mut request = Vec::new();
        begin_write(&mut request, self.handle, piece);
        request.extend(b"\"}}\n");
        let written: FileWriteRet = agent.run(GuestFileWrite::NAME, &request, true)?;
        match usize::try_from(written.count) {
            Ok(count) if count <= piece.len() => Ok(count),
            _ => Err(Error::Malformed(format!("{} of {} bytes written", written.count, piece.len()))),
        }
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Malformed`] when nothing is written any more and no reason is given.
    pub fn write_all(&self, agent: &mut Client, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self.write(agent, bytes)? {
                0 => return Err(Error::Malformed("nothing was written".into())),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }

    /// Moves to a position and returns it, from the start.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Arguments`] for a position beyond what the protocol can say.
    pub fn seek(&self, agent: &mut Client, to: SeekFrom) -> Result<u64, Error> {
        let (offset, whence) = match to {
            SeekFrom::Start(offset) => {
                (i64::try_from(offset).map_err(|_| Error::Arguments(format!("a position of {offset}")))?, Whence::Set)
            }
            SeekFrom::Current(offset) => (offset, Whence::Cur),
            SeekFrom::End(offset) => (offset, Whence::End),
        };
        let position = agent.call::<GuestFileSeek>(FileSeekArgs { handle: self.handle, offset, whence })?.position;
        u64::try_from(position).map_err(|_| Error::Malformed(format!("a position of {position}")))
    }

    /// Hands what was written on to the guest's kernel.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn flush(&self, agent: &mut Client) -> Result<(), Error> {
        agent.call::<GuestFileFlush>(FileHandleArgs { handle: self.handle }).map(drop)
    }

    /// Closes it. An agent that writes late may tell only now that it could not.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn close(self, agent: &mut Client) -> Result<(), Error> {
        agent.call::<GuestFileClose>(FileHandleArgs { handle: self.handle }).map(drop)
    }
}

/// Begins a request to write a piece, in an empty buffer: what is left to add ends the object with its arguments (`"}`)
/// and the request. Base64 needs no escapes, so it goes straight in.
pub(crate) fn begin_write(request: &mut Vec<u8>, handle: i64, piece: &[u8]) {
    request.clear();
    request.reserve(piece.len().div_ceil(3) * 4 + 512);
    let name = GuestFileWrite::NAME;
    let start = format!("{{\"execute\":\"{name}\",\"arguments\":{{\"handle\":{handle},\"buf-b64\":\"");
    request.extend(start.bytes());
    base64::encode_into(request, piece);
}
