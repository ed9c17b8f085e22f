//! `qga shutdown`

use clap::Args;
use qga_proto::types::power::{GuestShutdown, ShutdownArgs};
use serde_json::json;

use super::PerTarget;
use super::call::SENT;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;

/// Shut the guest down and turn the machine off
///
/// The agent answers only when it cannot: after 5 seconds without a complaint the guest counts as going down. Its end
/// is not waited for.
#[derive(Debug, Args)]
pub(crate) struct Shutdown {
    /// Leave the machine on after the guest has ended
    #[arg(long)]
    halt: bool,
}

impl PerTarget for Shutdown {
    const NAME: &'static str = "shutdown";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        shut_down(session, if self.halt { "halt" } else { "powerdown" })
    }
}

/// Asks for a shutdown of one of the three kinds.
pub(super) fn shut_down(session: &mut Session<'_>, mode: &str) -> Result<Output, Failure> {
    session.agent()?.call::<GuestShutdown>(ShutdownArgs { mode: Some(mode.into()) })?;
    Ok(if session.is_json() { Output::json(json!({})) } else { Output::text("").with_note(SENT) })
}
