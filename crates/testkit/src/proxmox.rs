//! Proxmox as it talks to an agent: a connection for each command, with the synchronisation and the command in one
//! write, and both replies found by their last byte 0xFF and two lines that end in a brace.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::host::{self, AgentError, PATIENCE};

/// The letters of base64 in a line.
const LINE: usize = 76;

/// A host of that kind.
#[derive(Debug)]
pub struct Proxmox {
    path: PathBuf,
    count: u64,
}

impl Proxmox {
    /// One that finds its agent at this unix socket.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), count: 0 }
    }

    /// Connects, sends one command, takes its reply and hangs up.
    ///
    /// # Errors
    /// Outside: the connection's, `TimedOut` when there are no two replies within [`PATIENCE`], `InvalidData` when they
    /// are not what this host looks for; inside: the agent's.
    pub fn try_call(&mut self, name: &str, arguments: &Value) -> io::Result<Result<Value, AgentError>> {
        // The digits of a process, a zero, the digits of a counter: a number, not text.
        self.count += 1;
        let id = format!("{}0{}", std::process::id(), self.count);
        let sync = format!(r#"{{"execute":"guest-sync-delimited","arguments":{{"id":{id}}}}}"#);
        // The arguments are always there, empty or not.
        let command = json!({ "execute": name, "arguments": arguments });
        let request = format!("{sync}\n{command}\n");

        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let written = stream.write(request.as_bytes())?;
        if written < request.len() {
            return Err(io::Error::new(ErrorKind::WriteZero, "the request did not go out in one write"));
        }
        let (first, second) = replies(&mut stream, PATIENCE)?;
        let first: Value = serde_json::from_slice(&first)?;
        if first != json!({ "return": serde_json::from_str::<Value>(&id)? }) {
            return Err(unfit(format!("the answer to guest-sync-delimited {id} is {first}")));
        }
        host::outcome(serde_json::from_slice(&second)?)
    }

    /// Like [`Proxmox::try_call`].
    ///
    /// # Errors
    /// The agent's.
    ///
    /// # Panics
    /// When there is no reply, or not where this host looks for it.
    #[track_caller]
    pub fn call(&mut self, name: &str, arguments: &Value) -> Result<Value, AgentError> {
        match self.try_call(name, arguments) {
            Ok(outcome) => outcome,
            Err(error) => panic!("{name}, connection {}: {error}", self.count),
        }
    }

    /// Writes a file as this host does, in one piece.
    ///
    /// # Panics
    /// When the agent refuses.
    #[track_caller]
    pub fn write_file(&mut self, path: &str, bytes: &[u8]) {
        let done = self.call("guest-file-open", &json!({ "path": path, "mode": "wb" })).and_then(|handle| {
            let wrote = self.call("guest-file-write", &json!({ "handle": handle, "buf-b64": wrapped(bytes) }))?;
            assert_eq!(wrote["count"], bytes.len(), "{path}");
            self.call("guest-file-close", &json!({ "handle": handle }))
        });
        assert_eq!(done, Ok(json!({})), "{path}");
    }

    /// The connections so far.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Base64 in lines of 76 letters, each with a newline behind it.
pub fn wrapped(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let mut lines = String::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    lines
}

/// Reads until everything behind the last 0xFF is two lines that end in a brace.
fn replies(stream: &mut UnixStream, within: Duration) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let end = Instant::now() + within;
    let mut buffer = Vec::new();
    let mut piece = [0; 8192];
    loop {
        if let Some(found) = find(&buffer) {
            return Ok(found);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text = String::from_utf8_lossy(&buffer).into_owned();
            return Err(io::Error::new(ErrorKind::TimedOut, format!("no two replies in: {text}")));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => return Err(unfit(format!("closed after: {}", String::from_utf8_lossy(&buffer)))),
            Ok(count) => buffer.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => (),
            Err(error) => return Err(error),
        }
    }
}

/// The two replies; none as long as they are not whole.
fn find(buffer: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let last = buffer.iter().rposition(|&byte| byte == 0xFF)?;
    let rest = buffer[last + 1..].strip_suffix(b"\n")?;
    let mut lines = rest.split(|&byte| byte == b'\n');
    let (first, second) = (lines.next()?, lines.next()?);
    let fits = |line: &[u8]| line.starts_with(b"{") && line.ends_with(b"}");
    (fits(first) && fits(second) && lines.next().is_none()).then(|| (first.to_vec(), second.to_vec()))
}

fn unfit(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_wrapped_after_76_letters_and_ends_in_a_newline() {
        assert_eq!(wrapped(b""), "");
        assert_eq!(wrapped(b"abc"), "YWJj\n");
        assert_eq!(wrapped(&[0; 57]), format!("{}\n", "A".repeat(76)));
        assert_eq!(wrapped(&[0; 60]), format!("{}\nAAAA\n", "A".repeat(76)));
    }

    #[test]
    fn replies_are_two_whole_lines_behind_the_last_byte_ff() {
        let both = Some((b"{1}".to_vec(), b"{2}".to_vec()));
        assert_eq!(find(b"\xff{1}\n{2}\n"), both);
        assert_eq!(find(b"late}\n\xff{0}\n\xff{1}\n{2}\n"), both);
        for half in [&b"{1}\n{2}\n"[..], b"\xff{1}\n{2}", b"\xff{1}\n", b"\xff1\n{2}\n", b"\xff{1}\n{2}\n{3}\n"] {
            assert_eq!(find(half), None, "{}", String::from_utf8_lossy(half));
        }
    }
}
