//! Requests that are cut, mixed up or no requests at all. Nothing of that is remembered beyond the next 0xFF.

use std::thread::sleep;
use std::time::Duration;

use qga_testkit::host::PATIENCE;

use crate::differences::differs;
use crate::{PROGRAM, agent, ask};

const REQUEST: &str = "{\"execute\":\"guest-sync\",\"arguments\":{\"id\":7},\"id\":\"\\u00e9 x\"}";
const REPLY: &str = "{\"return\": 7, \"id\": \"\\\\u00E9 x\"}";

#[test]
fn a_request_in_two_pieces_is_understood_wherever_it_is_cut() {
    let (_agent, mut host) = agent();
    for at in 1..REQUEST.len() {
        host.send_raw(&REQUEST.as_bytes()[..at]).unwrap();
        sleep(Duration::from_millis(2));
        assert_eq!(ask(&mut host, &REQUEST[at..]), REPLY, "cut at {at}");
    }
}

#[test]
fn a_request_that_breaks_off_anywhere_is_given_up_at_the_byte_0xff() {
    let (mut agent, mut host) = agent();
    for at in 1..REQUEST.len() {
        host.send_raw(&REQUEST.as_bytes()[..at]).unwrap();
        host.sync(PATIENCE).unwrap_or_else(|error| panic!("cut at {at}: {error}"));
        assert_eq!(ask(&mut host, REQUEST), REPLY, "cut at {at}");
    }
    assert!(agent.runs());
}

#[test]
fn a_request_that_breaks_off_anywhere_is_forgotten_with_its_connection() {
    let (agent, first) = agent();
    drop(first);
    let mut clean = 0;
    for at in 1..REQUEST.len() {
        let mut host = agent.host();
        host.send_raw(&REQUEST.as_bytes()[..at]).unwrap();
        drop(host);
        let mut host = agent.host();
        host.send_raw(format!("{REQUEST}\n").as_bytes()).unwrap();
        let limit = if PROGRAM.is_ours() { PATIENCE } else { Duration::from_millis(50) };
        clean += usize::from(host.read_line(limit).is_ok_and(|line| crate::readable(&line) == REPLY));
        // The C agent is brought back to the start of a request for the next round.
        host.sync(PATIENCE).unwrap();
    }
    assert_eq!(clean == REQUEST.len() - 1, differs("parser-per-connection", true, false), "{clean} were clean");
}

#[test]
fn after_a_broken_line_the_next_line_is_understood() {
    for broken in
        ["{\"a\":[1,}", "{\"a\":{\"b\":[", "[}", "{\"a\" 1}", "]", "{\"execute\":\"guest-ping\"", "{\"x\":\"abc"]
    {
        let (_agent, mut host) = agent();
        host.send_raw(format!("{broken}\n").as_bytes()).unwrap();
        host.send_raw(b"{\"execute\":\"guest-sync\",\"arguments\":{\"id\":5}}\n").unwrap();
        // What is only unfinished may go on in the next line; an error ends with its own.
        let unfinished = ["{\"a\":{\"b\":[", "{\"execute\":\"guest-ping\""].contains(&broken);
        let limit = if PROGRAM.is_ours() && !unfinished { PATIENCE } else { Duration::from_millis(200) };
        let first = host.read_line(limit).map(|line| crate::readable(&line)).unwrap_or_default();
        let second = host.read_line(limit).map(|line| crate::readable(&line)).unwrap_or_default();
        if PROGRAM.is_ours() && !unfinished {
            assert!(first.contains("JSON parse error"), "{broken}: {first}");
            assert_eq!(second, "{\"return\": 5}", "{broken}");
        }
        host.sync(PATIENCE).unwrap();
        assert_eq!(ask(&mut host, REQUEST), REPLY, "{broken}");
    }
    differs("wire-recovery", (), ());
}

/// A small generator; the numbers are the same in every run, so that a failure is found again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % below
    }
}

#[test]
fn after_random_bytes_the_agent_comes_back() {
    let (mut agent, mut host) = agent();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..300 {
        let length = 1 + numbers.next(700);
        let bytes: Vec<u8> = (0..length).map(|_| numbers.next(256) as u8).collect();
        host.send_raw(&bytes).unwrap();
        host.sync(PATIENCE).unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    assert!(agent.runs());
    assert_eq!(ask(&mut host, REQUEST), REPLY);
}

#[test]
fn after_pieces_of_requests_in_any_order_the_agent_comes_back() {
    const PIECES: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\"",
        b"'",
        b"\n",
        b" ",
        b"\xff",
        b"\x00",
        b"\xfe",
        b"\\",
        b"\\u",
        b"\xc3",
        b"1",
        b"-",
        b"0",
        b"1e9",
        b"true",
        b"nul",
        b"\"execute\"",
        b"\"arguments\"",
        b"\"id\"",
        b"\"guest-ping\"",
        b"\"guest-sync\"",
        b"{\"execute\":\"guest-ping\"}",
        b"\"\\ud83d\"",
        b"\xf0\x9f\x98\x80",
    ];
    let (mut agent, mut host) = agent();
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for round in 0..300 {
        let count = 1 + numbers.next(40);
        let bytes: Vec<u8> = (0..count).flat_map(|_| PIECES[numbers.next(PIECES.len())].iter().copied()).collect();
        host.send_raw(&bytes).unwrap();
        host.sync(PATIENCE).unwrap_or_else(|error| panic!("round {round}: {error}: {}", crate::readable(&bytes)));
    }
    assert!(agent.runs());
    assert_eq!(ask(&mut host, REQUEST), REPLY);
}

#[test]
fn a_bare_0xff_is_silent() {
    let (_agent, mut host) = agent();
    host.send_raw(b"\xff\xff\n\xff").unwrap();
    let first = ask(&mut host, "{\"execute\":\"guest-ping\"}");
    assert_eq!(first == "{\"return\": {}}", differs("wire-silent-ff", true, false), "{first}");
}
