//! `guest-file-read`: reads from where the handle is.

use std::io::Write;

use qga_proto::command::Command;
use qga_proto::error::{Error, Result};
use qga_proto::types::file::{FileReadArgs, FileReadRet, GuestFileRead, READ_DEFAULT, READ_MAX};
use qga_proto::{base64, bind, json};

use crate::commands::{Context, Handler};

/// What the value takes besides the bytes: its members.
const AROUND: usize = 256;

impl Handler for GuestFileRead {
    /// (Nobody needs the bytes themselves: this reads what is sent.)
    fn run(cx: Context<'_>, args: FileReadArgs) -> Result<FileReadRet> {
        let mut text = Vec::new();
        Self::answer(cx, args, &mut text)?;
        bind::from_node(json::read(&text)?)
    }

    /// Encodes piece by piece, as the file is read: 40 MiB take the 53 MiB of their text, and not 93.
    fn answer(cx: Context<'_>, args: FileReadArgs, out: &mut Vec<u8>) -> Result<()> {
        cx.state.files.with(args.handle, Self::NAME, |file| {
            let count = wanted(args.count.unwrap_or(READ_DEFAULT), cx.reply_limit)?;
            // The count stands before the bytes. It is what the size of the file lets expect, and otherwise corrected.
            let expected = file.available(count);
            out.reserve_exact(expected.div_ceil(3) * 4 + 4 * AROUND);
            out.extend_from_slice(b"{\"count\": ");
            let start = out.len();
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{expected}");
            let end = out.len();
            out.extend_from_slice(b", \"buf-b64\": \"");
            let (got, eof) = file.read(count, |piece| base64::encode_into(out, piece))?;
            if got != expected {
                out.splice(start..end, got.to_string().into_bytes());
            }
            let _ = write!(out, "\", \"eof\": {eof}}}");
            Ok(())
        })
    }
}

/// How much is read: what was asked for, or less where the reply would not fit. Never nothing because of that: some
/// hosts take an empty answer for the end.
fn wanted(count: i64, reply_limit: Option<usize>) -> Result<usize> {
    let asked = usize::try_from(count)
        .ok()
        .filter(|_| count <= READ_MAX)
        .ok_or_else(|| Error::generic(format!("value '{count}' is invalid for argument count")))?;
    Ok(match reply_limit {
        Some(limit) => asked.min((limit.saturating_sub(AROUND) / 4 * 3).max(3)),
        None => asked,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use qga_proto::base64::Base64Bytes;

    use super::*;
    use crate::platform::linux::file::{OpenFile, OpenMode};
    use crate::state::State;

    #[test]
    fn what_is_sent_is_what_the_result_says_however_much_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::for_tests(dir.path());
        let path = dir.path().join("file");
        // Pieces and their borders, and files whose size says nothing.
        let sizes = [0, 1, 2, 3, 100, 196_607, 196_608, 196_609, 500_000];
        let files = sizes.map(|size| (path.clone(), Some(size))).into_iter().chain([
            ("/proc/self/status".into(), None),
            ("/proc/kallsyms".into(), None),
            ("/dev/zero".into(), None),
        ]);
        for (path, size) in files {
            if let Some(size) = size {
                fs::write(&path, (0..size).map(|n| (n % 251) as u8).collect::<Vec<_>>()).unwrap();
            }
            for count in [1, 4096, 196_608, 400_000] {
                let file = OpenFile::open(path.to_str().unwrap(), OpenMode::parse("r").unwrap(), "r").unwrap();
                state.files.insert(7, file);
                let cx = Context { state: &state, reply_limit: None };
                let mut text = Vec::new();
                let args = || FileReadArgs { handle: 7, count: Some(count) };
                GuestFileRead::answer(cx, args(), &mut text).unwrap();
                let told: FileReadRet = bind::from_node(json::read(&text).unwrap()).unwrap();
                let mut again = Vec::new();
                json::write(&mut again, &told);
                assert!(again == text, "{path:?} {count}: {}", String::from_utf8_lossy(&text[..60.min(text.len())]));
                let Base64Bytes(bytes) = told.buf;
                assert_eq!(bytes.len() as i64, told.count, "{path:?}");
                if let Some(size) = size {
                    assert_eq!(bytes, fs::read(&path).unwrap()[..size.min(count as usize)], "{path:?} {count}");
                    assert_eq!(told.eof, count as usize > size);
                }
                state.files.close(7).unwrap();
            }
        }
    }

    #[test]
    fn the_count_is_bounded_and_the_reply_fits() {
        for (count, limit, bytes) in [
            (0, None, 0),
            (4096, None, 4096),
            (50_331_648, None, 50_331_648),
            (4096, Some(1 << 20), 4096),
            (READ_MAX, Some(1 << 20), 786_240),
            (READ_MAX, Some(10), 3),
            (2, Some(0), 2),
            (0, Some(0), 0),
        ] {
            assert_eq!(wanted(count, limit), Ok(bytes), "{count} {limit:?}");
            assert!(limit.is_none_or(|limit| limit < 1000 || bytes.div_ceil(3) * 4 + AROUND <= limit));
        }
        for count in [-1, 50_331_649, i64::MIN, i64::MAX] {
            let desc = format!("value '{count}' is invalid for argument count");
            assert_eq!(wanted(count, None).unwrap_err().desc, desc);
        }
    }
}
