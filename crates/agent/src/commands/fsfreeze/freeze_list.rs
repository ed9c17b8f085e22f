//! `guest-fsfreeze-freeze-list`

use qga_proto::error::Result;
use qga_proto::types::fsfreeze::{FsfreezeFreezeListArgs, GuestFsfreezeFreezeList};

use crate::commands::{Context, Handler};
use crate::state::freeze::window;

impl Handler for GuestFsfreezeFreezeList {
    const NEEDS: &'static str = "CAP_SYS_ADMIN; a file system that can be frozen";

    fn run(cx: Context<'_>, args: FsfreezeFreezeListArgs) -> Result<i64> {
        log::info!(target: "audit", "guest-fsfreeze called");
        window::freeze(cx.state, args.mountpoints.as_deref())
    }
}
