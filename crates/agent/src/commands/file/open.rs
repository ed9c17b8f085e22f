//! `guest-file-open`: opens a file and gives it a handle.

use qga_proto::error::{Error, Result};
use qga_proto::types::file::{FileOpenArgs, GuestFileOpen};

use crate::commands::{Context, Handler};
use crate::platform::linux::file::{OpenFile, OpenMode};
use crate::state::State;

impl Handler for GuestFileOpen {
    /// A handle that nobody knows could never be closed.
    const UNDO: Option<fn(&State, &str)> = Some(|state, handle| {
        if let Some(Err(error)) = handle.parse().ok().map(|handle| state.files.close(handle)) {
            log::debug!("a file that nobody waits for any more: {error}");
        }
    });

    fn run(cx: Context<'_>, args: FileOpenArgs<'_>) -> Result<i64> {
        let path = args.path.as_ref();
        let name = args.mode.as_deref().unwrap_or("r");
        log::info!(target: "audit", "guest-file-open called, filepath: {path}, mode: {name}");
        let mode = OpenMode::parse(name).ok_or_else(|| Error::generic(format!("invalid file open mode '{name}'")))?;
        cx.state.files.check_room()?;
        let file = OpenFile::open(path, mode, name)?;
        // The number comes last: a host that only tries out what is there uses none up.
        let handle = match cx.state.persist.handles.next() {
            Ok(handle) => handle,
            Err(error) => {
                file.undo(path);
                return Err(error);
            }
        };
        cx.state.files.insert(handle, file);
        log::info!(target: "audit", "guest-file-open, handle: {handle}");
        Ok(handle)
    }
}
