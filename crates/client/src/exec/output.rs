//! A stream of the guest in files that grow while they are read.

use std::io::SeekFrom;
use std::mem;

use crate::client::Client;
use crate::error::Error;
use crate::file::GuestFile;

/// Bytes of a piece from which on the supervisor may begin the next one.
pub(super) const PIECE: u64 = 512 << 10;

/// A stream that is read to wherever it is.
#[derive(Debug)]
pub(super) struct Output {
    /// The path of the pieces but for their number; a file that is no piece has none.
    pieces: Option<String>,
    number: u64,
    file: GuestFile,
    at: u64,
    /// The next piece: this one is complete.
    next: Option<GuestFile>,
    /// Where the agent is in the file is not known: a read may have been carried out and its answer lost.
    is_adrift: bool,
}

impl Output {
    /// A stream in pieces, `NAME.0` and so on.
    pub(super) fn pieces(agent: &mut Client, dir: &str, name: &str) -> Result<Self, Error> {
        let path = format!("{dir}/{name}.");
        let file = GuestFile::open(agent, &format!("{path}0"), "r")?;
        Ok(Output { pieces: Some(path), ..Output::file(file) })
    }

    /// A stream in one file.
    pub(super) fn file(file: GuestFile) -> Self {
        Output { pieces: None, number: 0, file, at: 0, next: None, is_adrift: false }
    }

    /// What there is to read; nothing when there is nothing at the moment.
    pub(super) fn read(&mut self, agent: &mut Client) -> Result<Vec<u8>, Error> {
        loop {
            let bytes = self.read_here(agent)?;
            if !bytes.is_empty() {
                return Ok(bytes);
            }
            if self.next.is_some() {
                self.go_on(agent)?;
                continue;
            }
            let Some(path) = self.pieces.as_ref().filter(|_| self.at >= PIECE) else {
                return Ok(bytes);
            };
            match GuestFile::open(agent, &format!("{path}{}", self.number + 1), "r") {
                // Something may have come before the next one was made.
                Ok(file) => self.next = Some(file),
                Err(Error::Failed { .. }) => return Ok(bytes),
                Err(error) => return Err(error),
            }
        }
    }

    fn read_here(&mut self, agent: &mut Client) -> Result<Vec<u8>, Error> {
        if mem::replace(&mut self.is_adrift, true) {
            self.file.seek(agent, SeekFrom::Start(self.at))?;
        }
        let piece = self.file.read(agent, PIECE as usize)?;
        self.is_adrift = false;
        self.at += piece.bytes.len() as u64;
        Ok(piece.bytes)
    }

    /// Leaves this piece, empty: so the supervisor knows that it may be removed.
    fn go_on(&mut self, agent: &mut Client) -> Result<(), Error> {
        let Some(path) = &self.pieces else { return Ok(()) };
        // First what must not be left out when it has to be tried again.
        GuestFile::open(agent, &format!("{path}{}", self.number), "w")?.close(agent)?;
        let Some(next) = self.next.take() else { return Ok(()) };
        self.number += 1;
        self.at = 0;
        mem::replace(&mut self.file, next).close(agent)
    }

    /// Gives the files up.
    pub(super) fn close(self, agent: &mut Client) -> Result<(), Error> {
        let closed = self.next.map_or(Ok(()), |next| next.close(agent));
        self.file.close(agent).and(closed)
    }
}
