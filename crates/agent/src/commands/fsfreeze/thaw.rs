//! `guest-fsfreeze-thaw`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::fsfreeze::GuestFsfreezeThaw;

use crate::commands::{Context, Handler, Lane};

impl Handler for GuestFsfreezeThaw {
    const LANE: Lane = Lane::Thaw;
    const WHILE_FROZEN: bool = true;
    const NEEDS: &'static str = "CAP_SYS_ADMIN";

    fn run(cx: Context<'_>, _: Empty) -> Result<i64> {
        let thawed = cx.state.freeze.thaw(&*cx.state.system);
        // Not earlier: the log may lie on a frozen file system.
        log::info!(target: "audit", "guest-fsthaw called");
        thawed
    }
}
