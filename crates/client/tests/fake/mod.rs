//! An agent that follows a script.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use qga_client::Client;
use serde_json::Value;
use tempfile::TempDir;

/// Time for everything that is expected to work.
pub(crate) const ENOUGH: Duration = Duration::from_secs(30);

/// Time for everything that is expected not to be answered.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// A listening socket whose first client is served by a script in a thread.
#[derive(Debug)]
pub(crate) struct Fake {
    dir: TempDir,
    script: Option<JoinHandle<()>>,
}

impl Fake {
    /// Starts the script; it gets the first client.
    pub(crate) fn new(script: impl FnOnce(Guest) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let script = spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            script(Guest { input: BufReader::new(stream.try_clone().unwrap()), output: stream });
        });
        Fake { dir, script: Some(script) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::join(self.dir.path(), "sock")
    }

    pub(crate) fn client(&self, timeout: Duration) -> Client {
        Client::unix(self.path(), timeout).unwrap()
    }

    /// Waits for the script, so that what it asserts counts. The client must be gone if the script waits for that.
    pub(crate) fn finish(mut self) {
        self.script.take().unwrap().join().expect("the script of the fake agent failed");
    }
}

/// The scripted end of a conversation.
#[derive(Debug)]
pub(crate) struct Guest {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

impl Guest {
    /// Receives one request; whether it had a 0xFF in front, and what it says. `None` at the end.
    pub(crate) fn request(&mut self) -> Option<(bool, Value)> {
        let mut line = Vec::new();
        if self.input.read_until(b'\n', &mut line).unwrap() == 0 {
            return None;
        }
        let delimited = line.first() == Some(&0xFF);
        Some((delimited, serde_json::from_slice(&line[usize::from(delimited)..]).unwrap()))
    }

    /// Receives a request that must be this command.
    pub(crate) fn expect(&mut self, command: &str) -> Value {
        let (_, request) = self.request().expect("the client closed the connection");
        assert_eq!(request["execute"], command);
        request
    }

    /// Whether nothing comes for so long.
    pub(crate) fn is_quiet(&mut self, time: Duration) -> bool {
        self.output.set_read_timeout(Some(time)).unwrap();
        let is_quiet = self.input.fill_buf().is_err();
        self.output.set_read_timeout(None).unwrap();
        is_quiet
    }

    /// Receives a handshake and returns its number.
    pub(crate) fn handshake(&mut self) -> u64 {
        let (delimited, request) = self.request().expect("the client closed the connection");
        assert!(delimited, "no 0xFF in front of the handshake");
        assert_eq!(request["execute"], "guest-sync-delimited");
        request["arguments"]["id"].as_u64().unwrap()
    }

    /// Receives a handshake and answers it.
    pub(crate) fn shake_hands(&mut self) {
        let id = self.handshake();
        self.answer_handshake(id);
    }

    pub(crate) fn answer_handshake(&mut self, id: u64) {
        self.send(b"\xFF");
        self.send(format!("{{\"return\": {id}}}\n"));
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.output.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what the client may not be there to receive.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.output.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads and drops everything until the client is gone.
    pub(crate) fn wait_for_end(mut self) {
        let mut rest = Vec::new();
        let _ = self.input.read_to_end(&mut rest);
    }
}
