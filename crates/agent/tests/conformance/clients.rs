//! What the programs on hosts send, byte by byte, and what they look for in the replies.

use serde_json::{Value, json};

use qga_testkit::host::PATIENCE;
use qga_testkit::proxmox::wrapped;
use qga_testkit::{Proxmox, wait};

use crate::{agent, ask, failed, read};

/// Proxmox: see [`Proxmox`]. Five connections a round.
#[test]
fn proxmox_gets_both_replies_after_one_write_a_thousand_times() {
    let (agent, host) = agent();
    drop(host);
    let mut proxmox = Proxmox::new(agent.socket());
    assert_eq!(proxmox.call("guest-ping", &json!({})), Ok(json!({})));
    let fds = agent.fds();
    let asked = ["guest-info", "guest-network-get-interfaces", "guest-get-osinfo", "guest-fsfreeze-status"];
    let mut round = 0;
    while proxmox.count() < 1000 {
        let reply = proxmox.call(asked[round % asked.len()], &json!({})).unwrap();
        let fits = match asked[round % asked.len()] {
            "guest-network-get-interfaces" => reply.is_array(),
            "guest-fsfreeze-status" => reply == "thawed",
            _ => reply.is_object(),
        };
        assert!(fits, "round {round}: {reply}");
        // Every length of the last line, three files in turn.
        let bytes: Vec<u8> = (0..round).map(|number| (number * 7 + round) as u8).collect();
        let path = agent.dir().join(format!("written-{}", round % 3));
        proxmox.write_file(&path.to_string_lossy(), &bytes);
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "round {round}");
        let error = proxmox.call("guest-file-close", &json!({ "handle": -1 })).unwrap_err();
        assert_eq!(error.desc, "handle '-1' has not been found", "round {round}");
        round += 1;
    }
    // What the last connection took may still be on its way back.
    wait::until("the descriptors of a thousand connections closed", PATIENCE, || (agent.fds() <= fds).then_some(()));
}

/// The closing brace ends a request; some clients send no newline.
#[test]
fn a_request_without_a_newline_behind_it_is_complete() {
    let (agent, _) = agent();
    for round in 0..20 {
        let mut host = agent.host();
        let sync = format!("{{\"execute\":\"guest-sync-delimited\",\"arguments\":{{\"id\":{round}}}}}\n");
        host.send_raw(format!("{sync}{{\"execute\":\"guest-ping\",\"arguments\":{{}}}}").as_bytes()).unwrap();
        assert_eq!(read(&mut host), format!("\\xff{{\"return\": {round}}}"));
        assert_eq!(read(&mut host), "{\"return\": {}}", "round {round}");
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
    let bytes = "ABC".repeat(38) + "AB";
    let text = wrapped(bytes.as_bytes());
    assert_eq!(text.lines().count(), 3);
    let wrote = host.call("guest-file-write", json!({ "handle": handle, "buf-b64": text })).unwrap();
    assert_eq!(wrote["count"], bytes.len());
    host.call("guest-file-close", json!({ "handle": handle })).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes.as_bytes());
}
