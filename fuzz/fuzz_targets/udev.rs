//! Any bytes are a record of udev's database: a property is the first line that sets it to something, whole, and
//! nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qemu_ga::platform::linux::udev::Properties;

/// Those that are asked for, and some that are the beginning or the end of others.
const KEYS: [&str; 7] = ["ID_SERIAL", "ID_SERIAL_SHORT", "DM_NAME", "ID", "SERIAL", "", "E:ID_SERIAL"];

/// The same, the slow way.
fn expected(record: &[u8], key: &str) -> Option<String> {
    let start = format!("E:{key}=").into_bytes();
    for line in record.split(|byte| *byte == b'\n') {
        if line.len() > start.len() && line[..start.len()] == start[..] {
            return Some(String::from_utf8_lossy(&line[start.len()..]).into_owned());
        }
    }
    None
}

fuzz_target!(|data: &[u8]| {
    let properties = Properties::parse(data.to_vec());
    // Every key that the record has, and those that the agent asks for.
    let own = data.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = std::str::from_utf8(line.strip_prefix(b"E:")?).ok()?;
        line.split_once('=').map(|(key, _)| key)
    });
    for key in own.chain(KEYS) {
        let value = properties.get(key);
        assert_eq!(value, expected(data, key));
        assert!(value.is_none_or(|value| !value.is_empty() && !value.contains('\n')));
    }

    // A record with one line more in front: that one counts, and the others are as before.
    let mut more = b"E:DM_NAME=in front\n".to_vec();
    more.extend(data);
    let more = Properties::parse(more);
    assert_eq!(more.get("DM_NAME").as_deref(), Some("in front"));
    assert_eq!(more.get("ID_SERIAL"), properties.get("ID_SERIAL"));
});
