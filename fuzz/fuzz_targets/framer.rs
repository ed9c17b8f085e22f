//! However the input is cut, the same comes out; and after 0xFF a request is understood.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qga_proto::frame::{Frame, Framer, Limits};

const REQUEST: &[u8] = br#"{"execute":"guest-sync-delimited","arguments":{"id":5}}"#;

fn drain(framer: &mut Framer, found: &mut Vec<Result<Vec<u8>, String>>) {
    while let Some(frame) = framer.next() {
        found.push(match frame {
            Frame::Document(document) => Ok(document.as_bytes().to_vec()),
            Frame::Resync => Err("resync".into()),
            Frame::Broken(error) => Err(error.desc.into_owned()),
        });
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, input)) = data.split_first() else { return };
    // Small limits are reached by small inputs.
    let limits = if first & 0x80 != 0 { Limits { depth: 6, tokens: 30, bytes: 80 } } else { Limits::default() };
    let size = usize::from(first & 0x7f).max(1);

    let mut whole = Vec::new();
    let mut framer = Framer::new(limits);
    framer.push(input);
    drain(&mut framer, &mut whole);

    let mut pieces = Vec::new();
    let mut framer = Framer::new(limits);
    for piece in input.chunks(size) {
        framer.push(piece);
        drain(&mut framer, &mut pieces);
    }
    assert_eq!(pieces, whole);

    framer.push(b"\xff");
    framer.push(REQUEST);
    drain(&mut framer, &mut pieces);
    assert_eq!(pieces.last().map(|found| found.as_deref()), Some(Ok(REQUEST)));
    assert_eq!(framer.pending(), 0);
});
