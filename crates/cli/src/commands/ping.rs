//! `qga ping`

use std::time::Instant;

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::core::GuestPing;
use serde_json::json;

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;

/// Ask whether an agent is there, and how long it takes to answer
#[derive(Debug, Args)]
pub(crate) struct Ping {}

impl PerTarget for Ping {
    const NAME: &'static str = "ping";

    /// Asks twice: the first answer has the handshake in it, the second one is the time of one command.
    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let agent = session.agent()?;
        agent.call::<GuestPing>(Empty {})?;
        let start = Instant::now();
        agent.call::<GuestPing>(Empty {})?;
        let milliseconds = (start.elapsed().as_secs_f64() * 1e5).round() / 100.0;
        Ok(if session.is_json() {
            Output::json(json!({"alive": true, "milliseconds": milliseconds}))
        } else {
            Output::text(format!("the agent is there and answers in {milliseconds:.2} ms"))
        })
    }
}
