//! Any packet is a message between agent and guardian or is none; one that is is written again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qemu_ga::guardian::message::{Message, SIZE};

fuzz_target!(|data: &[u8]| {
    // A packet is received into that much.
    let data = &data[..data.len().min(SIZE)];
    let Some(message) = Message::read(data) else { return };
    let mut written = Vec::with_capacity(SIZE);
    let room = written.capacity();
    message.write(&mut written);
    assert!(written.len() <= data.len() && written.capacity() == room);
    assert_eq!(Message::read(&written), Some(message));
    let mut again = written.clone();
    message.write(&mut again);
    assert_eq!(again, written);
    // Cut short it is none, or says so by a shorter name; never something of another kind.
    for end in 0..written.len() {
        if let Some(shorter) = Message::read(&written[..end]) {
            assert_eq!(std::mem::discriminant(&shorter), std::mem::discriminant(&message));
            assert!(matches!(
                shorter,
                Message::Setup { .. } | Message::Hook(_) | Message::HookDone(_) | Message::Hold { .. }
            ));
        }
    }
});
