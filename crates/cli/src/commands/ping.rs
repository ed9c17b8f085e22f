//! `qga ping`

use std::time::Instant;

use qga_proto::command::Empty;
use qga_proto::types::core::GuestPing;
use serde_json::json;

use super::{Outcome, connect};
use crate::cli::Cli;
use crate::exit::Failure;
use crate::json;

/// Asks twice: the first answer has the handshake in it, the second one is the time of one command.
pub(crate) fn run(cli: &Cli) -> Result<Outcome, Failure> {
    let mut agent = connect(cli)?;
    agent.call::<GuestPing>(Empty {})?;
    let start = Instant::now();
    agent.call::<GuestPing>(Empty {})?;
    let milliseconds = (start.elapsed().as_secs_f64() * 1e5).round() / 100.0;
    Ok(Outcome::line(if cli.json {
        json::compact(&json!({"alive": true, "milliseconds": milliseconds}))
    } else {
        format!("the agent is there and answers in {milliseconds:.2} ms")
    }))
}
