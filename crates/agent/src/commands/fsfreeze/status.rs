//! `guest-fsfreeze-status`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::fsfreeze::{FsfreezeStatus, GuestFsfreezeStatus};

use crate::commands::{Context, Handler, Lane};

impl Handler for GuestFsfreezeStatus {
    const LANE: Lane = Lane::Thaw;
    const WHILE_FROZEN: bool = true;

    fn run(cx: Context<'_>, _: Empty) -> Result<FsfreezeStatus> {
        cx.state.freeze.status()
    }
}
