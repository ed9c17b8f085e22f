//! `qga suspend`

use clap::{Args, ValueEnum};
use qga_proto::command::Empty;
use qga_proto::types::power::{GuestSuspendDisk, GuestSuspendHybrid, GuestSuspendRam};
use serde_json::json;

use super::PerTarget;
use super::call::SENT;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;

/// Put the guest to sleep
///
/// The agent answers only when it cannot, as with shutdown. The host wakes a guest up that sleeps in memory, with
/// 'virsh dompmwakeup' or the monitor's system_wakeup.
#[derive(Debug, Args)]
pub(crate) struct Suspend {
    /// Where its memory stays meanwhile
    #[arg(value_enum, default_value = "ram")]
    to: Place,
}

/// Where a sleeping guest's memory stays.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Place {
    /// In memory: the machine stays on
    Ram,
    /// On the guest's disk: the machine turns off
    Disk,
    /// In memory, and on the disk in case that the memory gets lost
    Hybrid,
}

impl PerTarget for Suspend {
    const NAME: &'static str = "suspend";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let agent = session.agent()?;
        match self.to {
            Place::Ram => agent.call::<GuestSuspendRam>(Empty {})?,
            Place::Disk => agent.call::<GuestSuspendDisk>(Empty {})?,
            Place::Hybrid => agent.call::<GuestSuspendHybrid>(Empty {})?,
        };
        Ok(if session.is_json() { Output::json(json!({})) } else { Output::text("").with_note(SENT) })
    }
}
