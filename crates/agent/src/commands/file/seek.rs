//! `guest-file-seek`: moves the position.

use qga_proto::command::Command;
use qga_proto::error::{Error, Result};
use qga_proto::types::file::{FileSeekArgs, FileSeekRet, GuestFileSeek, Whence};

use crate::commands::{Context, Handler};
use crate::platform::linux::file::Seek;

impl Handler for GuestFileSeek {
    fn run(cx: Context<'_>, args: FileSeekArgs) -> Result<FileSeekRet> {
        cx.state.files.with(args.handle, Self::NAME, |file| {
            let position = file.seek(match args.whence {
                Whence::Set => Seek::Start(args.offset),
                Whence::Cur => Seek::Current(args.offset),
                Whence::End => Seek::End(args.offset),
                Whence::Unknown(code) => return Err(Error::generic(format!("invalid whence code {code}"))),
            })?;
            Ok(FileSeekRet { position: i64::try_from(position).unwrap_or(i64::MAX), eof: false })
        })
    }
}
