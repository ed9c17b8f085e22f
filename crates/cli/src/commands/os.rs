//! `qga os`

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::system::{GuestGetHostName, GuestGetOsinfo, GuestGetTimezone, GuestTimezone};
use serde_json::Value;

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::Table;

/// Show the guest's operating system, kernel, host name and time zone
#[derive(Debug, Args)]
pub(crate) struct Os {}

impl PerTarget for Os {
    const NAME: &'static str = "os";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let mut all = session.agent()?.call_value::<GuestGetOsinfo>(Empty {})?;
        let host_name = session.ask_if_known::<GuestGetHostName>(Empty {})?;
        let timezone = session.ask_if_known::<GuestGetTimezone>(Empty {})?;
        if let Value::Object(members) = &mut all {
            members.insert("host-name".into(), host_name["host-name"].clone());
            members.insert("timezone".into(), timezone);
        }
        Ok(if session.is_json() { Output::json(all) } else { Output::text(text(&all)) })
    }
}

/// What there is of it, the most asked for first.
fn text(all: &Value) -> String {
    let member = |name: &str| all.get(name).and_then(Value::as_str).map(str::to_owned);
    let kernel = [member("kernel-release"), member("kernel-version")].into_iter().flatten().collect::<Vec<_>>();
    let system = member("pretty-name").or_else(|| member("name"));
    let variant = member("variant").or_else(|| member("variant-id"));
    let rows = [
        ("host name", member("host-name")),
        ("system", system),
        ("variant", variant),
        ("id", member("id")),
        ("version", member("version-id").or_else(|| member("version"))),
        ("kernel", Some(kernel.join(" ")).filter(|kernel| !kernel.is_empty())),
        ("machine", member("machine")),
        ("time zone", serde_json::from_value(all["timezone"].clone()).ok().map(|zone| timezone(&zone))),
    ];
    Table::list(rows.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)))).to_string()
}

/// Its name, if it has one, and how far it is from UTC.
fn timezone(zone: &GuestTimezone) -> String {
    let minutes = zone.offset.unsigned_abs() / 60;
    let sign = if zone.offset < 0 { '-' } else { '+' };
    let offset = format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    match &zone.zone {
        Some(name) => format!("{name} ({offset})"),
        None => offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_guest_does_not_tell_is_left_out() {
        let all = json!({
            "pretty-name": "Debian GNU/Linux 13 (trixie)", "id": "debian", "version-id": "13", "version": "13 (trixie)",
            "kernel-release": "6.12.1", "kernel-version": "#1 SMP", "machine": "x86_64",
            "host-name": "vm\u{1b}1", "timezone": {"zone": "CET", "offset": 3600},
        });
        let expected = "\
host name  vm\\x1b1
system     Debian GNU/Linux 13 (trixie)
id         debian
version    13
kernel     6.12.1 #1 SMP
machine    x86_64
time zone  CET (UTC+01:00)
";
        assert_eq!(text(&all), expected);
        assert_eq!(text(&json!({"name": "X", "timezone": {"offset": -12600}})), "system     X\ntime zone  UTC-03:30\n");
    }
}
