//! What the programs on hosts send, byte by byte, and what they look for in the replies.

use serde_json::{Value, json};

use qga_testkit::host::PATIENCE;

use crate::{agent, ask, failed};

/// Proxmox: a connection for each command, both requests in one write, both replies taken at once by the last 0xFF
/// and two lines that end in a brace.
#[test]
fn proxmox_gets_two_lines_after_one_write_two_hundred_times() {
    let (agent, host) = agent();
    drop(host);
    for round in 0..200 {
        let id = format!("4711{}0{round}", std::process::id());
        let mut host = agent.host();
        let sync = format!("{{\"execute\":\"guest-sync-delimited\",\"arguments\":{{\"id\":{id}}}}}\n");
        let command = "{\"execute\":\"guest-ping\",\"arguments\":{}}";
        let end = if round % 2 == 0 { "\n" } else { "" };
        host.send_raw(format!("{sync}{command}{end}").as_bytes()).unwrap();
        let first = host.read_line(PATIENCE).unwrap();
        let second = host.read_line(PATIENCE).unwrap();
        let last = first.iter().rposition(|byte| *byte == 0xff).expect("the byte 0xFF");
        assert_eq!(first[last + 1..], *format!("{{\"return\": {id}}}").as_bytes(), "round {round}");
        assert_eq!(second, b"{\"return\": {}}", "round {round}");
    }
}

/// libvirt: one connection, a plain guest-sync with the time in milliseconds, never 0xFF, never an id.
#[test]
fn libvirt_synchronises_without_a_delimiter() {
    let (_agent, mut host) = agent();
    let sync = "{\"execute\":\"guest-sync\", \"arguments\":{\"id\":1763812345678}}";
    assert_eq!(ask(&mut host, sync), "{\"return\": 1763812345678}");
    for _ in 0..3 {
        assert_eq!(ask(&mut host, "{\"execute\":\"guest-fsfreeze-status\"}"), "{\"return\": \"thawed\"}");
    }
    let info = ask(&mut host, "{\"execute\":\"guest-info\"}");
    let reply: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(reply.as_object().unwrap().keys().collect::<Vec<_>>(), ["return"]);
}

/// QEMU's own client library: every command has an id of text, and an error without it ends the session.
#[test]
fn qemus_library_finds_its_id_in_every_reply() {
    let (_agent, mut host) = agent();
    let good = ask(&mut host, "{\"execute\":\"guest-ping\",\"id\":\"__qmp#00001\"}");
    assert_eq!(good, "{\"return\": {}, \"id\": \"__qmp#00001\"}");
    let bad = ask(&mut host, "{\"execute\":\"guest-sync\",\"id\":\"__qmp#00002\"}");
    assert_eq!(bad, failed("Parameter 'id' is missing").replacen('{', "{\"id\": \"__qmp#00002\", ", 1));
}

/// UTM: a file is sent in pieces and ended by an empty write and a flush; it is fetched until a read is empty.
#[test]
fn utm_sends_and_fetches_a_file() {
    let (agent, mut host) = agent();
    let path = agent.dir().join("pushed");
    let handle = host.call("guest-file-open", json!({ "path": path, "mode": "w" })).unwrap();
    for (piece, count) in [("aGVsbG8g", 6), ("d29ybGQ=", 5), ("", 0)] {
        let wrote = host.call("guest-file-write", json!({ "handle": handle, "buf-b64": piece })).unwrap();
        assert_eq!(wrote, json!({ "count": count, "eof": false }));
    }
    host.call("guest-file-flush", json!({ "handle": handle })).unwrap();
    host.call("guest-file-close", json!({ "handle": handle })).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello world");
    let handle = host.call("guest-file-open", json!({ "path": path })).unwrap();
    let read = || json!({ "handle": handle, "count": 4096 });
    assert_eq!(host.call("guest-file-read", read()).unwrap()["buf-b64"], "aGVsbG8gd29ybGQ=");
    assert_eq!(host.call("guest-file-read", read()).unwrap(), json!({ "count": 0, "buf-b64": "", "eof": true }));
}

/// Proxmox again: base64 comes wrapped in lines of 76 letters.
#[test]
fn base64_in_lines_is_taken() {
    let (agent, mut host) = agent();
    let path = agent.dir().join("wrapped");
    let handle = host.call("guest-file-open", json!({ "path": path, "mode": "wb" })).unwrap();
    let line = "QUJD".repeat(19);
    let text = format!("{line}\n{line}\nQUI=\n");
    let wrote = host.call("guest-file-write", json!({ "handle": handle, "buf-b64": text })).unwrap();
    assert_eq!(wrote["count"], 19 * 3 * 2 + 2);
    host.call("guest-file-close", json!({ "handle": handle })).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), format!("{}AB", "ABC".repeat(38)).as_bytes());
}
