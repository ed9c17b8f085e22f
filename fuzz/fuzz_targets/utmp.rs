//! Any bytes are a file of sessions: there are no more than fit into it, their names are clean, and what is found is
//! found again when it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qemu_ga::platform::linux::utmp::{self, Session};

/// The smallest record that is known; that of a 64-bit PC.
const RECORD: usize = 384;
/// Bytes of a name.
const NAME: usize = 32;

fn record(pid: u32, session: &Session) -> Option<[u8; RECORD]> {
    let (seconds, microseconds) = (u32::try_from(session.seconds).ok()?, u32::try_from(session.microseconds).ok()?);
    let mut record = [0; RECORD];
    record[..2].copy_from_slice(&7u16.to_ne_bytes());
    record[4..8].copy_from_slice(&pid.to_ne_bytes());
    // What was no UTF-8 has become longer.
    record[44..76].get_mut(..session.user.len())?.copy_from_slice(session.user.as_bytes());
    record[340..344].copy_from_slice(&seconds.to_ne_bytes());
    record[344..348].copy_from_slice(&microseconds.to_ne_bytes());
    Some(record)
}

fuzz_target!(|data: &[u8]| {
    let found = utmp::parse(data);
    assert!(found.len() <= data.len() / RECORD);
    for (_, session) in &found {
        assert!(session.user.chars().count() <= NAME && !session.user.contains('\0'));
        assert!(session.seconds >= 0 && session.microseconds >= 0);
    }

    let (expected, records): (Vec<_>, Vec<_>) = found
        .into_iter()
        .filter_map(|(pid, session)| record(pid, &session).map(|record| ((pid, session), record)))
        .unzip();
    let mut content = records.concat();
    assert_eq!(utmp::parse(&content), expected);
    // A record of another kind behind it changes nothing.
    content.extend([0; RECORD]);
    assert_eq!(utmp::parse(&content), expected);
});
