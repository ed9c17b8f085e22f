//! `guest-fsfreeze-freeze`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::fsfreeze::GuestFsfreezeFreeze;

use crate::commands::{Context, Handler};
use crate::state::freeze::window;

impl Handler for GuestFsfreezeFreeze {
    const NEEDS: &'static str = "CAP_SYS_ADMIN; a file system that can be frozen";

    fn run(cx: Context<'_>, _: Empty) -> Result<i64> {
        log::info!(target: "audit", "guest-fsfreeze called");
        window::freeze(cx.state, None)
    }
}
