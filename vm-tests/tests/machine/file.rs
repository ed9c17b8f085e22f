//! File commands: the bytes are compared by their hash on the other side.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qga_testkit::Host;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Guest;

/// Not a multiple of anything.
const SIZE: usize = 3 * 1024 * 1024 + 1021;

/// Bytes in which no piece is like another.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file through the agent in pieces of `piece` bytes.
pub(crate) fn write(agent: &mut Host, path: &str, bytes: &[u8], piece: usize) {
    let handle = agent.call("guest-file-open", json!({ "path": path, "mode": "w" })).unwrap();
    for piece in bytes.chunks(piece) {
        let reply = agent.call("guest-file-write", json!({ "handle": handle, "buf-b64": STANDARD.encode(piece) }));
        let reply = reply.unwrap();
        assert_eq!(reply, json!({ "count": piece.len(), "eof": false }));
    }
    agent.call("guest-file-close", json!({ "handle": handle })).unwrap();
}

/// Reads a file through the agent in pieces of `piece` bytes.
pub(crate) fn read(agent: &mut Host, path: &str, piece: usize) -> Vec<u8> {
    let handle = agent.call("guest-file-open", json!({ "path": path })).unwrap();
    let mut bytes = Vec::new();
    loop {
        let reply = agent.call("guest-file-read", json!({ "handle": handle, "count": piece })).unwrap();
        let part = STANDARD.decode(reply["buf-b64"].as_str().unwrap()).unwrap();
        assert_eq!(reply["count"], part.len());
        bytes.extend(&part);
        if reply["eof"] == true {
            break;
        }
    }
    agent.call("guest-file-close", json!({ "handle": handle })).unwrap();
    bytes
}

pub(crate) fn a_file_written_by_the_host_has_its_sha256_in_the_guest(guest: &mut Guest) {
    let bytes = noise(SIZE);
    let mut agent = guest.machine.agent();
    write(&mut agent, "/mnt/ext4/written", &bytes, 1024 * 1024);
    let seen = guest.machine.shell.run("sha256sum </mnt/ext4/written");
    assert_eq!(seen.split(' ').next(), Some(hash(&bytes).as_str()));
    guest.machine.shell.run("rm /mnt/ext4/written");
}

pub(crate) fn a_file_of_the_guest_has_its_sha256_at_the_host(guest: &mut Guest) {
    let script = "dd if=/dev/urandom of=/mnt/ext4/read bs=1021 count=1500 2>/dev/null; sha256sum </mnt/ext4/read";
    let there = guest.machine.shell.run(script);
    let mut agent = guest.machine.agent();
    let bytes = read(&mut agent, "/mnt/ext4/read", 300_000);
    assert_eq!(bytes.len(), 1500 * 1021);
    assert_eq!(there.split(' ').next(), Some(hash(&bytes).as_str()));
    guest.machine.shell.run("rm /mnt/ext4/read");
}
