//! Questions and answers over a byte stream, kept in step.
//!
//! A stream may hold answers to questions that somebody else asked, or that we gave up waiting for. So before the
//! first question, and again after every one that was not answered properly, the two ends are brought into step:
//! a byte 0xFF, which makes the agent drop an unfinished request, then `guest-sync-delimited` with a random number.
//! Everything that arrives before the byte 0xFF in front of that number is dropped.

use std::io;
use std::time::Duration;

use serde_json::Value;

use crate::deadline::Deadline;
use crate::error::{Error, Monitor};
use crate::printable::printable;
use crate::random;
use crate::reply::Reply;
use crate::stream::Stream;
use crate::transport::{Answer, Chunks, Transport};

/// Bytes a reply may have: 128 MiB. The largest regular one, a `guest-file-read` of 48 MiB, has 64 MiB.
pub const REPLY_MAX: usize = 128 << 20;

/// Values a reply may have.
pub const REPLY_ITEMS_MAX: usize = 2 << 20;

/// Time an agent has for the first question, unless the caller gives less: what libvirt gives it, too.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a line that are kept while the two ends are not in step; the answers looked for are far shorter.
const LINE_KEPT: usize = 4096;

/// Bytes taken from the stream at a time.
const BUFFER: usize = 256 << 10;

/// The byte that no JSON text contains.
const SENTINEL: u8 = 0xFF;

/// A byte stream with an agent at the other end.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    /// Received and not yet used.
    input: Vec<u8>,
    /// What the stream writes into.
    buffer: Box<[u8]>,
    handshake: Duration,
    /// Whether the next line that arrives answers the next question.
    in_step: bool,
    /// Whether several requests may be under way.
    is_queueing: bool,
    /// Requests that were sent ahead and whose replies have not been taken.
    under_way: usize,
    /// The memory of a reply that was read.
    spare: Vec<u8>,
}

impl<S: Stream> Wire<S> {
    /// Takes a stream; nothing is sent before the first question.
    pub fn new(stream: S) -> Self {
        Wire {
            stream,
            input: Vec::new(),
            buffer: vec![0; BUFFER].into(),
            handshake: HANDSHAKE_TIMEOUT,
            in_step: false,
            is_queueing: false,
            under_way: 0,
            spare: Vec::new(),
        }
    }

    /// Gives an agent so much time for the first question instead of [`HANDSHAKE_TIMEOUT`].
    pub fn with_handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake = limit;
        self
    }

    /// Brings the two ends into step.
    fn synchronize(&mut self, deadline: Deadline) -> Result<(), Error> {
        self.input.clear();
        let id = random::bits()?;
        let mut search = Search::new(id);
        self.send(&search.question(), deadline)?;
        let mut buffer = [0; 4096];
        loop {
            // Checked here too: with input that never ends, the stream itself has no reason to give up.
            if deadline.is_over() {
                return Err(search.ended(self.silent(deadline)));
            }
            let received = match self.stream.receive(&mut buffer, deadline) {
                Ok(0) => return Err(search.ended(Error::Closed)),
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(search.ended(self.silent(deadline)));
                }
                Err(error) => return Err(search.ended(broken(error))),
            };
            for &byte in &buffer[..received] {
                match search.take(byte) {
                    Step::More => {}
                    Step::Found => {
                        self.in_step = true;
                        self.is_queueing = search.is_queueing();
                        return Ok(());
                    }
                    Step::AskPlainly => self.send(&search.question(), deadline)?,
                    Step::Wrong(error) => return Err(error),
                }
            }
        }
    }

    /// Why nothing was heard.
    fn silent(&self, deadline: Deadline) -> Error {
        self.stream.held().map_or(Error::Silent(deadline.limit()), Error::Held)
    }

    /// Whether something arrived that nobody asked for.
    fn has_stray_input(&mut self) -> Result<bool, Error> {
        let mut buffer = [0; 4096];
        match self.stream.receive(&mut buffer, Deadline::after(Duration::ZERO)) {
            Ok(0) => Err(Error::Closed),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(!self.input.is_empty()),
            Err(error) => Err(broken(error)),
        }
    }

    /// Makes sure that the two ends are in step, for a question that is sent now. Whatever goes wrong from here on, the
    /// next one starts with a handshake.
    fn take_step(&mut self, deadline: Deadline) -> Result<(), Error> {
        if self.in_step && self.has_stray_input()? {
            self.in_step = false;
        }
        if !self.in_step {
            self.synchronize(deadline.at_most(self.handshake))?;
        }
        self.in_step = false;
        self.input.clear();
        Ok(())
    }

    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), Error> {
        self.stream.send(bytes, deadline).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Error::NotTaken(deadline.limit()),
            _ => broken(error),
        })
    }

    /// Receives one line into `input` and returns its length with the line end; `None` when it did not come in time.
    fn receive_line(&mut self, deadline: Deadline) -> Result<Option<usize>, Error> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.input[searched..]) {
                return Ok(Some(searched + at + 1));
            }
            searched = self.input.len();
            if searched > REPLY_MAX {
                return Err(Error::TooBig(REPLY_MAX));
            }
            if deadline.is_over() {
                return Ok(None);
            }
            match self.stream.receive(&mut self.buffer, deadline) {
                Ok(0) => return Err(Error::Closed),
                Ok(received) => self.input.extend_from_slice(&self.buffer[..received]),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(None),
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

impl<S: Stream> Transport for Wire<S> {
    fn exchange(&mut self, request: &[u8], deadline: Deadline) -> Result<Answer, Error> {
        // Replies that nobody wants any more are dropped by the handshake.
        if self.under_way > 0 {
            self.lose_step();
        }
        self.ahead(request, deadline)?;
        self.take(deadline)
    }

    fn ahead(&mut self, request: &[u8], deadline: Deadline) -> Result<(), Error> {
        if self.under_way == 0 {
            self.take_step(deadline)?;
        }
        // Whatever goes wrong from here on, the next question starts with a handshake.
        let under_way = std::mem::take(&mut self.under_way);
        self.in_step = false;
        self.send(request, deadline)?;
        self.under_way = under_way + 1;
        Ok(())
    }

    fn take(&mut self, deadline: Deadline) -> Result<Answer, Error> {
        let Some(left) = self.under_way.checked_sub(1) else {
            return Err(Error::Malformed("nothing was asked".into()));
        };
        self.under_way = 0;
        let length = match self.receive_line(deadline) {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(Answer::Nothing),
            Err(Error::Closed) => return Ok(Answer::Closed),
            Err(error) => return Err(error),
        };
        let mut behind = std::mem::take(&mut self.spare);
        behind.clear();
        behind.extend_from_slice(&self.input[length..]);
        self.input.truncate(length);
        let reply = Reply::new(std::mem::replace(&mut self.input, behind), REPLY_ITEMS_MAX)?;
        self.under_way = left;
        self.in_step = left == 0;
        Ok(Answer::Reply(reply))
    }

    fn reuse(&mut self, reply: Reply) {
        self.spare = reply.into_memory();
    }

    fn lose_step(&mut self) {
        self.in_step = false;
        self.under_way = 0;
    }

    fn chunks(&self) -> Chunks {
        let chunks = self.stream.chunks();
        if self.is_queueing { chunks } else { Chunks { ahead: 1, ..chunks } }
    }
}

/// An error of the stream other than that time is over.
fn broken(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Error::Closed,
        _ => Error::Broken(error),
    }
}

/// What a byte led to in the search for the answer to the handshake.
enum Step {
    More,
    Found,
    /// The delimited form is not to be had; the other question should be asked.
    AskPlainly,
    Wrong(Error),
}

/// Looks for the answer to the handshake in whatever arrives.
struct Search {
    id: u64,
    /// The command that is asked.
    command: &'static str,
    /// The start of the current line.
    line: Vec<u8>,
    /// Whether the current line had the sentinel in front.
    delimited: bool,
    /// The first line that no agent would have sent.
    foreign: Option<String>,
    /// Whether the sentinel was complained about.
    complained: bool,
}

impl Search {
    fn new(id: u64) -> Self {
        Search {
            id,
            command: "guest-sync-delimited",
            line: Vec::new(),
            delimited: false,
            foreign: None,
            complained: false,
        }
    }

    /// Whether the agent can have several requests under way. The C agent loses answers on a virtio port when more
    /// requests come in while it writes them. It is known by its complaint about the sentinel, which is no JSON.
    fn is_queueing(&self) -> bool {
        !self.complained && self.command == "guest-sync-delimited"
    }

    /// The bytes to send.
    fn question(&self) -> Vec<u8> {
        let mut bytes = vec![SENTINEL];
        bytes.extend(format!("{{\"execute\":\"{}\",\"arguments\":{{\"id\":{}}}}}\n", self.command, self.id).bytes());
        bytes
    }

    fn take(&mut self, byte: u8) -> Step {
        match byte {
            SENTINEL => {
                self.line.clear();
                self.delimited = true;
            }
            b'\n' => {
                let line = std::mem::take(&mut self.line);
                let delimited = std::mem::take(&mut self.delimited);
                return self.take_line(&line, delimited);
            }
            _ if self.line.len() < LINE_KEPT => self.line.push(byte),
            _ => {}
        }
        Step::More
    }

    fn take_line(&mut self, line: &[u8], delimited: bool) -> Step {
        let Ok(value) = serde_json::from_slice::<Value>(line) else {
            return self.take_text(line);
        };
        if value.get("QMP").is_some() {
            return Step::Wrong(Error::Monitor(Monitor::Qmp));
        }
        let plain = self.command == "guest-sync";
        if let Some(answer) = value.get("return") {
            return if (delimited || plain) && answer.as_u64() == Some(self.id) { Step::Found } else { Step::More };
        }
        let Some(error) = value.get("error") else {
            return self.take_text(line);
        };
        let desc = error.get("desc").and_then(Value::as_str).unwrap_or_default();
        self.complained |= desc.contains("JSON parse error") || desc.contains("Invalid JSON");
        let refused = error.get("class").and_then(Value::as_str).is_some_and(|class| class != "GenericError")
            && error.get("desc").and_then(Value::as_str).is_some_and(|desc| names(desc, self.command));
        match (refused, plain) {
            (false, _) => Step::More,
            (true, false) => {
                self.command = "guest-sync";
                Step::AskPlainly
            }
            (true, true) => Step::Wrong(Error::Blocked {
                command: "guest-sync-delimited and guest-sync".into(),
                by: crate::Blocker::List,
            }),
        }
    }

    /// A line that is no JSON, or none that an agent sends.
    fn take_text(&mut self, line: &[u8]) -> Step {
        let text = String::from_utf8_lossy(line);
        if text.contains("QEMU ") && text.contains(" monitor - type 'help'") {
            return Step::Wrong(Error::Monitor(Monitor::Human));
        }
        // The rest of a reply whose start was taken by somebody else, or dropped, is no sign of a stranger.
        let is_rest = text.trim_end().ends_with('}') || line.len() == LINE_KEPT;
        if self.foreign.is_none() && !is_rest && !text.trim().is_empty() {
            self.foreign = Some(printable(text.trim()).chars().take(120).collect());
        }
        Step::More
    }

    /// The error for a search that ended without the answer, for the reason given unless there is a better one.
    fn ended(mut self, reason: Error) -> Error {
        let line = std::mem::take(&mut self.line);
        if !line.starts_with(b"{") {
            if let Step::Wrong(error) = self.take_text(&line) {
                return error;
            }
        }
        self.foreign.map_or(reason, Error::Foreign)
    }
}

/// Whether a text has a command's name in it as a whole word.
fn names(text: &str, command: &str) -> bool {
    text.split([' ', ',', ':', '\'']).any(|word| word == command)
}
