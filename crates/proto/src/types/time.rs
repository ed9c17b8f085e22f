//! `guest-get-time`, `guest-set-time`.

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Tells the time: nanoseconds since 1970-01-01 00:00 UTC.
#[derive(Debug)]
pub struct GuestGetTime;

impl Command for GuestGetTime {
    const NAME: &'static str = "guest-get-time";
    const SINCE: &'static str = "1.5";
    type Args<'a> = Empty;
    type Ret = i64;
}

/// Sets the system clock, and the hardware clock where there is one.
#[derive(Debug)]
pub struct GuestSetTime;

impl Command for GuestSetTime {
    const NAME: &'static str = "guest-set-time";
    const SINCE: &'static str = "1.5";
    type Args<'a> = SetTimeArgs;
    type Ret = Empty;
}

/// Arguments of `guest-set-time`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetTimeArgs {
    /// Nanoseconds since 1970-01-01 00:00 UTC, up to the end of 2069. When absent the system clock is set from the
    /// hardware clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
}
