//! `guest-get-osinfo`: kernel and distribution.

use std::path::PathBuf;

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::system::{GuestGetOsinfo, GuestOsInfo};
use rustix::system::uname;

use crate::commands::{Context, Handler};
use crate::platform::linux::os_release::OsRelease;

/// Names a file to be read instead of the system's.
const OVERRIDE: &str = "QGA_OS_RELEASE";

impl Handler for GuestGetOsinfo {
    const NEEDS: &'static str = "os-release, for more than the kernel";

    fn run(cx: Context<'_>, _: Empty) -> Result<GuestOsInfo> {
        let kernel = uname();
        let text = |text: &std::ffi::CStr| Some(text.to_string_lossy().into_owned());
        let instead = std::env::var_os(OVERRIDE).map(PathBuf::from);
        let release = OsRelease::read(&cx.state.root, instead.as_deref());
        Ok(GuestOsInfo {
            kernel_release: text(kernel.release()),
            kernel_version: text(kernel.version()),
            machine: text(kernel.machine()),
            id: release.get("ID"),
            name: release.get("NAME"),
            pretty_name: release.get("PRETTY_NAME"),
            version: release.get("VERSION"),
            version_id: release.get("VERSION_ID"),
            variant: release.get("VARIANT"),
            variant_id: release.get("VARIANT_ID"),
        })
    }
}
