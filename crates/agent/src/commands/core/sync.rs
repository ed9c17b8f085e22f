//! `guest-sync`.

use qga_proto::error::Result;
use qga_proto::types::core::{GuestSync, SyncArgs};

use crate::commands::{Context, Handler, Lane};

impl Handler for GuestSync {
    const LANE: Lane = Lane::Instant;
    const WHILE_FROZEN: bool = true;

    fn run(_: Context<'_>, args: SyncArgs) -> Result<i64> {
        Ok(args.id)
    }
}
