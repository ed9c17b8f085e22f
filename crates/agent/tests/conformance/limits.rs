//! The three limits on a message, and what comes after one that was too big.

use std::time::Duration;

use qga_testkit::Host;

use crate::{agent, ask, failed, read};

/// A big message takes a busy machine, and a build without optimisation, its time.
const LONG: Duration = Duration::from_secs(300);

const PING: &str = "{\"execute\":\"guest-ping\"}";
const PONG: &str = "{\"return\": {}}";

/// Sends a message while reading, since an agent that complains early may not be listened to otherwise.
#[track_caller]
fn send(host: &mut Host, message: &[u8]) {
    host.send_raw_within(message, LONG).expect("the agent takes a message");
}

#[track_caller]
fn reply(host: &mut Host) -> String {
    crate::readable(&host.read_line(LONG).expect("a reply"))
}

#[test]
fn a_thousand_and_twenty_four_levels_are_the_limit() {
    let (_agent, mut host) = agent();
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(ask(&mut host, &nested(1024)), failed("QMP input must be a JSON object"));
    let deep_id = format!("{{\"execute\":\"guest-ping\",\"id\":{}}}", nested(1023));
    assert_eq!(ask(&mut host, &deep_id), format!("{{\"return\": {{}}, \"id\": {}}}", nested(1023)));
    assert_eq!(ask(&mut host, &nested(1025)), failed("JSON nesting depth limit exceeded"));
    host.sync(LONG).unwrap();
    assert_eq!(ask(&mut host, PING), PONG);
}

#[test]
fn two_million_tokens_are_the_limit() {
    let (_agent, mut host) = agent();
    let numbers = |count: usize| format!("[1{}]\n", ",1".repeat(count - 1));
    send(&mut host, numbers(1_048_575).as_bytes());
    assert_eq!(reply(&mut host), failed("QMP input must be a JSON object"));
    send(&mut host, numbers(1_048_576).as_bytes());
    assert_eq!(reply(&mut host), failed("JSON token count limit exceeded"));
    host.sync(LONG).unwrap();
    assert_eq!(ask(&mut host, PING), PONG);
}

#[test]
fn sixty_four_mebibytes_of_text_are_the_limit() {
    let (_agent, mut host) = agent();
    let text = |bytes: usize| format!("\"{}\"\n", "a".repeat(bytes - 2)).into_bytes();
    send(&mut host, &text(67_108_863));
    assert_eq!(reply(&mut host), failed("QMP input must be a JSON object"));
    send(&mut host, &text(67_108_864));
    assert_eq!(reply(&mut host), failed("JSON token size limit exceeded"));
    host.sync(LONG).unwrap();
    assert_eq!(ask(&mut host, PING), PONG);
}

#[test]
fn white_space_does_not_count() {
    let (_agent, mut host) = agent();
    send(&mut host, " \t\n\r".repeat(17 << 20).as_bytes());
    send(&mut host, PING.as_bytes());
    assert_eq!(reply(&mut host), PONG);
}

#[test]
fn after_a_message_beyond_the_limit_the_next_one_is_understood() {
    let (mut agent, mut host) = agent();
    let mut message = b"{\"execute\":\"guest-sync\",\"arguments\":{\"id\":\"".to_vec();
    message.resize(message.len() + (64 << 20) + 1, b'a');
    message.extend(b"\"}}\n");
    send(&mut host, &message);
    assert_eq!(reply(&mut host), failed("JSON token size limit exceeded"));
    host.sync(LONG).unwrap();
    assert_eq!(ask(&mut host, PING), PONG);
    assert!(agent.runs());
}

#[test]
fn spaces_and_line_ends_between_requests_mean_nothing() {
    let (_agent, mut host) = agent();
    send(&mut host, format!("{PING}{PING}\r\n\n {PING}").as_bytes());
    for _ in 0..3 {
        assert_eq!(read(&mut host), PONG);
    }
}
