//! The file commands.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use qga_testkit::{Host, TestAgent};
use serde_json::{Value, json};

use crate::differences::differs;
use crate::{agent, setup};

/// The agent, a connection and a file in the agent's directory.
fn with_file(content: &str) -> (TestAgent, Host, std::path::PathBuf) {
    let (agent, host) = agent();
    let path = agent.dir().join("file");
    fs::write(&path, content).unwrap();
    (agent, host, path)
}

fn open(host: &mut Host, path: &Path, mode: &str) -> i64 {
    host.call("guest-file-open", json!({ "path": path, "mode": mode })).unwrap().as_i64().unwrap()
}

/// The text of the error that a call must end in.
#[track_caller]
fn error(host: &mut Host, name: &str, arguments: Value) -> String {
    let error = host.call(name, arguments).unwrap_err();
    assert_eq!(error.class, "GenericError");
    error.desc
}

/// `O_` flags of the descriptor that the agent opened last, of those that tell the modes apart.
fn flags(agent: &TestAgent, path: &Path) -> (u32, bool, bool, bool) {
    let pid = agent.pid();
    let own = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path));
    let number = own.expect("an open descriptor").file_name().into_string().unwrap();
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = u32::from_str_radix(line.trim(), 8).unwrap();
    (flags & 3, flags & 0o2000 != 0, flags & 0o4000 != 0, flags & 0o2000000 != 0)
}

#[test]
fn every_mode_opens_as_fopen_does() {
    let (agent, mut host, path) = with_file("content");
    for (modes, access, append, truncates) in [
        (&["r", "rb"][..], 0, false, false),
        (&["w", "wb"], 1, false, true),
        (&["a", "ab"], 1, true, false),
        (&["r+", "rb+", "r+b"], 2, false, false),
        (&["w+", "wb+", "w+b"], 2, false, true),
        (&["a+", "ab+", "a+b"], 2, true, false),
    ] {
        for mode in modes {
            fs::write(&path, "content").unwrap();
            let handle = open(&mut host, &path, mode);
            // Opened without waiting and closed when a program is started.
            assert_eq!(flags(&agent, &path), (access, append, true, true), "mode {mode}");
            assert_eq!(fs::read(&path).unwrap().is_empty(), truncates, "mode {mode}");
            host.call("guest-file-close", json!({ "handle": handle })).unwrap();
        }
    }
}

#[test]
fn any_other_mode_is_invalid_and_touches_nothing() {
    let (_agent, mut host, path) = with_file("content");
    for mode in ["", "rw", "re", "wx", "rt", "R", "r++", "rbb", "w,ccs=UTF-8", " r", "r "] {
        let desc = error(&mut host, "guest-file-open", json!({ "path": path, "mode": mode }));
        assert_eq!(desc, format!("invalid file open mode '{mode}'"));
    }
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[test]
fn what_cannot_be_opened_is_named_with_the_systems_reason() {
    let (agent, mut host, path) = with_file("");
    let dir = agent.dir().join("dir");
    fs::create_dir(&dir).unwrap();
    let dangling = agent.dir().join("dangling");
    symlink(agent.dir().join("nowhere"), &dangling).unwrap();
    for (path, mode, reason) in [
        (Path::new("/nonexistent/file"), "r", "No such file or directory"),
        (&dir, "w", "Is a directory"),
        (&dangling, "w", "No such file or directory"),
        (&path.join("below"), "r", "Not a directory"),
    ] {
        let desc = error(&mut host, "guest-file-open", json!({ "path": path, "mode": mode }));
        assert_eq!(desc, format!("failed to open file '{}' (mode: '{mode}'): {reason}", path.display()));
    }
    assert!(!agent.dir().join("nowhere").exists());
}

#[test]
fn handles_count_up_from_a_thousand_and_are_not_used_again() {
    let (_agent, mut host, path) = with_file("");
    assert_eq!(open(&mut host, &path, "r"), 1000);
    assert_eq!(open(&mut host, &path, "r"), 1001);
    host.call("guest-file-close", json!({ "handle": 1001 })).unwrap();
    assert_eq!(open(&mut host, &path, "r"), 1002);
    let gone = "handle '1001' has not been found";
    for name in ["guest-file-close", "guest-file-read", "guest-file-flush"] {
        assert_eq!(error(&mut host, name, json!({ "handle": 1001 })), gone);
    }
    assert_eq!(error(&mut host, "guest-file-write", json!({ "handle": 1001, "buf-b64": "!!" })), gone);
    let seek = json!({ "handle": 1001, "offset": 0, "whence": 9 });
    assert_eq!(error(&mut host, "guest-file-seek", seek), gone);
}

#[test]
fn reads_go_on_from_where_the_last_one_ended() {
    let (_agent, mut host, path) = with_file("0123456789");
    let handle = open(&mut host, &path, "r");
    let mut read = |count: i64| host.call("guest-file-read", json!({ "handle": handle, "count": count })).unwrap();
    assert_eq!(read(4), json!({ "count": 4, "buf-b64": "MDEyMw==", "eof": false }));
    assert_eq!(read(0), json!({ "count": 0, "buf-b64": "", "eof": false }));
    // The end is met only by reading past it.
    assert_eq!(read(6), json!({ "count": 6, "buf-b64": "NDU2Nzg5", "eof": false }));
    assert_eq!(read(1), json!({ "count": 0, "buf-b64": "", "eof": true }));
    fs::write(&path, "0123456789+").unwrap();
    assert_eq!(read(9), json!({ "count": 1, "buf-b64": "Kw==", "eof": true }), "a growing file can be followed");
}

#[test]
fn a_count_has_limits() {
    let (_agent, mut host, path) = with_file("0123456789");
    let handle = open(&mut host, &path, "r");
    for count in [-1, 50_331_649, i64::MAX, i64::MIN] {
        let desc = error(&mut host, "guest-file-read", json!({ "handle": handle, "count": count }));
        assert_eq!(desc, format!("value '{count}' is invalid for argument count"));
    }
    let most = host.call("guest-file-read", json!({ "handle": handle, "count": 50_331_648 })).unwrap();
    assert_eq!(most, json!({ "count": 10, "buf-b64": "MDEyMzQ1Njc4OQ==", "eof": true }));
}

#[test]
fn writes_take_a_count_and_reach_the_file() {
    let (_agent, mut host, path) = with_file("");
    let handle = open(&mut host, &path, "w");
    let write = |count: i64| json!({ "handle": handle, "buf-b64": "aGVsbG8=", "count": count });
    assert_eq!(host.call("guest-file-write", write(4)).unwrap(), json!({ "count": 4, "eof": false }));
    assert_eq!(host.call("guest-file-write", write(0)).unwrap(), json!({ "count": 0, "eof": false }));
    for count in [-1, 6] {
        assert_eq!(
            error(&mut host, "guest-file-write", write(count)),
            format!("value '{count}' is invalid for argument count")
        );
    }
    host.call("guest-file-flush", json!({ "handle": handle })).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"hell");
}

#[test]
fn text_that_is_no_base64_is_refused() {
    let (_agent, mut host, path) = with_file("");
    let handle = open(&mut host, &path, "w");
    for text in ["!!!!", "aGVs bG8=", "aGVs\rbG8=", "-_-_"] {
        let desc = error(&mut host, "guest-file-write", json!({ "handle": handle, "buf-b64": text }));
        assert_eq!(desc, "Base64 data contains invalid characters", "{text:?}");
    }
}

#[test]
fn a_file_is_sought_by_number_or_by_name() {
    let (_agent, mut host, path) = with_file("0123456789");
    let handle = open(&mut host, &path, "r+");
    let mut seek = |offset: i64, whence: Value| {
        host.call("guest-file-seek", json!({ "handle": handle, "offset": offset, "whence": whence }))
    };
    for (offset, whence, position) in [
        (3, json!("set"), 3),
        (3, json!(0), 3),
        (2, json!("cur"), 5),
        (-1, json!(1), 4),
        (-2, json!("end"), 8),
        (5, json!(2), 15),
        (1000, json!("set"), 1000),
    ] {
        assert_eq!(
            seek(offset, whence.clone()).unwrap(),
            json!({ "position": position, "eof": false }),
            "{offset} {whence}"
        );
    }
    assert_eq!(seek(-1, json!(0)).unwrap_err().desc, "failed to seek file: Invalid argument");
    assert_eq!(seek(0, json!(3)).unwrap_err().desc, "invalid whence code 3");
    assert_eq!(seek(0, json!("hole")).unwrap_err().desc, "Parameter 'whence' does not accept value 'hole'");
}

#[test]
fn reading_and_writing_share_one_position() {
    let (_agent, mut host, path) = with_file("abcdefghij");
    let handle = open(&mut host, &path, "r+");
    let read = |count: i64| json!({ "handle": handle, "count": count });
    assert_eq!(host.call("guest-file-read", read(3)).unwrap()["buf-b64"], "YWJj");
    let write = json!({ "handle": handle, "buf-b64": "WFla" });
    assert_eq!(host.call("guest-file-write", write).unwrap()["count"], 3);
    assert_eq!(host.call("guest-file-read", read(3)).unwrap()["buf-b64"], "Z2hp");
    let seek = json!({ "handle": handle, "offset": 0, "whence": "set" });
    assert_eq!(host.call("guest-file-seek", seek).unwrap()["position"], 0);
    let all = host.call("guest-file-read", json!({ "handle": handle })).unwrap();
    assert_eq!(all, json!({ "count": 10, "buf-b64": "YWJjWFlaZ2hpag==", "eof": true }));
}

#[test]
fn appending_writes_go_to_the_end_and_reading_starts_at_the_front() {
    let (_agent, mut host, path) = with_file("abc");
    let handle = open(&mut host, &path, "a+");
    assert_eq!(host.call("guest-file-read", json!({ "handle": handle, "count": 2 })).unwrap()["buf-b64"], "YWI=");
    host.call("guest-file-write", json!({ "handle": handle, "buf-b64": "ZGVm" })).unwrap();
    let after = host.call("guest-file-read", json!({ "handle": handle })).unwrap();
    assert_eq!(after, json!({ "count": 0, "buf-b64": "", "eof": true }));
    assert_eq!(fs::read(&path).unwrap(), b"abcdef");
}

#[test]
fn a_handle_for_one_direction_refuses_the_other() {
    let (_agent, mut host, path) = with_file("abc");
    let reader = open(&mut host, &path, "r");
    let write = json!({ "handle": reader, "buf-b64": "YQ==" });
    assert_eq!(error(&mut host, "guest-file-write", write), "failed to write to file: Bad file descriptor");
    let writer = open(&mut host, &path, "w");
    let desc = error(&mut host, "guest-file-read", json!({ "handle": writer }));
    assert_eq!(desc, "failed to read file: Bad file descriptor");
    let dir = open(&mut host, path.parent().unwrap(), "r");
    assert_eq!(error(&mut host, "guest-file-read", json!({ "handle": dir })), "failed to read file: Is a directory");
}

#[test]
fn a_pipe_without_the_other_end_is_not_waited_for() {
    let (agent, mut host) = agent();
    let path = agent.dir().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let desc = error(&mut host, "guest-file-open", json!({ "path": path, "mode": "w" }));
    let expected = format!("failed to open file '{}' (mode: 'w'): No such device or address", path.display());
    assert_eq!(desc, expected);
    let handle = open(&mut host, &path, "r");
    let empty = host.call("guest-file-read", json!({ "handle": handle })).unwrap();
    assert_eq!(empty, json!({ "count": 0, "buf-b64": "", "eof": true }));
    let writer = open(&mut host, &path, "w");
    let nothing_yet = error(&mut host, "guest-file-read", json!({ "handle": handle }));
    assert_eq!(nothing_yet, "failed to read file: Resource temporarily unavailable");
    let seek = json!({ "handle": handle, "offset": 0, "whence": "set" });
    assert_eq!(error(&mut host, "guest-file-seek", seek), "failed to seek file: Illegal seek");
    host.call("guest-file-write", json!({ "handle": writer, "buf-b64": "ZGF0YQ==" })).unwrap();
    host.call("guest-file-flush", json!({ "handle": writer })).unwrap();
    let read = host.call("guest-file-read", json!({ "handle": handle, "count": 4 })).unwrap();
    assert_eq!(read["buf-b64"], "ZGF0YQ==");
}

#[test]
fn what_a_pipe_holds_is_given_even_if_more_was_asked_for() {
    let (agent, mut host) = agent();
    let path = agent.dir().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let reader = open(&mut host, &path, "r");
    let writer = open(&mut host, &path, "w");
    host.call("guest-file-write", json!({ "handle": writer, "buf-b64": "ZGF0YQ==" })).unwrap();
    host.call("guest-file-flush", json!({ "handle": writer })).unwrap();
    let read = host.call("guest-file-read", json!({ "handle": reader })).map_err(|error| error.desc);
    let given = json!({ "count": 4, "buf-b64": "ZGF0YQ==", "eof": false });
    let lost = "failed to read file: Resource temporarily unavailable".to_owned();
    assert_eq!(read, differs("file-partial-read", Ok(given), Err(lost)));
}

#[test]
fn an_existing_file_keeps_its_mode() {
    let (_agent, mut host, path) = with_file("");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    open(&mut host, &path, "w");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn the_handle_counter_outlives_the_agent() {
    let first = setup();
    let state = first.state_dir().join("qga.state");
    fs::write(&state, "[global]\nfd_counter=2000\n").unwrap();
    let agent = first.start();
    let path = agent.dir().join("file");
    fs::write(&path, "").unwrap();
    let mut host = agent.host();
    assert_eq!(open(&mut host, &path, "r"), 2000);
    assert_eq!(open(&mut host, &path, "r"), 2001);
    let kept = fs::read_to_string(&state).unwrap();
    let next = kept.lines().find_map(|line| line.strip_prefix("fd_counter=")).unwrap();
    assert!(next.parse::<i64>().unwrap() >= 2002, "{kept}");
}

#[test]
fn a_counter_beyond_32_bits_is_kept() {
    let setup = setup();
    fs::write(setup.state_dir().join("qga.state"), "[global]\nfd_counter=2147483648\n").unwrap();
    let agent = setup.start();
    let path = agent.dir().join("file");
    fs::write(&path, "").unwrap();
    let handle = open(&mut agent.host(), &path, "r");
    assert_eq!(handle, differs("handle-counter-64", 2_147_483_648, 0));
}
