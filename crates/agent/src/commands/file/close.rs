//! `guest-file-close`: closes a file. The handle is gone also when that fails.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::file::{FileHandleArgs, GuestFileClose};

use crate::commands::{Context, Handler};

impl Handler for GuestFileClose {
    fn run(cx: Context<'_>, args: FileHandleArgs) -> Result<Empty> {
        log::info!(target: "audit", "guest-file-close called, handle: {}", args.handle);
        cx.state.files.close(args.handle)?;
        Ok(Empty {})
    }
}
