//! `guest-get-timezone`: name and offset of local time, as they are now.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::system::{GuestGetTimezone, GuestTimezone};

use crate::commands::{Context, Handler};
use crate::platform::linux::{clock, zone};

impl Handler for GuestGetTimezone {
    const NEEDS: &'static str = "/etc/localtime, for more than UTC";

    fn run(_: Context<'_>, _: Empty) -> Result<GuestTimezone> {
        let (offset, name) = zone::local_zone(clock::now().div_euclid(clock::SECOND));
        // A zone that cannot be made out is UTC, but has no name.
        let name = if name.is_empty() && offset == 0 { "UTC".to_owned() } else { name };
        Ok(GuestTimezone { zone: Some(name).filter(|name| !name.is_empty()), offset })
    }
}
