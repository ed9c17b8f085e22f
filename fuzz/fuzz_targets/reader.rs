//! What is read and written is read again as the same.
#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use qga_proto::{envelope, json};

fuzz_target!(|data: &[u8]| {
    let Ok(node) = json::read(data) else { return };
    let mut out = Vec::new();
    json::write_node(&mut out, &node);
    assert!(out.iter().all(|b| (0x20..0x7f).contains(b)));
    assert_eq!(json::read(&out).as_ref(), Ok(&node));

    let (id, error) = match envelope::parse(node) {
        Ok(request) => (request.id, None),
        Err(rejected) => (rejected.id, Some(rejected.error)),
    };
    let mut line = Vec::new();
    match error {
        None => {
            let Ok(()) = envelope::success(&mut line, id.as_ref(), |line| {
                line.extend_from_slice(b"{}");
                Ok::<(), Infallible>(())
            });
        }
        Some(error) => envelope::failure(&mut line, &error, id.as_ref()),
    }
    let reply = json::read(&line).expect("a reply is JSON");
    assert_eq!(reply.member("id"), id.as_ref());
});
