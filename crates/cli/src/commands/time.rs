//! `qga time`

use std::time::Duration;

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::time::{GuestGetTime, GuestSetTime, SetTimeArgs};
use serde_json::json;

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::units;

/// Show the guest's clock and how far it is from that of this host, or set it
#[derive(Debug, Args)]
pub(crate) struct Time {
    /// Set it to the time of this host
    #[arg(long, conflicts_with = "from_rtc")]
    set: bool,

    /// Set it to the time of the machine's hardware clock
    #[arg(long)]
    from_rtc: bool,
}

impl PerTarget for Time {
    const NAME: &'static str = "time";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let agent = session.agent()?;
        if self.set {
            agent.call::<GuestSetTime>(SetTimeArgs { time: Some(units::now()) })?;
        } else if self.from_rtc {
            agent.call::<GuestSetTime>(SetTimeArgs::default())?;
        }
        // The first answer has the handshake in it, which would count as a difference.
        agent.call::<GuestGetTime>(Empty {})?;
        let before = units::now();
        let guest = agent.call::<GuestGetTime>(Empty {})?;
        let after = units::now();
        let difference = ahead(guest, before, after);
        if session.is_json() {
            return Ok(Output::json(json!({ "time": guest, "ahead": difference })));
        }
        let difference = match difference {
            0 => "as this host, as far as can be told".to_owned(),
            1.. => format!("{} ahead of this host", duration(difference)),
            _ => format!("{} behind this host", duration(difference)),
        };
        Ok(Output::text(format!("{}, {difference}", units::moment(guest as f64 / 1e9))))
    }
}

/// How many nanoseconds the guest is ahead for certain, if it was asked at the one time and had answered at the other.
pub(super) fn ahead(guest: i64, before: i64, after: i64) -> i64 {
    if guest > after {
        guest.saturating_sub(after)
    } else if guest < before {
        guest.saturating_sub(before)
    } else {
        0
    }
}

/// To the millisecond while it is short, to the second otherwise.
pub(super) fn duration(nanoseconds: i64) -> String {
    let duration = Duration::from_nanos(nanoseconds.unsigned_abs());
    if duration < Duration::from_secs(60) {
        return format!("{:.3} s", duration.as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_answer_took_too_little_time_for_is_a_difference() {
        assert_eq!(ahead(150, 100, 200), 0);
        assert_eq!(ahead(260, 100, 200), 60);
        assert_eq!(ahead(40, 100, 200), -60);
        assert_eq!(ahead(i64::MIN, i64::MAX, i64::MAX), i64::MIN);
    }

    #[test]
    fn short_differences_are_exact() {
        assert_eq!(duration(-1_500_000_000), "1.500 s");
        assert_eq!(duration(3_661_000_000_000), "1h 1m 1s");
        assert!(!duration(i64::MIN).is_empty());
    }
}
