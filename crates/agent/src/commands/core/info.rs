//! `guest-info`.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::core::{GuestAgentCommandInfo, GuestAgentInfo, GuestInfo};

use crate::cli::QEMU_VERSION;
use crate::commands::{COMMANDS, Context, Handler, Lane};

impl Handler for GuestInfo {
    const LANE: Lane = Lane::Instant;
    const WHILE_FROZEN: bool = true;

    fn run(cx: Context<'_>, _: Empty) -> Result<GuestAgentInfo> {
        let frozen = cx.state.freeze.is_frozen();
        // The C agent lists them in the reverse order of the schema; some programs show them as they come.
        let supported_commands = COMMANDS
            .iter()
            .rev()
            .map(|entry| GuestAgentCommandInfo {
                enabled: cx.state.policy.permits(entry, frozen),
                name: entry.name.into(),
                success_response: entry.success_response,
            })
            .collect();
        Ok(GuestAgentInfo { version: QEMU_VERSION.to_owned(), supported_commands })
    }
}
