//! `qga thaw`, and `qga freeze --status`

use clap::Args;
use qga_client::freeze::is_frozen;
use qga_proto::command::Empty;
use qga_proto::types::fsfreeze::GuestFsfreezeThaw;
use serde_json::json;

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;

/// Thaw all file systems that the agent has frozen
///
/// An agent whose own limit was exceeded says so by an error, once: the file systems are thawed then.
#[derive(Debug, Args)]
pub(crate) struct Thaw {}

impl PerTarget for Thaw {
    const NAME: &'static str = "thaw";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        session.show::<GuestFsfreezeThaw>(Empty {}, |count| match count {
            0 => "nothing was frozen".to_owned(),
            1 => "1 file system is thawed".to_owned(),
            _ => format!("{count} file systems are thawed"),
        })
    }
}

/// Shows whether the agent has frozen file systems.
#[derive(Debug, Args)]
pub(crate) struct Status {}

impl PerTarget for Status {
    const NAME: &'static str = "freeze --status";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let frozen = is_frozen(session.agent()?)?;
        Ok(if session.is_json() {
            Output::json(json!({ "frozen": frozen }))
        } else {
            Output::text(if frozen { "frozen" } else { "thawed" })
        })
    }
}
