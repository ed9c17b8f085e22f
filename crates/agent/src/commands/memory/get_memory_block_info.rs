//! `guest-get-memory-block-info`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::memory::{GuestGetMemoryBlockInfo, GuestMemoryBlockInfo};

use crate::commands::{Context, Handler};
use crate::platform::linux::memory;

impl Handler for GuestGetMemoryBlockInfo {
    const NEEDS: &'static str = "a kernel with memory hotplug";

    fn run(cx: Context<'_>, _: Empty) -> Result<GuestMemoryBlockInfo> {
        Ok(GuestMemoryBlockInfo { size: memory::block_size(&cx.state.root)? })
    }
}
