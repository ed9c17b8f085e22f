//! Several requests under way at the same time.

use qga_client::{Client, Error, GuestFile};

use crate::fake::{ENOUGH, Fake, SHORT};
use crate::ping;

/// A file that is open for reading.
fn readable(client: &mut Client) -> GuestFile {
    GuestFile::open(client, "/x", "r").unwrap()
}

#[test]
fn reads_are_sent_ahead_and_their_answers_taken_in_order() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("guest-file-open");
        guest.send("{\"return\": 1000}\n");
        // The second one is there before the first is answered, and so on.
        let mut id = guest.expect("guest-file-read")["id"].clone();
        for text in ["YQ==", "YmM=", "ZA==", ""] {
            let next = guest.expect("guest-file-read")["id"].clone();
            let (count, eof) = (text.trim_end_matches('=').len() * 3 / 4, text.is_empty());
            guest.send(format!(
                "{{\"return\": {{\"count\": {count}, \"buf-b64\": \"{text}\", \"eof\": {eof}}}, \"id\": {id}}}\n"
            ));
            id = next;
        }
        guest.send(format!("{{\"return\": {{\"count\": 0, \"buf-b64\": \"\", \"eof\": true}}, \"id\": {id}}}\n"));
        // Nothing is asked for behind the end.
        guest.expect("guest-ping");
        guest.send("{\"return\": {}}\n");
        guest.wait_for_end();
    });
    let mut client = fake.client(ENOUGH);
    let file = readable(&mut client);
    let mut reading = file.read_ahead(&mut client, u64::MAX);
    let (mut piece, mut all) = (Vec::new(), Vec::new());
    while reading.next_into(&mut piece).unwrap() {
        all.extend_from_slice(&piece);
    }
    assert_eq!(all, b"abcd");
    drop(reading);
    ping(&mut client).unwrap();
    drop(client);
    fake.finish();
}

#[test]
fn an_answer_out_of_turn_is_not_taken() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("guest-file-open");
        guest.send("{\"return\": 1000}\n");
        let first = guest.expect("guest-file-read")["id"].clone();
        let second = guest.expect("guest-file-read")["id"].clone();
        assert_ne!(first, second);
        guest.send(format!(
            "{{\"return\": {{\"count\": 1, \"buf-b64\": \"YQ==\", \"eof\": false}}, \"id\": {second}}}\n"
        ));
        guest.wait_for_end();
    });
    let mut client = fake.client(ENOUGH);
    let file = readable(&mut client);
    let error = file.read_ahead(&mut client, u64::MAX).next_into(&mut Vec::new()).unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error}");
    drop(client);
    fake.finish();
}

#[test]
fn answers_that_were_not_taken_are_not_given_to_the_next_question() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("guest-file-open");
        guest.send("{\"return\": 1000}\n");
        for _ in 0..2 {
            let id = guest.expect("guest-file-read")["id"].clone();
            guest.send(format!(
                "{{\"return\": {{\"count\": 1, \"buf-b64\": \"YQ==\", \"eof\": false}}, \"id\": {id}}}\n"
            ));
        }
        // One more for the one that was taken, short as it was.
        loop {
            let (delimited, request) = guest.request().unwrap();
            if delimited {
                guest.answer_handshake(request["arguments"]["id"].as_u64().unwrap());
                break;
            }
        }
        guest.expect("guest-ping");
        guest.send("{\"return\": {}}\n");
        guest.wait_for_end();
    });
    let mut client = fake.client(ENOUGH);
    let file = readable(&mut client);
    let mut piece = Vec::new();
    let mut reading = file.read_ahead(&mut client, u64::MAX);
    assert!(reading.next_into(&mut piece).unwrap());
    assert_eq!(piece, b"a");
    drop(reading);
    ping(&mut client).unwrap();
    drop(client);
    fake.finish();
}

#[test]
fn more_bytes_than_were_asked_for_are_no_answer() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("guest-file-open");
        guest.send("{\"return\": 1000}\n");
        guest.expect("guest-file-read");
        guest.send("{\"return\": {\"count\": 3, \"buf-b64\": \"YWJj\", \"eof\": false}}\n");
        guest.wait_for_end();
    });
    let mut client = fake.client(ENOUGH);
    let file = readable(&mut client);
    let error = file.read_ahead(&mut client, 2).next_into(&mut Vec::new()).unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error}");
    drop(client);
    fake.finish();
}

#[test]
fn a_write_that_fails_under_way_is_told_by_a_later_one_or_at_the_end() {
    let fake = Fake::new(|mut guest| {
        guest.shake_hands();
        guest.expect("guest-file-open");
        guest.send("{\"return\": 1000}\n");
        guest.expect("guest-file-write");
        guest.send("{\"return\": {\"count\": 3, \"eof\": false}, \"id\": 0}\n");
        guest.expect("guest-file-write");
        guest.send("{\"id\": 1, \"error\": {\"class\": \"GenericError\", \"desc\": \"disk full\"}}\n");
        guest.wait_for_end();
    });
    let mut client = fake.client(ENOUGH);
    let file = GuestFile::open(&mut client, "/x", "w").unwrap();
    let mut writing = file.write_ahead(&mut client);
    writing.write(b"abc").unwrap();
    writing.write(b"def").unwrap();
    let error = writing.finish().unwrap_err();
    assert!(matches!(&error, Error::Failed { desc, .. } if desc == "disk full"), "{error}");
    drop(client);
    fake.finish();
}

#[test]
fn an_agent_that_complains_about_the_sentinel_gets_one_request_at_a_time() {
    let fake = Fake::new(|mut guest| {
        let id = guest.handshake();
        guest.send("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray '\\uFFFD'\"}}\n");
        guest.answer_handshake(id);
        guest.expect("guest-file-open");
        guest.send("{\"return\": 1000}\n");
        guest.expect("guest-file-read");
        assert!(guest.is_quiet(SHORT), "a second request before the answer to the first");
        guest.send("{\"return\": {\"count\": 1, \"buf-b64\": \"YQ==\", \"eof\": true}, \"id\": 0}\n");
        guest.wait_for_end();
    });
    let mut client = fake.client(ENOUGH);
    let file = readable(&mut client);
    let mut piece = Vec::new();
    let mut reading = file.read_ahead(&mut client, u64::MAX);
    assert!(reading.next_into(&mut piece).unwrap());
    assert_eq!(piece, b"a");
    drop(reading);
    drop(client);
    fake.finish();
}
