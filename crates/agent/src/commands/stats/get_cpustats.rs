//! `guest-get-cpustats`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::stats::{GuestCpuStats, GuestGetCpustats};

use crate::commands::{Context, Handler};
use crate::platform::linux::stats;

impl Handler for GuestGetCpustats {
    const NEEDS: &'static str = "/proc/stat";

    fn run(cx: Context<'_>, _: Empty) -> Result<Vec<GuestCpuStats>> {
        stats::cpus(&cx.state.root)
    }
}
