//! `guest-suspend-disk`: suspends to disk.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::power::GuestSuspendDisk;

use crate::commands::{Context, Handler};
use crate::platform::linux::sleep::{self, Mode};

impl Handler for GuestSuspendDisk {
    const NEEDS: &'static str = "root; a kernel that can hibernate and swap space for the image";

    fn run(cx: Context<'_>, _: Empty) -> Result<Empty> {
        log::info!(target: "audit", "guest-suspend-disk called");
        sleep::suspend(&cx.state.root, Mode::Disk)?;
        Ok(Empty {})
    }
}
