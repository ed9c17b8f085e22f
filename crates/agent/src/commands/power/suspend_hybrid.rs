//! `guest-suspend-hybrid`: suspends to both disk and memory.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::power::GuestSuspendHybrid;

use crate::commands::{Context, Handler};
use crate::platform::linux::sleep::{self, Mode};

impl Handler for GuestSuspendHybrid {
    const NEEDS: &'static str = "root; as suspend-disk, and ACPI S3";

    fn run(cx: Context<'_>, _: Empty) -> Result<Empty> {
        log::info!(target: "audit", "guest-suspend-hybrid called");
        sleep::suspend(&cx.state.root, Mode::Hybrid)?;
        Ok(Empty {})
    }
}
