//! `guest-file-read`: reads from where the handle is.

use qga_proto::base64::Base64Bytes;
use qga_proto::command::Command;
use qga_proto::error::{Error, Result};
use qga_proto::types::file::{FileReadArgs, FileReadRet, GuestFileRead, READ_DEFAULT, READ_MAX};

use crate::commands::{Context, Handler};

/// What the value takes besides the bytes: its members.
const AROUND: usize = 256;

impl Handler for GuestFileRead {
    fn run(cx: Context<'_>, args: FileReadArgs) -> Result<FileReadRet> {
        cx.state.files.with(args.handle, Self::NAME, |file| {
            let count = wanted(args.count.unwrap_or(READ_DEFAULT), cx.reply_limit)?;
            let (bytes, eof) = file.read(count)?;
            Ok(FileReadRet { count: bytes.len() as i64, buf: Base64Bytes(bytes), eof })
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
    use super::*;

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
