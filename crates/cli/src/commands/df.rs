//! `qga df`

use clap::Args;
use qga_proto::command::Empty;
use qga_proto::types::storage::{GuestFilesystemInfo, GuestGetFsinfo};

use super::PerTarget;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::table::{Field, Table};
use crate::units;

/// Show the mounted file systems and how full they are
///
/// Sizes are those an ordinary user of the guest sees. Agents before QEMU 3.0 tell none.
#[derive(Debug, Args)]
pub(crate) struct Df {}

impl PerTarget for Df {
    const NAME: &'static str = "df";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        session.show::<GuestGetFsinfo>(Empty {}, text)
    }
}

fn text(mut mounts: Vec<GuestFilesystemInfo>) -> String {
    mounts.sort_by(|a, b| a.mountpoint.cmp(&b.mountpoint));
    let mut table = Table::new(&["FILESYSTEM", "TYPE", ">SIZE", ">USED", ">FREE", ">USE%", "MOUNTED ON"]);
    for mount in mounts {
        let (total, used) = (mount.total_bytes, mount.used_bytes);
        let free = total.zip(used).map(|(total, used)| units::bytes(total.saturating_sub(used)));
        let percent = total.zip(used).and_then(|(total, used)| percent(total, used));
        table.row([
            mount.name.into(),
            mount.fs_type.into(),
            total.map(units::bytes).into(),
            used.map(units::bytes).into(),
            free.into(),
            Field::from(percent.map(|percent| format!("{percent}%")))
                .coloured(percent >= Some(80), percent >= Some(95)),
            mount.mountpoint.into(),
        ]);
    }
    table.to_string()
}

/// Rounded up, as df does.
fn percent(total: u64, used: u64) -> Option<u128> {
    (total > 0).then(|| (u128::from(used) * 100).div_ceil(u128::from(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(mountpoint: &str, total_bytes: Option<u64>, used_bytes: Option<u64>) -> GuestFilesystemInfo {
        GuestFilesystemInfo {
            name: "vda1".into(),
            total_bytes,
            total_bytes_privileged: None,
            mountpoint: mountpoint.into(),
            disk: Vec::new(),
            used_bytes,
            fs_type: "ext4".into(),
        }
    }

    #[test]
    fn sizes_have_units_and_what_is_unknown_a_dash() {
        let mounts = vec![
            mount("/srv", None, None),
            mount("/", Some(10 << 30), Some(9 << 30)),
            mount("/empty", Some(0), Some(0)),
            mount("/odd", Some(u64::MAX), Some(u64::MAX)),
        ];
        let expected = "\
FILESYSTEM  TYPE      SIZE      USED     FREE  USE%  MOUNTED ON
vda1        ext4  10.0 GiB   9.0 GiB  1.0 GiB   90%  /
vda1        ext4       0 B       0 B      0 B     -  /empty
vda1        ext4  16.0 EiB  16.0 EiB      0 B  100%  /odd
vda1        ext4         -         -        -     -  /srv
";
        assert_eq!(text(mounts), expected);
    }
}
