//! `guest-file-write`: writes where the handle is.

use qga_proto::command::Command;
use qga_proto::error::Result;
use qga_proto::types::file::{FileWriteArgs, FileWriteRet, GuestFileWrite};

use crate::commands::{Context, Handler};

impl Handler for GuestFileWrite {
    fn run(cx: Context<'_>, args: FileWriteArgs<'_>) -> Result<FileWriteRet> {
        cx.state.files.with(args.handle, Self::NAME, |file| {
            let count = file.write(&args.buf_b64, args.count)?;
            Ok(FileWriteRet { count: i64::try_from(count).unwrap_or(i64::MAX), eof: false })
        })
    }
}
