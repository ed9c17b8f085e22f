//! `guest-get-host-name`: the kernel's name for this machine.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::system::{GuestGetHostName, GuestHostName};
use rustix::system::uname;

use crate::commands::{Context, Handler};

impl Handler for GuestGetHostName {
    fn run(_: Context<'_>, _: Empty) -> Result<GuestHostName> {
        // uname(2) has room for all 64 characters that a name can have.
        Ok(GuestHostName { host_name: uname().nodename().to_string_lossy().into_owned() })
    }
}
