//! Checking, decoding at once and in pieces agree; encoding what was decoded gives it back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qga_proto::base64::{Decoder, check, decode, encode_into};

fn in_pieces(text: &str, size: usize) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(text);
    let mut buf = vec![0; size];
    let mut out = Vec::new();
    loop {
        match decoder.next_piece(&mut buf) {
            Ok(0) => return Some(out),
            Ok(count) => out.extend_from_slice(&buf[..count]),
            Err(_) => return None,
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else { return };
    let size = usize::from(size).max(1);

    let mut encoded = Vec::new();
    encode_into(&mut encoded, data);
    let encoded = String::from_utf8(encoded).expect("ASCII");
    assert_eq!(decode(&encoded).as_deref(), Ok(data));

    let Ok(text) = std::str::from_utf8(data) else { return };
    let whole = decode(text);
    assert_eq!(check(text), whole.as_ref().map(Vec::len).map_err(Clone::clone));
    assert_eq!(in_pieces(text, size), whole.ok());
});
