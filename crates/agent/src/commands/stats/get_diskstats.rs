//! `guest-get-diskstats`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::stats::{GuestDiskStatsInfo, GuestGetDiskstats};

use crate::commands::{Context, Handler};
use crate::platform::linux::stats;

impl Handler for GuestGetDiskstats {
    const NEEDS: &'static str = "/proc/diskstats";

    fn run(cx: Context<'_>, _: Empty) -> Result<Vec<GuestDiskStatsInfo>> {
        stats::disks(&cx.state.root)
    }
}
