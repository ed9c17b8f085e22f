//! `guest-get-timezone`: name and offset of local time, as they are now.

use qga_proto::command::Empty;
use qga_proto::error::{Error, Result};
use qga_proto::types::system::{GuestGetTimezone, GuestTimezone};

use crate::commands::{Context, Handler};
use crate::platform::linux::{clock, ffi};

impl Handler for GuestGetTimezone {
    const NEEDS: &'static str = "/etc/localtime, for more than UTC";

    fn run(_: Context<'_>, _: Empty) -> Result<GuestTimezone> {
        let zone = ffi::local_zone(clock::now().div_euclid(clock::SECOND));
        let (offset, name) = zone.ok_or_else(|| Error::generic("Couldn't retrieve local timezone"))?;
        // A zone that the C library cannot make out is UTC to it, but has no name.
        let name = if name.is_empty() && offset == 0 { "UTC".to_owned() } else { name };
        Ok(GuestTimezone { zone: Some(name).filter(|name| !name.is_empty()), offset })
    }
}
