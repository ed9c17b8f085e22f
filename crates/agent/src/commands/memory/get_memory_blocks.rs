//! `guest-get-memory-blocks`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::memory::{GuestGetMemoryBlocks, GuestMemoryBlock};

use crate::commands::{Context, Handler};
use crate::platform::linux::memory;

impl Handler for GuestGetMemoryBlocks {
    const NEEDS: &'static str = "a kernel with memory hotplug; without one the list is empty";

    fn run(cx: Context<'_>, _: Empty) -> Result<Vec<GuestMemoryBlock>> {
        let describe = |block: memory::Block| GuestMemoryBlock {
            phys_index: block.index,
            online: block.online,
            can_offline: Some(block.can_offline),
        };
        Ok(memory::all(&cx.state.root)?.into_iter().map(describe).collect())
    }
}
