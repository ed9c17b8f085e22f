//! Files that the host has open, with what must be in them.

use std::fs;
use std::path::{Path, PathBuf};

use qga_testkit::numbers::Numbers;
use serde_json::{Value, json};

use crate::driver::{Asked, Expect};

/// More than that no file grows.
const LONGEST: usize = 40_000;

/// Files of one driver.
const FILES: usize = 6;

const MODES: &[&str] = &["r", "w", "a", "r+", "w+", "a+", "rb", "wb+"];

/// One file and what is known of it.
#[derive(Debug)]
struct File {
    path: PathBuf,
    content: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed,
    /// Asked for, in this mode.
    Opening(&'static str),
    Open(i64, &'static str, usize),
    Closing(i64),
    /// The reply to a request got lost, so nothing is known but the handle.
    Unknown(i64),
}

/// All files of a driver.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    made: usize,
    files: Vec<File>,
}

impl Files {
    /// New files with something in them.
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir(dir).expect("a directory for files");
        let mut files = Files { dir: dir.to_owned(), made: 0, files: Vec::new() };
        for _ in 0..FILES {
            let file = files.make();
            files.files.push(file);
        }
        files
    }

    fn make(&mut self) -> File {
        let path = self.dir.join(self.made.to_string());
        self.made += 1;
        let content = format!("file {}\n", self.made).into_bytes();
        fs::write(&path, &content).expect("a file");
        File { path, content, state: State::Closed }
    }

    /// A request for one of the files. Where its reply may get lost (`may_open` is false), none that opens one.
    pub(crate) fn ask(&mut self, numbers: &mut Numbers, may_open: bool) -> Option<Asked> {
        let index = numbers.below(self.files.len());
        let file = &mut self.files[index];
        match file.state {
            State::Closed if may_open => {
                let mode = numbers.one_of(MODES);
                file.state = State::Opening(mode);
                if mode.starts_with('w') {
                    file.content.clear();
                }
                let arguments = json!({ "path": file.path, "mode": mode });
                Some(Asked::new("guest-file-open", arguments, Expect::Opened(index)))
            }
            State::Unknown(handle) if may_open => {
                file.state = State::Closing(handle);
                Some(close(handle, Expect::ClosedSomehow(index)))
            }
            State::Open(handle, mode, position) => Some(file.act(index, numbers, handle, mode, position)),
            _ => None,
        }
    }

    /// The reply to a request that opens the file has come.
    pub(crate) fn opened(&mut self, index: usize, handle: i64) {
        let file = &mut self.files[index];
        let State::Opening(mode) = file.state else { panic!("{} was not to be opened", file.path.display()) };
        file.state = State::Open(handle, mode, 0);
    }

    /// The reply to a request that closes the file has come: what was written is in it.
    pub(crate) fn closed(&mut self, index: usize) {
        let file = &mut self.files[index];
        let found = fs::read(&file.path).expect("a file");
        assert!(found == file.content, "what was written to {} is not what is in it", file.path.display());
        file.state = State::Closed;
    }

    /// The reply to a request that closes a file with unknown content has come.
    pub(crate) fn closed_somehow(&mut self, index: usize) {
        fs::remove_file(&self.files[index].path).expect("a file");
        self.files[index] = self.make();
    }

    /// The reply to a request for the file will not come; it may have been carried out or not.
    pub(crate) fn lost(&mut self, index: usize) {
        let file = &mut self.files[index];
        match file.state {
            State::Open(handle, ..) | State::Closing(handle) | State::Unknown(handle) => {
                file.state = State::Unknown(handle);
            }
            State::Opening(_) | State::Closed => panic!("the handle of {} is lost", file.path.display()),
        }
    }

    /// Requests that close everything.
    pub(crate) fn close_all(&mut self) -> Vec<Asked> {
        let mut asked = Vec::new();
        for (index, file) in self.files.iter_mut().enumerate() {
            match file.state {
                State::Open(handle, ..) => {
                    file.state = State::Closing(handle);
                    asked.push(close(handle, Expect::Closed(index)));
                }
                State::Unknown(handle) => asked.push(close(handle, Expect::ClosedSomehow(index))),
                State::Closed => (),
                State::Opening(_) | State::Closing(_) => panic!("{} has a reply to come", file.path.display()),
            }
        }
        asked
    }
}

fn close(handle: i64, expect: Expect) -> Asked {
    Asked::new("guest-file-close", json!({ "handle": handle }), expect)
}

impl File {
    /// A request for the open file, with what comes of it.
    fn act(&mut self, index: usize, numbers: &mut Numbers, handle: i64, mode: &'static str, position: usize) -> Asked {
        let of_file =
            |name, arguments, result: Result<Value, String>| Asked::new(name, arguments, Expect::OfFile(index, result));
        let reads = mode.starts_with('r') || mode.contains('+');
        let writes = !mode.starts_with('r') || mode.contains('+');
        match numbers.below(12) {
            0..=3 => {
                let mut arguments = json!({ "handle": handle });
                let count = if numbers.once_in(3) { 4096 } else { 1 + numbers.below(9000) };
                if count != 4096 {
                    arguments["count"] = count.into();
                }
                let end = self.content.len();
                let piece = &self.content[position.min(end)..(position + count).min(end)];
                let reply = json!({ "count": piece.len(), "buf-b64": b64(piece), "eof": piece.len() < count });
                let result = if reads { Ok(reply) } else { Err("failed to read file: Bad file descriptor".into()) };
                if reads {
                    self.state = State::Open(handle, mode, position + piece.len());
                }
                of_file("guest-file-read", arguments, result)
            }
            4..=6 if self.content.len() < LONGEST => {
                let bytes = numbers.bytes(3000);
                let mut arguments = json!({ "handle": handle, "buf-b64": b64(&bytes) });
                let mut count = bytes.len();
                if numbers.once_in(4) {
                    count = 1 + numbers.below(bytes.len());
                    arguments["count"] = count.into();
                }
                let mut result = Err("failed to write to file: Bad file descriptor".into());
                if writes {
                    let start = if mode.starts_with('a') { self.content.len() } else { position };
                    self.content.resize(self.content.len().max(start + count), 0);
                    self.content[start..start + count].copy_from_slice(&bytes[..count]);
                    self.state = State::Open(handle, mode, start + count);
                    result = Ok(json!({ "count": count, "eof": false }));
                }
                of_file("guest-file-write", arguments, result)
            }
            4..=8 => {
                let (offset, whence, from) = match numbers.below(3) {
                    0 => (numbers.below(self.content.len() + 50) as i64, json!("set"), 0),
                    1 => (numbers.below(100) as i64 - 50, json!("cur"), position),
                    _ => (numbers.below(100) as i64 - 50, json!(2), self.content.len()),
                };
                let result = match usize::try_from(from as i64 + offset) {
                    Ok(new) => {
                        self.state = State::Open(handle, mode, new);
                        Ok(json!({ "position": new, "eof": false }))
                    }
                    Err(_) => Err("failed to seek file: Invalid argument".into()),
                };
                let arguments = json!({ "handle": handle, "offset": offset, "whence": whence });
                of_file("guest-file-seek", arguments, result)
            }
            9 => of_file("guest-file-flush", json!({ "handle": handle }), Ok(json!({}))),
            10 => {
                let arguments = json!({ "handle": handle, "count": -1 });
                of_file("guest-file-read", arguments, Err("value '-1' is invalid for argument count".into()))
            }
            _ => {
                self.state = State::Closing(handle);
                close(handle, Expect::Closed(index))
            }
        }
    }
}

/// Base64 of bytes.
pub(crate) fn b64(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    qga_proto::base64::encode_into(&mut out, bytes);
    String::from_utf8(out).expect("base64 is text")
}
