//! A host that breaks off in the middle of a request and goes on with a synchronisation.

use super::*;

#[test]
fn a_plain_sync_that_became_a_part_of_half_a_request_is_answered_after_its_grace() {
    let whole = r#"{"execute":"guest-exec","arguments":{"path":"/nonexistent","arg":["a",["b"]]},"id":[1,{"a":2}]}"#;
    for cut in 1..whole.len() {
        for with_a_ping in [false, true] {
            let mut bench = Bench::new();
            bench.send(&whole[..cut]);
            // What comes with it is answered too.
            bench.send(&format!("{}\n{}", sync(5), if with_a_ping { PING } else { "" }));
            let mut got = bench.read();
            if got.is_empty() {
                bench.pass(SYNC_GRACE / 2);
                assert_eq!(bench.read(), "", "{cut}");
                bench.pass(SYNC_GRACE);
                got = bench.read();
            }
            let answer = if with_a_ping { "{\"return\": 5}\n{\"return\": {}}\n" } else { "{\"return\": 5}\n" };
            // Elsewhere the host is told at once that it is no JSON.
            assert!(got == answer || got.contains("JSON parse error"), "{cut}: {got}");
            assert_eq!(bench.session.deadline(), None);
            bench.send(&format!("\n{}\n", sync(6)));
            assert!(bench.read().ends_with("{\"return\": 6}\n"), "{cut}");
        }
    }
}

#[test]
fn a_request_that_comes_slowly_and_has_a_sync_in_it_is_not_taken_for_one() {
    let mut bench = Bench::new();
    for piece in [r#"{"execute":"guest-ping","id":["guest-sync","#, &sync(5), "]", "}"] {
        bench.send(piece);
        bench.pass(SYNC_GRACE / 2);
    }
    assert_eq!(
        bench.read(),
        "{\"return\": {}, \"id\": [\"guest-sync\", {\"execute\": \"guest-sync\", \"arguments\": {\"id\": 5}}]}\n"
    );
    // Half of one is none.
    bench.send(r#"{"execute":"guest-ping","id":[{"execute":"guest-sync","arguments":{"id":5}"#);
    bench.pass(SYNC_GRACE);
    assert_eq!(bench.session.deadline(), None);
    bench.send("}]}");
    assert!(bench.read().starts_with("{\"return\": {}, \"id\": ["));
}
