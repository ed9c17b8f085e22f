//! `guest-get-time`: the system clock.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::time::GuestGetTime;

use crate::commands::{Context, Handler};
use crate::platform::linux::clock;

impl Handler for GuestGetTime {
    fn run(_: Context<'_>, _: Empty) -> Result<i64> {
        Ok(clock::now())
    }
}
