//! `qga info`

use std::fmt::Write;

use qga_client::printable;
use qga_proto::command::Empty;
use qga_proto::types::core::{GuestAgentInfo, GuestInfo};
use serde_json::Value;

use super::{Outcome, connect};
use crate::cli::Cli;
use crate::exit::Failure;
use crate::json;

/// Shows version and commands; as JSON, exactly what the agent said.
pub(crate) fn run(cli: &Cli) -> Result<Outcome, Failure> {
    let mut agent = connect(cli)?;
    if cli.json {
        return Ok(Outcome::line(json::compact(&agent.call_raw("guest-info", Value::Null)?)));
    }
    Ok(Outcome { text: table(agent.call::<GuestInfo>(Empty {})?), note: None })
}

/// The table for people, commands in order of their names.
fn table(mut info: GuestAgentInfo) -> String {
    info.supported_commands.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<String> = info.supported_commands.iter().map(|command| printable(&command.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default().max("command".len());
    let off = info.supported_commands.iter().filter(|command| !command.enabled).count();

    // Writing to a string cannot fail.
    let mut out = String::new();
    let _ = writeln!(out, "version   {}", printable(&info.version));
    let _ = match off {
        0 => writeln!(out, "commands  {}", names.len()),
        off => writeln!(out, "commands  {}, {off} of them switched off", names.len()),
    };
    let _ = writeln!(out, "\n{:width$}  enabled  answers", "command");
    for (command, name) in info.supported_commands.iter().zip(&names) {
        let enabled = if command.enabled { "yes" } else { "no" };
        let answers = if command.success_response { "always" } else { "on failure" };
        let _ = writeln!(out, "{name:width$}  {enabled:7}  {answers}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use qga_proto::types::core::GuestAgentCommandInfo;

    fn command(name: &str, enabled: bool, success_response: bool) -> GuestAgentCommandInfo {
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

command         enabled  answers
guest-ping      yes      always
guest-shutdown  no       on failure
guest-sync      yes      always
";
        assert_eq!(table(info), expected);
    }
}
