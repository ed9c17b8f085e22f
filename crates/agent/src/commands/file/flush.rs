//! `guest-file-flush`: kept for those who call it, as every write goes to the kernel at once.

use qga_proto::command::{Command, Empty};
use qga_proto::error::Result;
use qga_proto::types::file::{FileHandleArgs, GuestFileFlush};

use crate::commands::{Context, Handler};

impl Handler for GuestFileFlush {
    fn run(cx: Context<'_>, args: FileHandleArgs) -> Result<Empty> {
        cx.state.files.with(args.handle, Self::NAME, |file| file.flush())?;
        Ok(Empty {})
    }
}
