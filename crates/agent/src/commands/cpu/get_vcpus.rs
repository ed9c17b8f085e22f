//! `guest-get-vcpus`

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::cpu::{GuestGetVcpus, GuestLogicalProcessor};

use crate::commands::{Context, Handler};
use crate::platform::linux::cpu;

impl Handler for GuestGetVcpus {
    const NEEDS: &'static str = "/sys/devices/system/cpu";

    fn run(cx: Context<'_>, _: Empty) -> Result<Vec<GuestLogicalProcessor>> {
        let describe = |cpu: cpu::Cpu| GuestLogicalProcessor {
            logical_id: cpu.id,
            online: cpu.online,
            can_offline: Some(cpu.can_offline),
        };
        Ok(cpu::all(&cx.state.root)?.into_iter().map(describe).collect())
    }
}
