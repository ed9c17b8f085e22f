//! Whatever comes from the host, resynchronisation works behind it.

use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;

use super::*;

/// Gates of these tests begin here; each case has one of its own.
static NEXT_GATE: AtomicI64 = AtomicI64::new(1_000_000);

/// One more than any number in the streams.
const ANSWER: i64 = 7_000_000;

/// What streams are made of.
#[derive(Debug, Clone)]
enum Piece {
    Bytes(Vec<u8>),
    /// A request that hangs until the gate is opened.
    Hangs,
    /// The beginning of one.
    Cut(Vec<u8>, prop::sample::Index),
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        Just(PING.to_owned()),
        Just(r#"{"execute":"guest-info","id":[{"a":null},1.5e3,"x"]}"#.to_owned()),
        Just(r#"{"execute":"guest-file-read","arguments":{"handle":5}}"#.to_owned()),
        Just(r#"{"execute":"guest-fsfreeze-status"}"#.to_owned()),
        Just(r#"{"execute":"test-panic"}"#.to_owned()),
        Just(r#"{"execute":"guest-nope","id":"\u00e9"}"#.to_owned()),
        Just(r#"{"execute":"guest-ping","arguments":[]}"#.to_owned()),
        (0..1000i64).prop_map(sync),
        (0..1000i64).prop_map(|id| resync(id)[1..].iter().map(|byte| char::from(*byte)).collect()),
        (0..100_000i64).prop_map(|size| format!(r#"{{"execute":"test-text","arguments":{{"id":{size}}}}}"#)),
    ];
    text.prop_map(String::into_bytes)
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        6 => request().prop_map(Piece::Bytes),
        2 => Just(Piece::Hangs),
        3 => (request(), any::<prop::sample::Index>()).prop_map(|(bytes, at)| Piece::Cut(bytes, at)),
        2 => Just(Piece::Bytes(b"\n".to_vec())),
        2 => Just(Piece::Bytes(b"\xff".to_vec())),
        1 => (0..1000i64).prop_map(|id| Piece::Bytes(resync(id))),
        1 => "[{}\\[\\]:,\"'\\\\ \n\t0-9a-z]{0,20}".prop_map(|text| Piece::Bytes(text.into_bytes())),
        2 => "[a-z]{1,6}|-?[0-9]{1,4}".prop_map(|word| Piece::Bytes(word.into_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Piece::Bytes),
        1 => (1..1100usize).prop_map(|depth| Piece::Bytes(vec![b'['; depth])),
    ]
}

fn streams() -> impl Strategy<Value = (Vec<Piece>, Vec<usize>)> {
    (prop::collection::vec(piece(), 0..12), prop::collection::vec(1..200usize, 1..8))
}

/// A bench that has got the whole stream, in writes of these sizes, and whose host has read all that came.
fn after(pieces: &[Piece], sizes: &[usize]) -> (Bench, Gates) {
    let gates = Gates(NEXT_GATE.fetch_add(1, Ordering::Relaxed));
    let bytes: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.clone(),
            Piece::Hangs => wait(gates.0).into_bytes(),
            Piece::Cut(bytes, at) => bytes[..at.index(bytes.len())].to_vec(),
        })
        .collect();
    let mut bench = Bench::new();
    let mut rest = &bytes[..];
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (write, then) = rest.split_at(rest.len().min(*size));
        bench.send_bytes(write);
        rest = then;
    }
    bench.host.clear();
    bench.read();
    (bench, gates)
}

/// Opens what hangs, also when the case fails.
struct Gates(i64);

impl Drop for Gates {
    fn drop(&mut self) {
        Gate::of(self.0).open();
    }
}

/// What hung comes back; the host must hear nothing of it, and all must be as it was.
fn nothing_follows(bench: &mut Bench, gates: Gates) -> Result<(), TestCaseError> {
    drop(gates);
    bench.settle(|bench| bench.executor.left_behind() == 0);
    prop_assert_eq!(bench.executor.left_behind(), 0);
    prop_assert_eq!(bench.read(), "");
    bench.send(r#"{"execute":"test-text","arguments":{"id":3}}"#);
    bench.settle(|bench| bench.session.is_idle() || bench.session.has_output());
    prop_assert_eq!(bench.read(), "{\"return\": \"xxx\"}\n");
    prop_assert!(bench.session.is_idle());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn after_any_stream_0xff_and_a_delimited_sync_are_answered_at_once_and_nothing_late_follows(
        (pieces, sizes) in streams(),
    ) {
        let (mut bench, gates) = after(&pieces, &sizes);
        bench.send_bytes(&resync(ANSWER));
        prop_assert_eq!(bench.read(), format!("^{{\"return\": {ANSWER}}}\n"));
        prop_assert!(bench.session.is_idle());
        nothing_follows(&mut bench, gates)?;
    }

    #[test]
    fn after_any_stream_the_second_line_with_a_plain_sync_is_answered_after_its_grace_and_nothing_late_follows(
        (pieces, sizes) in streams(),
    ) {
        let (mut bench, gates) = after(&pieces, &sizes);
        // The first may end up in the middle of a message that the stream left open: then it shows where that ends.
        bench.send(&format!("\n{}\n{}\n", sync(ANSWER), sync(ANSWER + 1)));
        let mut got = bench.read();
        // Each plain sync that waits has its grace.
        while bench.session.deadline().is_some() {
            bench.pass(SYNC_GRACE);
            got.push_str(&bench.read());
        }
        let last = format!("{{\"return\": {}}}\n", ANSWER + 1);
        prop_assert!(got.ends_with(&last), "{}", got);
        prop_assert_eq!(got.matches(&last).count(), 1);
        prop_assert!(bench.session.is_idle());
        nothing_follows(&mut bench, gates)?;
    }
}
