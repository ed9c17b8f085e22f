//! `guest-sync-delimited`. The byte 0xFF in front of its answer is put there by the dispatcher.

use qga_proto::error::Result;
use qga_proto::types::core::{GuestSyncDelimited, SyncArgs};

use crate::commands::{Context, Handler, Lane};

impl Handler for GuestSyncDelimited {
    const LANE: Lane = Lane::Instant;
    const WHILE_FROZEN: bool = true;

    fn run(_: Context<'_>, args: SyncArgs) -> Result<i64> {
        Ok(args.id)
    }
}
