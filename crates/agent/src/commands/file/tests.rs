//! The six commands as a host sees them: arguments and results as JSON.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use qga_proto::json;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::commands::{Context, find};
use crate::platform::linux::root::Root;
use crate::state::State;
use crate::state::files::MOST_HANDLES;

struct Guest {
    dir: tempfile::TempDir,
    state: State,
    reply_limit: Option<usize>,
}

impl Guest {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        // Nothing here may touch more of the machine than the directory.
        let state = State { root: Root::new(dir.path()), ..State::for_tests(&dir.path().join("state")) };
        Guest { dir, state, reply_limit: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// The result of `guest-file-<verb>`, or the text of its error.
    fn ask(&self, verb: &str, args: Value) -> Result<Value, String> {
        let text = args.to_string();
        let entry = find(&format!("guest-file-{verb}")).unwrap();
        let cx = Context { state: &self.state, reply_limit: self.reply_limit };
        let mut out = Vec::new();
        match (entry.call)(cx, json::read(text.as_bytes()).unwrap(), &mut out) {
            Ok(()) => Ok(serde_json::from_slice(&out).unwrap()),
            Err(error) => Err(error.desc.into_owned()),
        }
    }

    fn open(&self, name: &str, mode: &str) -> i64 {
        let opened = self.ask("open", json!({"path": self.path(name), "mode": mode}));
        opened.unwrap().as_i64().unwrap()
    }

    fn fails(&self, verb: &str, args: Value, desc: &str) {
        assert_eq!(self.ask(verb, args.clone()), Err(desc.to_owned()), "{verb} {args}");
    }
}

#[test]
fn handles_count_up_from_1000_and_are_never_used_again() {
    let guest = Guest::new();
    guest.write("f", "");
    assert_eq!(guest.ask("open", json!({"path": guest.path("f")})), Ok(json!(1000)));
    assert_eq!(guest.open("f", "w"), 1001);
    assert_eq!(guest.ask("close", json!({"handle": 1000})), Ok(json!({})));
    // A failing open uses no number up.
    guest.ask("open", json!({"path": guest.path("nope")})).unwrap_err();
    assert_eq!(guest.open("f", "r"), 1002);
    guest.fails("close", json!({"handle": 1000}), "handle '1000' has not been found");
}

#[test]
fn an_unknown_handle_is_the_first_complaint_of_every_command() {
    let guest = Guest::new();
    let unknown = "handle '1' has not been found";
    for (verb, args) in [
        ("close", json!({"handle": 1})),
        ("flush", json!({"handle": 1})),
        ("read", json!({"handle": 1, "count": -1})),
        ("write", json!({"handle": 1, "buf-b64": "!", "count": -1})),
        ("seek", json!({"handle": 1, "offset": 0, "whence": 9})),
    ] {
        guest.fails(verb, args, unknown);
    }
}

#[test]
fn opening_refuses_in_the_words_that_hosts_know() {
    let guest = Guest::new();
    for mode in ["", "rw", "re", "wx", "rt", "r,ccs=UTF-8"] {
        let args = json!({"path": guest.path("new"), "mode": mode});
        guest.fails("open", args, &format!("invalid file open mode '{mode}'"));
    }
    assert!(!guest.path("new").exists());
    guest.fails("open", json!({"path": "/nope"}), "failed to open file '/nope' (mode: 'r'): No such file or directory");
    guest.fails(
        "open",
        json!({"path": "/tmp\0", "mode": "w"}),
        "failed to open file '/tmp\0' (mode: 'w'): No such file or directory",
    );
    guest.fails("open", json!({}), "Parameter 'path' is missing");
    guest.fails("open", json!({"path": null}), "Invalid parameter type for 'path', expected: string");
}

#[test]
fn a_file_that_gets_no_handle_is_not_left_behind() {
    let guest = Guest::new();
    guest.write("old", "content");
    fs::remove_dir_all(guest.path("state")).unwrap();
    for (name, mode) in [("new", "w"), ("old", "a")] {
        let args = json!({"path": guest.path(name), "mode": mode});
        let file = guest.path("state/qga.state");
        let file = file.display();
        let desc = format!("failed to commit persistent state to disk: {file}: No such file or directory");
        guest.fails("open", args, &desc);
    }
    assert!(!guest.path("new").exists());
    assert_eq!(fs::read_to_string(guest.path("old")).unwrap(), "content");
}

#[test]
fn beyond_the_limit_of_handles_nothing_is_opened() {
    let guest = Guest::new();
    guest.write("f", "content");
    for _ in 0..MOST_HANDLES {
        guest.open("f", "r");
    }
    let full = "512 file handles are open, which is the limit: close some with guest-file-close";
    guest.fails("open", json!({"path": guest.path("f"), "mode": "w"}), full);
    assert_eq!(fs::read_to_string(guest.path("f")).unwrap(), "content");
    guest.ask("close", json!({"handle": 1000})).unwrap();
    guest.open("f", "r");
}

#[test]
fn reading_answers_count_bytes_and_whether_the_end_was_met() {
    let guest = Guest::new();
    guest.write("f", "0123456789");
    let handle = guest.open("f", "r");
    for (count, answer) in [
        (json!({}), json!({"count": 10, "buf-b64": "MDEyMzQ1Njc4OQ==", "eof": true})),
        (json!({"count": 4}), json!({"count": 4, "buf-b64": "MDEyMw==", "eof": false})),
        (json!({"count": 6}), json!({"count": 6, "buf-b64": "NDU2Nzg5", "eof": false})),
        (json!({"count": 1}), json!({"count": 0, "buf-b64": "", "eof": true})),
        (json!({"count": 0}), json!({"count": 0, "buf-b64": "", "eof": false})),
    ] {
        let mut args = count.clone();
        args["handle"] = json!(handle);
        assert_eq!(guest.ask("read", args), Ok(answer), "{count}");
        if count == json!({}) {
            guest.ask("seek", json!({"handle": handle, "offset": 0, "whence": "set"})).unwrap();
        }
    }
    for count in [-1, 50_331_649] {
        let desc = format!("value '{count}' is invalid for argument count");
        guest.fails("read", json!({"handle": handle, "count": count}), &desc);
    }
    let args = json!({"handle": handle, "count": 50_331_648});
    assert_eq!(guest.ask("read", args), Ok(json!({"count": 0, "buf-b64": "", "eof": true})));
}

#[test]
fn a_reply_that_would_be_too_long_carries_less_and_no_end() {
    let mut guest = Guest::new();
    guest.write("f", &"x".repeat(10_000));
    guest.reply_limit = Some(4096);
    let handle = guest.open("f", "r");
    let mut got = 0;
    loop {
        let answer = guest.ask("read", json!({"handle": handle, "count": 20_000})).unwrap();
        assert!(answer.to_string().len() <= 4096);
        got += answer["count"].as_u64().unwrap();
        if answer["eof"].as_bool().unwrap() {
            break;
        }
        assert!(answer["count"].as_u64().unwrap() > 0);
    }
    assert_eq!(got, 10_000);
}

#[test]
fn writing_answers_how_much_went_out() {
    let guest = Guest::new();
    let handle = guest.open("f", "w+");
    for (args, count) in [
        (json!({"buf-b64": "aGVsbG8="}), 5),
        (json!({"buf-b64": "IHdvcmxk", "count": 6}), 6),
        (json!({"buf-b64": "aGVsbG8=", "count": 1}), 1),
        // Some hosts end with an empty write.
        (json!({"buf-b64": ""}), 0),
        (json!({"buf-b64": "", "count": 0}), 0),
        (json!({"buf-b64": "aGVs\nbG8=\n"}), 5),
    ] {
        let mut args = args.clone();
        args["handle"] = json!(handle);
        assert_eq!(guest.ask("write", args), Ok(json!({"count": count, "eof": false})));
    }
    assert_eq!(guest.ask("flush", json!({"handle": handle})), Ok(json!({})));
    assert_eq!(fs::read_to_string(guest.path("f")).unwrap(), "hello worldhhello");
    assert_eq!(fs::metadata(guest.path("f")).unwrap().permissions().mode() & 0o777, 0o644);
    // The text comes before the count.
    let args = json!({"handle": handle, "buf-b64": "a b", "count": 99});
    guest.fails("write", args, "Base64 data contains invalid characters");
    for count in [-1, 6] {
        let desc = format!("value '{count}' is invalid for argument count");
        guest.fails("write", json!({"handle": handle, "buf-b64": "aGVsbG8=", "count": count}), &desc);
    }
    assert_eq!(guest.ask("close", json!({"handle": handle})), Ok(json!({})));
}

#[test]
fn seeking_takes_names_and_numbers() {
    let guest = Guest::new();
    guest.write("f", "0123456789");
    let handle = guest.open("f", "r");
    for (offset, whence, position) in [
        (-2, json!("end"), 8),
        (-2, json!(2), 8),
        (1, json!("cur"), 9),
        (-9, json!(1), 0),
        (3, json!("set"), 3),
        (1000, json!(0), 1000),
    ] {
        let args = json!({"handle": handle, "offset": offset, "whence": whence});
        assert_eq!(guest.ask("seek", args.clone()), Ok(json!({"position": position, "eof": false})), "{args}");
    }
    for (offset, whence, desc) in [
        (0, json!(3), "invalid whence code 3"),
        (0, json!(-1), "invalid whence code -1"),
        (0, json!("hole"), "Parameter 'whence' does not accept value 'hole'"),
        (0, json!(true), "Invalid parameter type for 'whence', expected: GuestFileWhence"),
        (0, json!(null), "Invalid parameter type for 'whence', expected: GuestFileWhence"),
        (0, json!(1.5), "Invalid parameter type for 'whence', expected: integer"),
        (-1, json!("set"), "failed to seek file: Invalid argument"),
    ] {
        guest.fails("seek", json!({"handle": handle, "offset": offset, "whence": whence}), desc);
    }
}

#[test]
fn a_close_that_fails_forgets_the_handle() {
    let guest = Guest::new();
    mknodat(CWD, guest.path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _reader = fs::OpenOptions::new().read(true).write(true).open(guest.path("fifo")).unwrap();
    let handle = guest.open("fifo", "w");
    let mut text = Vec::new();
    qga_proto::base64::encode_into(&mut text, &vec![0; 200_000]);
    let args = json!({"handle": handle, "buf-b64": String::from_utf8(text).unwrap()});
    let count = guest.ask("write", args).unwrap()["count"].as_u64().unwrap();
    assert!(0 < count && count < 200_000, "{count}");
    let short = "failed to close handle: Resource temporarily unavailable";
    guest.fails("close", json!({"handle": handle}), short);
    for verb in ["close", "flush", "read"] {
        guest.fails(verb, json!({"handle": handle}), &format!("handle '{handle}' has not been found"));
    }
}

#[test]
fn a_full_device_is_told_at_the_write() {
    let guest = Guest::new();
    let handle = guest.ask("open", json!({"path": "/dev/full", "mode": "w"})).unwrap();
    let args = json!({"handle": handle, "buf-b64": "aGk="});
    guest.fails("write", args.clone(), "failed to write to file: No space left on device");
    guest.fails("write", args, "failed to write to file: No space left on device");
    assert_eq!(guest.ask("flush", json!({"handle": handle})), Ok(json!({})));
    assert_eq!(guest.ask("close", json!({"handle": handle})), Ok(json!({})));
}
