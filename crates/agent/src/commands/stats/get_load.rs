//! `guest-get-load`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::stats::{GuestGetLoad, GuestLoadAverage};

use crate::commands::{Context, Handler};
use crate::platform::linux::stats;

impl Handler for GuestGetLoad {
    fn run(_: Context<'_>, _: Empty) -> Result<GuestLoadAverage> {
        Ok(stats::load())
    }
}
