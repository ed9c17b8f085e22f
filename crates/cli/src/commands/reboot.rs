//! `qga reboot`

use clap::Args;

use super::PerTarget;
use super::shutdown::shut_down;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;

/// Restart the guest
///
/// The agent answers only when it cannot, as with shutdown.
#[derive(Debug, Args)]
pub(crate) struct Reboot {}

impl PerTarget for Reboot {
    const NAME: &'static str = "reboot";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        shut_down(session, "reboot")
    }
}
