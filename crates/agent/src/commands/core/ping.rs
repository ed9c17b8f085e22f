//! `guest-ping`.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::core::GuestPing;

use crate::commands::{Context, Handler, Lane};

impl Handler for GuestPing {
    const LANE: Lane = Lane::Instant;
    const WHILE_FROZEN: bool = true;

    fn run(_: Context<'_>, _: Empty) -> Result<Empty> {
        Ok(Empty {})
    }
}
