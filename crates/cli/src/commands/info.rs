//! `qga info`

use std::fmt::Write;

use clap::Args;
use qga_client::printable;
use qga_proto::command::Empty;
use qga_proto::types::core::{GuestAgentInfo, GuestInfo};

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::Table;

/// Show the agent's version and commands
#[derive(Debug, Args)]
pub(crate) struct Info {}

impl PerTarget for Info {
    const NAME: &'static str = "info";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        session.show::<GuestInfo>(Empty {}, text)
    }
}

/// The commands in order of their names.
fn text(mut info: GuestAgentInfo) -> String {
    info.supported_commands.sort_by(|a, b| a.name.cmp(&b.name));
    let off = info.supported_commands.iter().filter(|command| !command.enabled).count();
    let mut table = Table::new(&["COMMAND", "ENABLED", "ANSWERS"]);
    let count = info.supported_commands.len();
    for command in info.supported_commands {
        let answers = if command.success_response { "always" } else { "on failure" };
        table.row([(*command.name).into(), command.enabled.into(), answers.into()]);
    }

    // Writing to a string cannot fail.
    let mut out = String::new();
    let _ = writeln!(out, "version   {}", printable(&info.version));
    let _ = match off {
        0 => writeln!(out, "commands  {count}"),
        off => writeln!(out, "commands  {count}, {off} of them switched off"),
    };
    let _ = write!(out, "\n{table}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use qga_proto::types::core::GuestAgentCommandInfo;

    fn command(name: &'static str, enabled: bool, success_response: bool) -> GuestAgentCommandInfo {
        GuestAgentCommandInfo { enabled, name: name.into(), success_response }
    }

    #[test]
    fn the_table_is_sorted_and_aligned_and_harmless() {
        let info = GuestAgentInfo {
            version: "11.1.3\x1b[31m".into(),
            supported_commands: vec![
                command("guest-sync", true, true),
                command("guest-shutdown", false, false),
                command("guest-ping", true, true),
            ],
        };
        let expected = "\
version   11.1.3\\x1b[31m
commands  3, 1 of them switched off

COMMAND         ENABLED  ANSWERS
guest-ping      yes      always
guest-shutdown  no       on failure
guest-sync      yes      always
";
        assert_eq!(text(info), expected);
    }
}
