//! Seeds made from the recorded conversations of `crates/proto/tests/vectors`: what was once worth a look is where a
//! fuzzer begins.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::Result;
use crate::workspace;

/// Writes the seeds of a target into `directory` and returns it; those of most targets are under version control
/// instead, and then nothing is made.
pub(super) fn write(target: &str, directory: &Path) -> Result<PathBuf> {
    // The first byte says how the rest is cut and what else happens; see the target.
    let first: &[u8] = match target {
        "framer" => &[0x07, 0x7f, 0x81],
        "session" => &[0x07, 0x3f, 0x81, 0x41, 0xff],
        "reader" | "bind" => &[],
        _ => return Ok(directory.to_owned()),
    };
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for (number, mut seed) in conversations()?.into_iter().enumerate() {
        if let Some(byte) = first.get(number % first.len().max(1)) {
            seed.insert(0, *byte);
        }
        let file = directory.join(format!("vector-{number:03}"));
        fs::write(&file, seed).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(directory.to_owned())
}

/// What the host sends in each conversation, in the order of the files.
fn conversations() -> Result<Vec<Vec<u8>>> {
    let directory = workspace().join("crates/proto/tests/vectors");
    let complaint = |error: std::io::Error| format!("{}: {error}", directory.display());
    let entries = fs::read_dir(&directory).map_err(complaint)?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        all.extend(sent(&fs::read_to_string(&file).map_err(complaint)?));
    }
    Ok(all)
}

/// The bytes behind `>>` of each paragraph.
fn sent(text: &str) -> Vec<Vec<u8>> {
    let pieces = |paragraph: &str| -> Vec<u8> {
        let lines = paragraph.lines().filter_map(|line| line.strip_prefix(">>"));
        lines.flat_map(|line| unescape(line.strip_prefix(' ').unwrap_or(line))).collect()
    };
    text.split("\n\n").map(pieces).filter(|sent| !sent.is_empty()).collect()
}

/// `\n`, `\r`, `\t`, `\\` and `\xHH`.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend(rest[..at].bytes());
        rest = &rest[at + 1..];
        let hexadecimal = rest.strip_prefix('x').and_then(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok());
        let (byte, length) = match (hexadecimal, rest.bytes().next()) {
            (Some(byte), _) => (byte, 3),
            (None, Some(b'n')) => (b'\n', 1),
            (None, Some(b'r')) => (b'\r', 1),
            (None, Some(b't')) => (b'\t', 1),
            (None, Some(byte)) if byte.is_ascii() => (byte, 1),
            (None, _) => break,
        };
        out.push(byte);
        rest = &rest[length..];
    }
    out.extend(rest.bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_all_that_was_sent_in_one_conversation() {
        let text = "# heading\n>> {\\n\n<< {\"x\"}\n>> \\xff\\\\n}\n\n>>  a\\tb\n<<our c\n\n# nothing\n";
        assert_eq!(sent(text), [&b"{\n\xff\\n}"[..], b" a\tb"]);
    }

    #[test]
    fn the_recorded_conversations_are_small_and_many() {
        let all = conversations().unwrap();
        assert!(all.len() > 300, "{}", all.len());
        assert!(all.iter().map(Vec::len).sum::<usize>() < 100_000);
        assert!(all.contains(&b"\xff{\"execute\":\"guest-ping\"}".to_vec()));
    }
}
