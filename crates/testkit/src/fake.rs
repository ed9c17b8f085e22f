//! An agent that gives prepared answers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

use serde_json::{Value, json};
use tempfile::TempDir;

/// An agent behind a unix socket that answers each command with the result prepared for it, the handshake as it must
/// be, and everything else as unknown. It serves any number of clients, one thread each, until the program ends.
#[derive(Debug)]
pub struct Agent {
    dir: TempDir,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Agent {
    /// Starts one with these results, each a JSON text.
    ///
    /// An object with the one member `error` is sent as an error, and an empty text is no answer at all. Of several
    /// results for one command each is given once, and the last one from then on.
    ///
    /// # Panics
    /// When a result is no JSON, or there is no directory for the socket.
    pub fn start(results: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let listener = UnixListener::bind(dir.path().join("sock")).expect("a socket");
        let mut replies: HashMap<String, Vec<Option<Value>>> = HashMap::new();
        for (name, result) in results {
            let result = (!result.is_empty()).then(|| reply(serde_json::from_str(result).expect("a result in JSON")));
            replies.entry((*name).to_owned()).or_default().insert(0, result);
        }
        let replies = Arc::new(Mutex::new(replies));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (replies, seen) = (Arc::clone(&replies), Arc::clone(&seen));
                // A client that goes away in the middle ends its thread only.
                spawn(move || serve(stream, &replies, &seen));
            }
        });
        Agent { dir, requests }
    }

    /// Its socket.
    pub fn path(&self) -> PathBuf {
        Path::join(self.dir.path(), "sock")
    }

    /// The requests it has got so far, without handshakes.
    ///
    /// # Panics
    /// When one of its threads has panicked.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().expect("no thread panicked").clone()
    }
}

fn reply(result: Value) -> Value {
    match &result {
        Value::Object(members) if members.len() == 1 && members.contains_key("error") => result,
        _ => json!({ "return": result }),
    }
}

fn serve(
    mut stream: UnixStream,
    replies: &Mutex<HashMap<String, Vec<Option<Value>>>>,
    seen: &Mutex<Vec<Value>>,
) -> Option<()> {
    for line in BufReader::new(stream.try_clone().ok()?).split(b'\n') {
        let line = line.ok()?;
        let request: Value = serde_json::from_slice(line.strip_prefix(b"\xFF").unwrap_or(&line)).ok()?;
        let name = request["execute"].as_str()?.to_owned();
        if name == "guest-sync-delimited" {
            stream.write_all(b"\xFF").ok()?;
            writeln!(stream, "{}", json!({ "return": request["arguments"]["id"] })).ok()?;
            continue;
        }
        seen.lock().ok()?.push(request);
        let answer = match replies.lock().ok()?.get_mut(&name) {
            Some(rest) if rest.len() > 1 => rest.pop()?,
            Some(rest) => rest.first()?.clone(),
            None => Some(json!({ "error": {
                "class": "CommandNotFound", "desc": format!("The command {name} has not been found"),
            } })),
        };
        if let Some(answer) = answer {
            writeln!(stream, "{answer}").ok()?;
        }
    }
    Some(())
}
