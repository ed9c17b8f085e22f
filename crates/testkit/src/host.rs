//! A fake host: the blocking other end of an agent's channel, for tests.
//!
//! It knows no more of the protocol than a test needs, so that a test sees the bytes as they are. Nothing waits without
//! a limit.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wait;

/// The limit of a call that does not name its own: generous, for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An error reply of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentError {
    /// `GenericError`, `CommandNotFound`, ...
    pub class: String,
    /// The text for people.
    pub desc: String,
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.desc)
    }
}

impl std::error::Error for AgentError {}

/// One connection to an agent, seen from the host.
#[derive(Debug)]
pub struct Host {
    stream: UnixStream,
    path: PathBuf,
    received: Vec<u8>,
    next_id: i64,
}

impl Host {
    /// Connects to the unix socket at `path`.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        Ok(Self::over(UnixStream::connect(path)?, path))
    }

    /// Connects as soon as somebody listens at `path`.
    ///
    /// # Errors
    /// The last error of connect(2) when `within` is over.
    pub fn connect_retry(path: impl AsRef<Path>, within: Duration) -> io::Result<Self> {
        let mut last = None;
        let host = wait::poll(within, || match Self::connect(path.as_ref()) {
            Ok(host) => Some(host),
            Err(error) => {
                last = Some(error);
                None
            }
        });
        host.ok_or_else(|| last.unwrap_or_else(|| ErrorKind::TimedOut.into()))
    }

    /// Talks over a stream that is already connected; `path` is only for messages.
    pub fn over(stream: UnixStream, path: impl Into<PathBuf>) -> Self {
        Self { stream, path: path.into(), received: Vec::new(), next_id: 1 }
    }

    /// The stream itself, for tests that shut it down or fill it.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends bytes as they are, within [`PATIENCE`].
    ///
    /// # Errors
    /// `TimedOut` when the agent does not take them; else those of write(2).
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send_raw_within(bytes, PATIENCE)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// `TimedOut` when the agent does not take all of them `within` the limit; else those of write(2).
    pub fn send_raw_within(&mut self, bytes: &[u8], within: Duration) -> io::Result<()> {
        let end = Instant::now() + within;
        let mut rest = bytes;
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(left(end)?))?;
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) => again(error)?,
            }
        }
        Ok(())
    }

    /// The next line without its LF.
    ///
    /// # Errors
    /// `TimedOut` when no whole line comes `within` the limit (what came is kept), `UnexpectedEof` when the agent closes.
    pub fn read_line(&mut self, within: Duration) -> io::Result<Vec<u8>> {
        let end = Instant::now() + within;
        let mut searched = 0;
        loop {
            if let Some(at) = self.received[searched..].iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.received.drain(..=searched + at).collect();
                line.pop();
                return Ok(line);
            }
            searched = self.received.len();
            if self.fill(end)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next line as JSON. Bytes 0xFF before it (the answer of guest-sync-delimited) are dropped.
    ///
    /// # Errors
    /// Those of [`Host::read_line`]; `InvalidData` when the line is no JSON.
    pub fn read_json(&mut self, within: Duration) -> io::Result<Value> {
        let line = self.read_line(within)?;
        let start = line.iter().rposition(|&byte| byte == 0xFF).map_or(0, |at| at + 1);
        serde_json::from_slice(&line[start..]).map_err(|error| {
            let text = String::from_utf8_lossy(&line).into_owned();
            io::Error::new(ErrorKind::InvalidData, format!("{error} in the reply {text}"))
        })
    }

    /// Everything the agent sends until it has been silent for `silence` or closes, but no longer than [`PATIENCE`].
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read_until_silence(&mut self, silence: Duration) -> io::Result<Vec<u8>> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.fill((Instant::now() + silence).min(end)) {
                Ok(0) => break,
                Ok(_) => (),
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.received))
    }

    /// Waits for the agent to close the connection; what comes before is dropped.
    ///
    /// # Errors
    /// `TimedOut` when it is still open at the limit. A reset counts as closed.
    pub fn read_to_close(&mut self, within: Duration) -> io::Result<()> {
        let end = Instant::now() + within;
        loop {
            self.received.clear();
            match self.fill(end) {
                Ok(0) => return Ok(()),
                Ok(_) => (),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a request without waiting for its reply.
    ///
    /// # Errors
    /// Those of [`Host::send_raw`].
    pub fn send(&mut self, name: &str, arguments: &Value) -> io::Result<()> {
        self.send_raw(&request(name, arguments))
    }

    /// Calls a command and waits for its reply.
    ///
    /// # Errors
    /// Outside: the connection's; inside: the agent's answer.
    pub fn try_call(
        &mut self,
        name: &str,
        arguments: Value,
        within: Duration,
    ) -> io::Result<Result<Value, AgentError>> {
        self.send_raw_within(&request(name, &arguments), within)?;
        let reply = self.read_json(within)?;
        outcome(reply)
    }

    /// Calls a command and waits for its reply, within [`PATIENCE`].
    ///
    /// # Errors
    /// The agent's error reply.
    ///
    /// # Panics
    /// When there is no reply.
    #[track_caller]
    pub fn call(&mut self, name: &str, arguments: Value) -> Result<Value, AgentError> {
        self.call_within(name, arguments, PATIENCE)
    }

    /// Calls a command and waits for its reply.
    ///
    /// # Errors
    /// The agent's error reply.
    ///
    /// # Panics
    /// When there is no reply `within` the limit.
    #[track_caller]
    pub fn call_within(&mut self, name: &str, arguments: Value, within: Duration) -> Result<Value, AgentError> {
        match self.try_call(name, arguments, within) {
            Ok(outcome) => outcome,
            Err(error) => panic!("no reply to {name} through {}: {error}", self.path.display()),
        }
    }

    /// Brings both ends to the same point: sends 0xFF and guest-sync-delimited, drops everything before its answer.
    ///
    /// # Errors
    /// `TimedOut` when the answer does not come `within` the limit; else those of the connection.
    pub fn sync(&mut self, within: Duration) -> io::Result<()> {
        let end = Instant::now() + within;
        let id = i64::from(std::process::id()) << 20 | self.next_id;
        self.next_id += 1;
        let mut bytes = vec![0xFF];
        bytes.extend(request("guest-sync-delimited", &json!({ "id": id })));
        self.send_raw_within(&bytes, within)?;
        loop {
            let line = self.read_line(left(end)?)?;
            // What an earlier conversation left behind may be no JSON at all: only our own number ends the wait.
            let Some(at) = line.iter().rposition(|&byte| byte == 0xFF) else { continue };
            let Ok(reply) = serde_json::from_slice::<Value>(&line[at + 1..]) else { continue };
            if reply["return"] == json!(id) {
                return Ok(());
            }
        }
    }

    /// Reads once, before `end`; 0 when the agent closed.
    fn fill(&mut self, end: Instant) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        loop {
            self.stream.set_read_timeout(Some(left(end)?))?;
            match self.stream.read(&mut piece) {
                Ok(count) => {
                    self.received.extend_from_slice(&piece[..count]);
                    return Ok(count);
                }
                Err(error) => again(error)?,
            }
        }
    }
}

/// A request as clients send it: one line, `arguments` left out when there are none.
pub fn request(name: &str, arguments: &Value) -> Vec<u8> {
    let mut message = json!({ "execute": name });
    if arguments.as_object().is_some_and(|members| !members.is_empty()) {
        message["arguments"] = arguments.clone();
    }
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Sorts a reply into value and error.
///
/// # Errors
/// `InvalidData` when it is neither; inside: the agent's error.
pub fn outcome(mut reply: Value) -> io::Result<Result<Value, AgentError>> {
    if let Some(value) = reply.get_mut("return") {
        return Ok(Ok(value.take()));
    }
    let text = |member: &str| reply["error"][member].as_str().map(str::to_owned);
    match (text("class"), text("desc")) {
        (Some(class), Some(desc)) => Ok(Err(AgentError { class, desc })),
        _ => Err(io::Error::new(ErrorKind::InvalidData, format!("neither value nor error: {reply}"))),
    }
}

/// The time left until `end`.
fn left(end: Instant) -> io::Result<Duration> {
    match end.checked_duration_since(Instant::now()) {
        // A time-out of zero would mean "for ever" to the kernel.
        Some(left) if left >= Duration::from_micros(1) => Ok(left),
        _ => Err(ErrorKind::TimedOut.into()),
    }
}

/// Swallows what only means "ask again": the clock is looked at before the next try.
fn again(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host and the bare other end of its connection.
    fn pair() -> (Host, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        (Host::over(ours, "test"), theirs)
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_read_whole() {
        let (mut host, mut agent) = pair();
        agent.write_all(b"{\"return\"").unwrap();
        assert_eq!(host.read_line(Duration::from_millis(30)).unwrap_err().kind(), ErrorKind::TimedOut);
        agent.write_all(b": 1}\n{\"return\": 2}\n").unwrap();
        assert_eq!(host.read_line(PATIENCE).unwrap(), b"{\"return\": 1}");
        assert_eq!(host.read_json(PATIENCE).unwrap()["return"], 2);
    }

    #[test]
    fn an_error_reply_is_told_from_a_value() {
        let (mut host, mut agent) = pair();
        agent.write_all(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n").unwrap();
        let error = host.call("guest-ping", json!({})).unwrap_err();
        assert_eq!((error.class.as_str(), error.desc.as_str()), ("GenericError", "no"));
        let mut sent = [0; 64];
        let count = agent.read(&mut sent).unwrap();
        assert_eq!(&sent[..count], b"{\"execute\":\"guest-ping\"}\n");
    }

    #[test]
    fn sync_drops_everything_before_its_own_answer() {
        let (mut host, mut agent) = pair();
        let agent = std::thread::spawn(move || {
            let mut sent = [0; 256];
            let count = agent.read(&mut sent).unwrap();
            assert_eq!(sent[0], 0xFF);
            let id = serde_json::from_slice::<Value>(&sent[1..count]).unwrap()["arguments"]["id"].clone();
            agent.write_all(b"late rubbish\n{\"return\": 7}\n\xFF{\"return\": 8}\n").unwrap();
            agent.write_all(b"half\xFF").unwrap();
            agent.write_all(format!("{{\"return\": {id}}}\n{{\"return\": 9}}\n").as_bytes()).unwrap();
            agent
        });
        host.sync(PATIENCE).unwrap();
        assert_eq!(host.read_json(PATIENCE).unwrap()["return"], 9);
        drop(agent.join().unwrap());
        assert_eq!(host.read_line(PATIENCE).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        host.read_to_close(PATIENCE).unwrap();
    }

    #[test]
    fn an_agent_that_does_not_read_ends_a_send_at_the_limit() {
        let (mut host, _agent) = pair();
        let error = host.send_raw_within(&vec![b' '; 8 << 20], Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn silence_ends_a_raw_read() {
        let (mut host, mut agent) = pair();
        agent.write_all(b"abc").unwrap();
        assert_eq!(host.read_until_silence(Duration::from_millis(50)).unwrap(), b"abc");
    }
}
