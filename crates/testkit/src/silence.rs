//! A host that asks and asks, and does not read the answers.

use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::host::{Host, request};

/// What went out before nothing more was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Whole messages.
    pub messages: usize,
    /// Bytes, the beginning of one more message among them.
    pub bytes: usize,
}

/// How a host that reads again came back into step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back {
    /// From the first byte read to the answer of the resynchronisation.
    pub took: Duration,
    /// Old lines that were read before it, whole or in part.
    pub lines: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Sends messages, numbered from 0, until none is taken for `patience`, or `most` are out. Nothing is read.
///
/// # Errors
/// Those of write(2).
pub fn flood(
    host: &Host,
    most: usize,
    patience: Duration,
    mut message: impl FnMut(usize) -> Vec<u8>,
) -> io::Result<Flood> {
    let mut stream = host.stream();
    stream.set_write_timeout(Some(patience))?;
    let mut sent = Flood { messages: 0, bytes: 0 };
    while sent.messages < most {
        let message = message(sent.messages);
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(count) => {
                    rest = &rest[count..];
                    sent.bytes += count;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(sent),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        sent.messages += 1;
    }
    Ok(sent)
}

/// Begins to read again, and at the same time sends 0xFF and `guest-sync-delimited`, which is taken when there is room.
///
/// # Errors
/// `TimedOut` when its answer does not come `within` the limit; else those of the connection.
pub fn come_back(host: &mut Host, id: i64, within: Duration) -> io::Result<Back> {
    let begin = Instant::now();
    let mut message = vec![0xFF];
    message.extend(request("guest-sync-delimited", &json!({ "id": id })));
    let mut stream = host.stream().try_clone()?;
    stream.set_write_timeout(Some(within))?;
    let sender = thread::spawn(move || stream.write_all(&message));
    let mut back = Back { took: Duration::ZERO, lines: 0, bytes: 0 };
    loop {
        let line = host.read_line(within.saturating_sub(begin.elapsed()))?;
        let at = line.iter().rposition(|&byte| byte == 0xFF);
        let reply = at.and_then(|at| serde_json::from_slice::<Value>(&line[at + 1..]).ok());
        if reply.is_some_and(|reply| reply["return"] == json!(id)) {
            back.took = begin.elapsed();
            break;
        }
        back.lines += 1;
        back.bytes += line.len() + 1;
    }
    sender.join().unwrap_or_else(|_| Err(ErrorKind::Other.into()))?;
    Ok(back)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_flood_ends_when_nothing_is_taken_and_knows_what_was() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let host = Host::over(ours, "test");
        let flood = flood(&host, 1000, Duration::from_millis(50), |_| vec![b'a'; 100_000]).unwrap();
        assert!(flood.messages < 1000 && flood.bytes / 100_000 == flood.messages, "{flood:?}");
        drop(host);
        assert_eq!(io::copy(&mut &theirs, &mut io::sink()).unwrap(), flood.bytes as u64);
    }

    #[test]
    fn the_way_back_passes_over_what_is_old() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut host = Host::over(ours, "test");
        theirs.write_all(b"{\"return\": {}}\n{\"ret\xFF{\"return\": 7}\n").unwrap();
        let back = come_back(&mut host, 7, Duration::from_secs(10)).unwrap();
        assert_eq!((back.lines, back.bytes), (1, 15));
    }
}
