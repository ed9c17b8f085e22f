//! `qga load`

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::stats::{GuestGetLoad, GuestLoadAverage};

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;

/// Show the load averages of the last 1, 5 and 15 minutes
///
/// Agents before QEMU 10.0 cannot tell.
#[derive(Debug, Args)]
pub(crate) struct Load {}

impl PerTarget for Load {
    const NAME: &'static str = "load";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        session.show::<GuestGetLoad>(Empty {}, |GuestLoadAverage { load1m, load5m, load15m }| {
            format!("{load1m:.2} {load5m:.2} {load15m:.2}")
        })
    }
}
