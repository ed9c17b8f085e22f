//! The client against agents that do everything an agent, or a hostile guest, might do.

mod ahead;
mod fake;

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use fake::{ENOUGH, Fake, SHORT};
use qga_client::{Blocker, Client, Error, Layer, Monitor};
use qga_proto::command::Empty;
use qga_proto::types::core::{GuestInfo, GuestPing};
use qga_proto::types::file::{FileOpenArgs, GuestFileOpen};
use qga_proto::types::power::{GuestShutdown, ShutdownArgs};
use serde_json::{Value, json};

fn ping(client: &mut Client) -> Result<Empty, Error> {
    client.call::<GuestPing>(Empty {})
}

#[test]
fn a_call_shakes_hands_once_and_then_asks() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        for handle in [1000, 1001] {
            let request = guest.expect("guest-file-open");
            assert_eq!(request, json!({"execute": "guest-file-open", "arguments": {"path": "/etc/motd", "mode": "r"}}));
            guest.send(format!("{{\"return\": {handle}}}\n"));
        }
    });
    let mut client = fake.client(ENOUGH);
    for handle in [1000, 1001] {
        let args = FileOpenArgs { path: "/etc/motd".into(), mode: Some("r".into()) };
        assert_eq!(client.call::<GuestFileOpen>(args).unwrap(), handle);
    }
    fake.finish();
}

#[test]
fn a_raw_call_sends_its_arguments_as_they_are_and_none_for_null() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        assert_eq!(guest.request().unwrap().1, json!({"execute": "guest-ping"}));
        guest.send("{\"return\": {}}\n");
        assert_eq!(guest.request().unwrap().1, json!({"execute": "x", "arguments": {"a": [1, "é"]}}));
        guest.send("{\"return\": [1, null]}\n");
    });
    let mut client = fake.client(ENOUGH);
    assert_eq!(client.call_raw("guest-ping", Value::Null).unwrap(), json!({}));
    assert_eq!(client.call_raw("x", json!({"a": [1, "é"]})).unwrap(), json!([1, null]));
    fake.finish();
}

#[test]
fn everything_before_the_answer_to_the_handshake_is_dropped() {
    let fake = Fake::new(|mut guest| {
        let id = guest.handshake();
        guest.send("\": \"the rest of something\"}\n{\"return\": {\"version\": \"0.0.0\"}}\n");
        guest.send(b"\x00\x01\xFE binary \xFF\xFF{\"return\": 17}\n");
        guest.send(format!("{{\"return\": {id}}}\n")); // without the sentinel it is not the answer
        guest.send("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray '\\uFFFD'\"}}\n");
        guest.send(vec![b'x'; 1 << 20]);
        guest.answer_handshake(id);
        guest.expect("guest-info");
        guest.send("{\"return\": {\"version\": \"11.1.3\", \"supported_commands\": []}}\n");
    });
    assert_eq!(fake.client(ENOUGH).call::<GuestInfo>(Empty {}).unwrap().version, "11.1.3");
    fake.finish();
}

#[test]
fn a_late_reply_never_answers_the_next_question() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("first");
        guest.send("{\"return\": 1}\n");
        guest.expect("slow");
        let id = guest.handshake(); // comes only after the time of the first command is over
        guest.send("{\"return\": \"late\"}\n");
        guest.answer_handshake(id);
        guest.expect("quick");
        guest.send("{\"return\": \"right\"}\n");
    });
    let mut client = fake.client(ENOUGH);
    assert_eq!(client.call_raw("first", Value::Null).unwrap(), 1);
    client.set_timeout(SHORT);
    let error = client.call_raw("slow", Value::Null).unwrap_err();
    assert!(matches!(&error, Error::Timeout { command, .. } if command == "slow"), "{error}");
    assert_eq!(error.to_string(), "slow has not answered within 0.3 s");
    client.set_timeout(ENOUGH);
    assert_eq!(client.call_raw("quick", Value::Null).unwrap(), "right");
    fake.finish();
}

#[test]
fn half_a_reply_is_a_timeout_and_its_other_half_is_dropped() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("zeroth");
        guest.send("{\"return\": 0}\n");
        guest.expect("first");
        guest.send("{\"return\": \"he");
        let id = guest.handshake();
        guest.send("llo\"}\n");
        guest.answer_handshake(id);
        guest.expect("second");
        guest.send("{\"return\"");
        std::thread::sleep(Duration::from_millis(20));
        guest.send(": 2}\n");
    });
    let mut client = fake.client(ENOUGH);
    assert_eq!(client.call_raw("zeroth", Value::Null).unwrap(), 0);
    client.set_timeout(SHORT);
    assert!(matches!(client.call_raw("first", Value::Null), Err(Error::Timeout { .. })));
    client.set_timeout(ENOUGH);
    assert_eq!(client.call_raw("second", Value::Null).unwrap(), 2);
    fake.finish();
}

#[test]
fn bytes_that_nobody_asked_for_lead_to_a_new_handshake() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("one");
        guest.send("{\"return\": 1}\n{\"return\": \"nobody asked\"}\n");
        guest.shake_hands();
        guest.expect("two");
        guest.send("{\"return\": 2}\n");
    });
    let mut client = fake.client(ENOUGH);
    assert_eq!(client.call_raw("one", Value::Null).unwrap(), 1);
    assert_eq!(client.call_raw("two", Value::Null).unwrap(), 2);
    fake.finish();
}

#[test]
fn a_silent_channel_is_told_apart_from_a_missing_one() {
    let fake = Fake::new(fake::Guest::wait_for_end);
    let mut client = fake.client(SHORT);
    let error = ping(&mut client).unwrap_err();
    assert!(matches!(error, Error::Silent(_)), "{error}");
    assert_eq!(error.layer(), Layer::Agent);
    drop(client);
    fake.finish();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none");
    let error = Client::unix(&path, SHORT).unwrap_err();
    assert_eq!((error.to_string(), error.layer()), (format!("no such socket: {}", path.display()), Layer::Channel));

    drop(UnixListener::bind(&path).unwrap()); // leaves the file behind
    let error = Client::unix(&path, SHORT).unwrap_err();
    assert_eq!(error.to_string(), format!("nobody listens on {}", path.display()));

    let path = dir.path().join("x".repeat(200));
    let error = Client::unix(path, SHORT).unwrap_err();
    assert!(matches!(error, Error::Open { .. }) && !error.to_string().contains("os error"), "{error}");
}

#[test]
fn a_socket_whose_queue_is_full_is_busy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let _listener = UnixListener::bind(&path).unwrap(); // accepts nobody
    let mut waiting = Vec::new();
    let error = loop {
        match Client::unix(&path, SHORT) {
            Ok(client) => waiting.push(client),
            Err(error) => break error,
        }
        assert!(waiting.len() < 10_000, "the queue never fills");
    };
    assert_eq!(error.to_string(), format!("{} is busy", path.display()));
    assert!(error.hint().unwrap().contains("libvirt"));
}

#[test]
fn an_agent_that_does_not_read_is_reported_in_time() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let fake = Fake::new(move |mut guest| {
        guest.shake_hands();
        guest.expect("guest-ping");
        guest.send("{\"return\": {}}\n");
        let _ = wait.recv(); // reads nothing more until the client has given up
    });
    let mut client = fake.client(ENOUGH);
    ping(&mut client).unwrap();
    client.set_timeout(SHORT);
    let error = client.call_raw("guest-file-write", json!({"buf-b64": "A".repeat(8 << 20)})).unwrap_err();
    assert!(matches!(error, Error::NotTaken(_)), "{error}");
    drop(done);
    fake.finish();
}

#[test]
fn an_endless_stream_of_garbage_ends_with_the_deadline() {
    let fake = Fake::new(|mut guest| while guest.try_send([b'z'; 4096]) {});
    let mut client = fake.client(SHORT);
    let error = ping(&mut client).unwrap_err();
    assert!(matches!(error, Error::Silent(_) | Error::Foreign(_)), "{error}");
    drop(client);
    fake.finish();
}

#[test]
fn a_stranger_is_quoted_without_its_escape_sequences() {
    let fake = Fake::new(|mut guest| {
        guest.send("\x1b[31mdebian login: ");
        guest.wait_for_end();
    });
    let mut client = fake.client(SHORT * 10);
    let error = ping(&mut client).unwrap_err();
    assert_eq!(error.to_string(), "something other than a guest agent answers: \\x1b[31mdebian login:");
    drop(client);
    fake.finish();
}

#[test]
fn a_qmp_monitor_is_named() {
    let fake = Fake::new(|mut guest| {
        guest.send("{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22}}, \"capabilities\": [\"oob\"]}}\r\n");
        guest.wait_for_end();
    });
    let mut client = fake.client(ENOUGH);
    let error = ping(&mut client).unwrap_err();
    assert!(matches!(error, Error::Monitor(Monitor::Qmp)), "{error}");
    assert_eq!(error.to_string(), "this is a QMP monitor, not a guest agent");
    drop(client);
    fake.finish();
}

#[test]
fn the_end_of_the_connection_is_said_and_not_waited_for() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("guest-ping");
    });
    let mut client = fake.client(ENOUGH);
    let start = Instant::now();
    assert!(matches!(ping(&mut client), Err(Error::Closed)));
    assert!(matches!(ping(&mut client), Err(Error::Closed)), "a second call finds the same");
    assert!(start.elapsed() < ENOUGH / 2);
    fake.finish();
}

#[test]
fn a_command_without_success_response_is_done_when_the_machine_goes_or_nothing_comes() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("guest-shutdown"); // and the machine is gone
    });
    fake.client(ENOUGH).call::<GuestShutdown>(ShutdownArgs::default()).unwrap();
    fake.finish();

    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("guest-ping");
        guest.send("{\"return\": {}}\n");
        guest.expect("guest-suspend-ram");
        guest.shake_hands();
        guest.expect("guest-ping");
        guest.send("{\"return\": {}}\n");
    });
    let mut client = fake.client(ENOUGH);
    ping(&mut client).unwrap();
    client.set_timeout(SHORT);
    assert_eq!(client.call_raw("guest-suspend-ram", Value::Null).unwrap(), json!({}));
    client.set_timeout(ENOUGH);
    ping(&mut client).unwrap();
    fake.finish();
}

#[test]
fn a_command_without_success_response_that_fails_says_so() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("guest-shutdown");
        guest.send("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such mode\"}}\n");
    });
    let error = fake.client(ENOUGH).call::<GuestShutdown>(ShutdownArgs::default()).unwrap_err();
    assert_eq!(error.to_string(), "guest-shutdown failed: no such mode");
    assert_eq!(error.class(), Some("GenericError"));
    fake.finish();
}

#[test]
fn unknown_switched_off_and_frozen_are_told_apart() {
    let refusal = |desc: &str| format!("{{\"error\": {{\"class\": \"CommandNotFound\", \"desc\": \"{desc}\"}}}}\n");
    let disabled = "Command x has been disabled: the command is not allowed";
    let cases = [
        (refusal("The command x has not been found"), None, None),
        (refusal(disabled), Some("{\"return\": \"thawed\"}\n"), Some(Blocker::List)),
        (refusal(disabled), Some("{\"return\": \"frozen\"}\n"), Some(Blocker::Frozen)),
        (refusal("Command x has been disabled: the agent is in frozen state"), None, Some(Blocker::Frozen)),
        (refusal("The command x has been disabled for this instance"), None, Some(Blocker::List)),
    ];
    for (answer, status, blocker) in cases {
        let text = answer.clone();
        let fake = Fake::new(move |mut guest| {
            guest.shake_hands();
            guest.expect("x");
            guest.send(answer);
            if let Some(status) = status {
                guest.expect("guest-fsfreeze-status");
                guest.send(status);
            }
        });
        let error = fake.client(ENOUGH).call_raw("x", Value::Null).unwrap_err();
        assert_eq!(error.layer(), Layer::Policy, "{text}");
        match error {
            Error::NotFound { .. } => assert_eq!(blocker, None, "{text}"),
            Error::Blocked { by, .. } => assert_eq!(blocker, Some(by), "{text}"),
            other => panic!("{text}: {other}"),
        }
        fake.finish();
    }
}

#[test]
fn an_agent_that_refuses_the_delimited_form_is_asked_with_the_plain_one() {
    let fake = Fake::new(|mut guest| {
        guest.handshake();
        guest.send("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Command guest-sync-delimited has been disabled: the command is not allowed\"}}\n");
        let request = guest.expect("guest-sync");
        guest.send(format!("{{\"return\": 12}}\n{{\"return\": {}}}\n", request["arguments"]["id"]));
        guest.expect("guest-ping");
        guest.send("{\"return\": {}}\n");
    });
    ping(&mut fake.client(ENOUGH)).unwrap();
    fake.finish();
}

#[test]
fn a_reply_that_is_none_is_an_error_and_the_next_call_works() {
    let bad = ["[]\n", "{\"retur\": 1}\n", "{\"return\": \"\u{1}\"}\n", "\n", "{\"return\": 1} {\"return\": 2}\n"];
    for line in bad {
        let fake = Fake::new(move |mut guest| {
            guest.shake_hands();
            guest.expect("one");
            guest.send(line);
            guest.shake_hands();
            guest.expect("two");
            guest.send("{\"return\": 2}\n");
        });
        let mut client = fake.client(ENOUGH);
        assert!(matches!(client.call_raw("one", Value::Null), Err(Error::Malformed(_))), "{line:?}");
        assert_eq!(client.call_raw("two", Value::Null).unwrap(), 2);
        fake.finish();
    }
}

#[test]
fn a_result_of_the_wrong_type_is_named() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("guest-info");
        guest.send("{\"return\": {\"version\": 3}}\n");
    });
    let error = fake.client(ENOUGH).call::<GuestInfo>(Empty {}).unwrap_err();
    assert!(error.to_string().contains("guest-info: invalid type"), "{error}");
    fake.finish();
}

#[test]
fn a_reply_without_end_is_cut_off_at_the_limit() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("x");
        guest.send("{\"return\": \"");
        while guest.try_send(vec![b'A'; 1 << 20]) {}
    });
    let mut client = fake.client(Duration::from_secs(120));
    let error = client.call_raw("x", Value::Null).unwrap_err();
    assert!(matches!(error, Error::TooBig(limit) if limit == qga_client::REPLY_MAX), "{error}");
    drop(client);
    fake.finish();
}

#[test]
fn a_client_that_is_dropped_closes_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
    drop(Client::unix(dir.path().join("sock"), ENOUGH).unwrap());
    let (mut stream, _): (UnixStream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(ENOUGH)).unwrap();
    assert_eq!(std::io::Read::read(&mut stream, &mut [0; 16]).unwrap(), 0, "nothing is sent before the first call");
}
