//! A supervised program in the guest: what it prints, what it reads, and its end.

use std::mem;
use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_proto::types::exec::{CaptureOutput, GuestExec};
use qga_proto::{Command, ErrorClass};

use super::input::Input;
use super::output::Output;
use super::remote::SHELL;
use super::{Exec, Process, script};
use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::file::GuestFile;

/// Sends a signal to the program of a directory.
const END: &str = include_str!("end.sh");

/// Where the directory may be, in the order in which the supervisor tries.
const BASES: [&str; 2] = ["/run", "/tmp"];

/// How long an ended program's output is still read when something it has left behind holds it open.
const LINGER: Duration = Duration::from_secs(1);

/// How often the supervisor itself is looked at; its end without a word is rare, and agents log the question.
const LOOK: Duration = Duration::from_secs(5);

/// The time that small things in the guest are given: to start a shell, to remove a directory.
const SOON: Duration = Duration::from_secs(10);

/// Most that is taken of what a program writes to its descriptor 3, in bytes.
const STATE_MAX: usize = 96 << 10;

/// How a program is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Asked to end: SIGTERM.
    Ask,
    /// Ended: SIGKILL.
    Force,
}

/// What one look at a program gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// What it has printed since the last one.
    pub out: Vec<u8>,
    /// The same of its standard error.
    pub err: Vec<u8>,
    /// Its exit code, once it has ended and all its output is here; 128 and the number for a signal.
    pub code: Option<u8>,
    /// Whether output was lost, because the guest had no room for it.
    pub is_cut: bool,
}

impl Heard {
    /// Whether it printed something.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty() || !self.err.is_empty()
    }
}

/// A program in the guest, started by [`Remote::start`](super::Remote::start).
///
/// After an error of a call the same call may be made again: nothing is lost or doubled. When the value is dropped, or
/// this process ends, without [`finish`](Self::finish), the guest ends the program by itself when the time to keep it
/// is over.
#[derive(Debug)]
pub struct Running {
    process: Process,
    dir: String,
    out: Output,
    err: Output,
    code: Output,
    input: Option<Input>,
    beat: GuestFile,
    beat_every: Duration,
    last_beat: Instant,
    last_look: Instant,
    last_output: Instant,
    heard: Heard,
    /// What the supervisor has said and is no line yet.
    said: Vec<u8>,
    exit: Option<u8>,
    is_out_over: bool,
    is_err_over: bool,
}

impl Running {
    /// Waits for the directory and opens its files; nothing when the supervisor gives up.
    pub(super) fn attach(
        agent: &mut Client,
        process: Process,
        name: &str,
        keep: Duration,
        has_input: bool,
    ) -> Result<Option<Self>, Error> {
        let deadline = Deadline::after(SOON.max(agent.timeout()));
        let mut pause = Duration::from_millis(10);
        let (dir, code) = loop {
            sleep(pause);
            if let Some(found) = find(agent, name)? {
                break found;
            }
            if process.status(agent)?.exited {
                return Ok(None);
            }
            if deadline.is_over() {
                return Err(Error::Timeout { command: GuestExec::NAME.to_owned(), after: deadline.limit() });
            }
            pause = (pause * 2).min(Duration::from_millis(200));
        };
        let now = Instant::now();
        Ok(Some(Running {
            process,
            out: Output::pieces(agent, &dir, "out")?,
            err: Output::pieces(agent, &dir, "err")?,
            code,
            input: if has_input { Some(Input::open(agent, &dir)?) } else { None },
            beat: GuestFile::open(agent, &format!("{dir}/beat"), "a")?,
            dir,
            beat_every: keep / 4,
            last_beat: now,
            last_look: now,
            last_output: now,
            heard: Heard::default(),
            said: Vec::new(),
            exit: None,
            is_out_over: false,
            is_err_over: false,
        }))
    }

    /// Takes what the program has printed, and its exit code once it has ended. Has to be called at least every
    /// quarter of the time the program is kept: the guest takes it for a sign of life.
    ///
    /// # Errors
    /// Any [`Error`]. [`Error::Failed`] when the program's supervisor has been killed.
    pub fn poll(&mut self, agent: &mut Client) -> Result<Heard, Error> {
        if self.last_beat.elapsed() >= self.beat_every {
            self.beat.write_all(agent, b".")?;
            self.beat.flush(agent)?;
            self.last_beat = Instant::now();
        }
        // What is read after the end of a stream was told is all of it.
        let is_over = self.exit.is_some() && self.is_out_over && self.is_err_over;
        // What came before an error is kept for the next time.
        let out = self.out.read(agent)?;
        self.heard.out.extend(out);
        let err = self.err.read(agent)?;
        self.heard.err.extend(err);
        if self.heard.has_output() {
            self.last_output = Instant::now();
        } else if is_over || (self.exit.is_some() && self.last_output.elapsed() >= LINGER) {
            self.heard.code = self.exit;
        }
        if self.heard.code.is_none() {
            self.listen(agent)?;
        }
        Ok(mem::take(&mut self.heard))
    }

    /// Hears what the supervisor says.
    fn listen(&mut self, agent: &mut Client) -> Result<(), Error> {
        self.said.extend(self.code.read(agent)?);
        while let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.said.drain(..=end).collect();
            match line.as_slice() {
                b"on\n" => {}
                b"out\n" => self.is_out_over = true,
                b"err\n" => self.is_err_over = true,
                b"full\n" => self.heard.is_cut = true,
                other => {
                    let code = std::str::from_utf8(other).ok().and_then(|line| line.trim().strip_prefix("exit "));
                    let code = code.and_then(|code| code.parse().ok());
                    self.exit = Some(code.ok_or_else(|| Error::Malformed("no exit code".into()))?);
                    // What is left behind may still print for a moment.
                    self.last_output = Instant::now();
                }
            }
        }
        if self.exit.is_none() && self.last_look.elapsed() >= LOOK {
            self.last_look = Instant::now();
            if self.process.status(agent)?.exited {
                let desc = "what looks after the program in the guest was killed".to_owned();
                let class = ErrorClass::Generic.name().to_owned();
                return Err(Error::Failed { command: GuestExec::NAME.to_owned(), class, desc });
            }
        }
        Ok(())
    }

    /// Whether the program has ended, though there may be output of it to be read.
    pub fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// Sends bytes for it to read and says how many were taken: none when it has not read enough of the earlier ones.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn write(&mut self, agent: &mut Client, bytes: &[u8]) -> Result<usize, Error> {
        match &mut self.input {
            Some(input) => input.write(agent, bytes),
            None => Ok(bytes.len()),
        }
    }

    /// Ends what it reads.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn close_input(&mut self, agent: &mut Client) -> Result<(), Error> {
        match &mut self.input {
            Some(input) => input.end(agent),
            None => Ok(()),
        }
    }

    /// Ends the program and all that belongs to its process group; whether there was something to be ended.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn end(&self, agent: &mut Client, how: Ending) -> Result<bool, Error> {
        let signal = match how {
            Ending::Ask => "TERM",
            Ending::Force => "KILL",
        };
        let end = Exec::new(SHELL).args(["-c", &script(END), "qga", &self.dir, signal]).capture(CaptureOutput::None);
        Ok(end.run(agent, SOON)?.is_success())
    }

    /// What it has written to its descriptor 3, if [`Remote::with_state`](super::Remote::with_state) asked for it.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::TooBig`] for more than 96 KiB.
    pub fn state(&self, agent: &mut Client) -> Result<Vec<u8>, Error> {
        let file = GuestFile::open(agent, &format!("{}/state", self.dir), "r")?;
        let state = file.read_to_end(agent, STATE_MAX);
        file.close(agent)?;
        state
    }

    /// Removes everything from the guest. The program ends when it writes again, if it is still running.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Timeout`] when the guest does not get it done.
    pub fn finish(self, agent: &mut Client) -> Result<(), Error> {
        // Nobody needs the end of these, and the supervisor removes them with all else.
        let closed = [self.out.close(agent), self.err.close(agent), self.code.close(agent), self.beat.close(agent)];
        let closed = closed.into_iter().chain(self.input.map(|input| input.close(agent)));
        let closed = closed.fold(Ok(()), Result::and);
        GuestFile::open(agent, &format!("{}/done", self.dir), "w")?.close(agent)?;
        self.process.wait(agent, SOON.max(agent.timeout()))?;
        closed
    }
}

/// The directory and the open file of what the supervisor says, which is the last that it makes.
fn find(agent: &mut Client, name: &str) -> Result<Option<(String, Output)>, Error> {
    for base in BASES {
        let dir = format!("{base}/{name}");
        match GuestFile::open(agent, &format!("{dir}/code"), "r") {
            Ok(file) => return Ok(Some((dir, Output::file(file)))),
            Err(Error::Failed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
