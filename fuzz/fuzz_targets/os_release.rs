//! Any text is an os-release file: a value is one line, the last one of a key counts, and what is found is found again
//! when it is written as os-release(5) says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qemu_ga::platform::linux::os_release::OsRelease;

fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        if matches!(c, '$' | '\'' | '"' | '\\' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out + "\""
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let release = OsRelease::parse(&text);
    let found: Vec<(&str, &str)> = release.assignments().collect();
    assert!(found.len() <= text.lines().count());
    // What is added is less than the equals sign that is left out.
    assert!(found.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() <= text.len());
    for (key, value) in &found {
        assert!(!key.contains(['=', '\n']) && !key.starts_with('#') && *key == key.trim());
        assert!(!value.contains('\n'));
        let last = found.iter().rev().find(|(name, _)| name == key).map(|(_, value)| (*value).to_owned());
        assert_eq!(release.get(key), last);
    }
    assert_eq!(release.get("NO = SUCH KEY"), None);

    for quote in [quoted, |value: &str| format!("{} # comment", quoted(value))] {
        let written: String = found.iter().map(|(key, value)| format!("{key}={}\n", quote(value))).collect();
        assert_eq!(OsRelease::parse(&written), release);
    }
    // In single quotes nothing is special.
    let written: String = found
        .iter()
        .map(|(key, value)| {
            format!("  {key} = {}\r\n\n", if value.contains('\'') { quoted(value) } else { format!("'{value}'") })
        })
        .collect();
    assert_eq!(OsRelease::parse(&written), release);
});
