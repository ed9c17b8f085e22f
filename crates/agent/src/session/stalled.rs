//! A synchronisation inside a message that never ends.
//!
//! A host that is killed, or set back to an earlier state, in the middle of a request may be followed by one that the
//! port tells nothing of. The next thing that comes is then libvirt's `guest-sync`, which has no 0xFF before it: where
//! the request broke off behind a colon or a comma, the synchronisation is a proper part of it, and both would wait for
//! ever. So, when nothing has come for a grace and what came last is a whole synchronisation, it is taken for one.

use qga_proto::frame::{Frame, Framer, Limits};

use crate::dispatch;

/// Only this much of what came last is searched.
const WINDOW: usize = 1024;

/// Both forms begin so.
const NAME: &[u8] = b"guest-sync";

/// At most so many brackets are tried.
const TRIES: usize = 32;

fn window(unfinished: &[u8]) -> &[u8] {
    unfinished.get(unfinished.len().saturating_sub(WINDOW)..).unwrap_or_default()
}

/// Whether it is worth a second look if nothing more comes.
pub(super) fn is_possible(unfinished: &[u8]) -> bool {
    window(unfinished).windows(NAME.len()).any(|text| text == NAME)
}

/// The synchronisation that ends a message which is not complete, with what the host has sent behind it.
pub(super) fn find(unfinished: &[u8]) -> Option<Vec<u8>> {
    let window = window(unfinished);
    // The first byte is where the message itself begins, or belongs to something too long to search.
    let brackets = (1..window.len()).filter(|&at| window.get(at) == Some(&b'{')).take(TRIES);
    brackets.filter_map(|at| window.get(at..)).find(|tail| begins_with_a_sync(tail)).map(<[u8]>::to_vec)
}

/// Whether these are whole messages, and the first is a synchronisation.
fn begins_with_a_sync(bytes: &[u8]) -> bool {
    let mut framer = Framer::new(Limits::default());
    framer.push(bytes);
    let Some(Frame::Document(first)) = framer.next() else { return false };
    if !dispatch::prepare(&first).kind().is_sync() {
        return false;
    }
    while let Some(frame) = framer.next() {
        if !matches!(frame, Frame::Document(_)) {
            return false;
        }
    }
    framer.pending() == 0
}
