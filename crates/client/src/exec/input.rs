//! What a program in the guest reads, in files that grow while it does.

use std::io::SeekFrom;

use super::output::{Output, PIECE};
use crate::client::Client;
use crate::error::Error;
use crate::file::GuestFile;

/// How many pieces may be there that the program has not read.
const PIECES: u64 = 4;

/// The stream to a program.
#[derive(Debug)]
pub(super) struct Input {
    dir: String,
    number: u64,
    file: Option<GuestFile>,
    at: u64,
    /// The agent may be elsewhere in the file: a write may have been carried out and its answer lost.
    is_adrift: bool,
    /// A line for each piece that was read.
    ate: Output,
    eaten: u64,
    is_over: bool,
}

impl Input {
    pub(super) fn open(agent: &mut Client, dir: &str) -> Result<Self, Error> {
        Ok(Input {
            file: Some(GuestFile::open(agent, &format!("{dir}/in.0"), "w")?),
            ate: Output::file(GuestFile::open(agent, &format!("{dir}/ate"), "r")?),
            dir: dir.to_owned(),
            number: 0,
            at: 0,
            is_adrift: false,
            eaten: 0,
            is_over: false,
        })
    }

    /// Writes as much as there is room for.
    pub(super) fn write(&mut self, agent: &mut Client, bytes: &[u8]) -> Result<usize, Error> {
        if bytes.is_empty() || self.is_over {
            return Ok(bytes.len());
        }
        if self.at >= PIECE {
            self.eaten += self.ate.read(agent)?.len() as u64;
            if self.number + 1 >= self.eaten + PIECES {
                return Ok(0);
            }
            // The next one is made when this one is complete.
            if let Some(file) = self.file.take() {
                file.close(agent)?;
            }
            self.file = Some(GuestFile::open(agent, &format!("{}/in.{}", self.dir, self.number + 1), "w")?);
            self.number += 1;
            self.at = 0;
            self.is_adrift = false;
        }
        let Some(file) = &self.file else { return Ok(0) };
        if std::mem::replace(&mut self.is_adrift, true) {
            file.seek(agent, SeekFrom::Start(self.at))?;
        }
        let count = file.write(agent, bytes)?;
        file.flush(agent)?;
        self.is_adrift = false;
        self.at += count as u64;
        Ok(count)
    }

    /// Marks the end.
    pub(super) fn end(&mut self, agent: &mut Client) -> Result<(), Error> {
        if self.is_over {
            return Ok(());
        }
        if let Some(file) = self.file.take() {
            file.close(agent)?;
        }
        GuestFile::open(agent, &format!("{}/eof", self.dir), "w")?.close(agent)?;
        self.is_over = true;
        Ok(())
    }

    /// Gives the files up.
    pub(super) fn close(self, agent: &mut Client) -> Result<(), Error> {
        let closed = self.file.map_or(Ok(()), |file| file.close(agent));
        self.ate.close(agent).and(closed)
    }
}
