//! Hosts that ask, and do not read the answers for a long time: `QGA_SILENCE` says for how many seconds.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::host::{PATIENCE, request};
use qga_testkit::silence::{come_back, flood};
use qga_testkit::{Program, Setup, TestAgent};
use serde_json::json;

const MIB: u64 = 1 << 20;

/// The promise is one second from the first byte that is read; a busy machine of the short form is given more.
fn at_once() -> Duration {
    Duration::from_secs(if asked_for().is_some() { 1 } else { 10 })
}

/// How long nothing must be taken before the socket counts as full.
const FULL: Duration = Duration::from_secs(3);

fn agent() -> TestAgent {
    Setup::new(&Program::ours(env!("CARGO_BIN_EXE_qemu-ga"))).start()
}

/// Seconds that `QGA_SILENCE` asks for.
fn asked_for() -> Option<u64> {
    let text = std::env::var("QGA_SILENCE").ok().filter(|text| !text.is_empty())?;
    Some(text.parse().expect("QGA_SILENCE is a number of seconds"))
}

fn silence() -> Duration {
    Duration::from_secs(asked_for().unwrap_or(5))
}

/// Lets the silence pass, with what is to be done each second of it: less than a hundredth of a processor is used.
fn pass(agent: &TestAgent, mut each_second: impl FnMut()) {
    let (begin, before) = (Instant::now(), agent.cpu_ticks());
    while begin.elapsed() < silence() {
        each_second();
        sleep(Duration::from_secs(1));
    }
    let (took, used) = (begin.elapsed().as_secs(), agent.cpu_ticks() - before);
    eprintln!("{used} ticks of processor time in {took} s, {} KiB", agent.rss() >> 10);
    assert!(used <= took, "{used} ticks of processor time in {took} s");
}

#[test]
fn a_client_that_asks_and_does_not_read_costs_nothing_and_is_answered_at_once_afterwards() {
    const READS: usize = 64;
    let agent = agent();
    let zeros = agent.dir().join("zeros");
    File::create(&zeros).unwrap().set_len(READS as u64 * MIB).unwrap();
    let mut host = agent.host();
    let handle = host.call("guest-file-open", json!({ "path": zeros })).unwrap();
    let message = request("guest-file-read", &json!({ "handle": handle, "count": MIB }));
    let sent = flood(&host, READS, PATIENCE, |_| message.clone()).unwrap();
    assert_eq!(sent.messages, READS, "requests are taken while nothing is read");
    sleep(Duration::from_secs(1));
    pass(&agent, || host.send("guest-ping", &json!({})).unwrap());
    assert!(agent.rss() < 32 * MIB, "{} KiB", agent.rss() >> 10);

    let back = come_back(&mut host, 1, PATIENCE).unwrap();
    eprintln!("an answer after {:.2?}, behind {} replies with {} bytes", back.took, back.lines, back.bytes);
    assert!(back.took < at_once(), "an answer after {:?}", back.took);
    // What was asked before and had not begun is dropped.
    assert!(back.lines < READS, "{} replies of before", back.lines);
    host.call("guest-ping", json!({})).unwrap();
}

#[test]
fn a_client_that_fills_the_socket_and_does_not_read_is_answered_at_once_afterwards() {
    /// As long as the longest message that is still looked at on the loop, with room for what is around it.
    const PADDING: usize = 60 << 10;
    let agent = agent();
    let mut host = agent.host();
    let padding = "x".repeat(PADDING);
    let message = |number| {
        let id = json!([number, padding]);
        format!("{}\n", json!({ "execute": "guest-ping", "id": id })).into_bytes()
    };
    let sent = flood(&host, usize::MAX, FULL, message).unwrap();
    assert!(sent.bytes as u64 > 32 * MIB, "{} bytes are all that is taken", sent.bytes);
    pass(&agent, || ());
    assert!(agent.rss() < 64 * MIB, "{} KiB", agent.rss() >> 10);

    let back = come_back(&mut host, 2, PATIENCE).unwrap();
    eprintln!("an answer after {:.2?}, behind {} replies with {} bytes", back.took, back.lines, back.bytes);
    assert!(back.took < at_once(), "an answer after {:?}", back.took);
    // Nor is all that was asked before carried out first.
    assert!((back.bytes as u64) < 8 * MIB, "{} bytes of before", back.bytes);
    host.call("guest-ping", json!({})).unwrap();
}
