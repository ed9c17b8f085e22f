//! `guest-suspend-ram`: suspends to memory.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::power::GuestSuspendRam;

use crate::commands::{Context, Handler};
use crate::platform::linux::sleep::{self, Mode};

impl Handler for GuestSuspendRam {
    const NEEDS: &'static str = "root; firmware with ACPI S3";

    fn run(cx: Context<'_>, _: Empty) -> Result<Empty> {
        log::info!(target: "audit", "guest-suspend-ram called");
        sleep::suspend(&cx.state.root, Mode::Ram)?;
        Ok(Empty {})
    }
}
