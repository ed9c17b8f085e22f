//! `guest-fstrim`

use std::sync::Arc;
use std::time::Duration;

use qga_proto::error::Result;
use qga_proto::types::fsfreeze::{FstrimArgs, FstrimPath, FstrimRet, GuestFstrim};
use rustix::io::Errno;

use crate::commands::{Context, Handler};
use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::fsfreeze::{Hanging, OpenError};
use crate::platform::linux::fstrim::{self, Trimmed};
use crate::platform::linux::mountinfo::{self, FileSystem, Table};
use crate::platform::linux::root::Root;

impl Handler for GuestFstrim {
    const NEEDS: &'static str = "CAP_SYS_ADMIN; disks with discard";

    fn run(cx: Context<'_>, args: FstrimArgs) -> Result<FstrimRet> {
        log::info!(target: "audit", "guest-fstrim called");
        let _turn = cx.state.trimming.begin()?;
        trim_all(&cx.state.root, cx.state.system.hanging(), args.minimum.unwrap_or(0))
    }
}

/// How long opening one file system may take.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Trims one file system after the other in the order of the mount table; the result has the last one first.
///
/// # Errors
/// No mount table. Whatever fails for one file system stands in its own entry.
pub fn trim_all(root: &Root, hanging: &Hanging, minimum: i64) -> Result<FstrimRet> {
    let table = Arc::new(Table::read(root)?);
    let systems = table.file_systems(root);
    let mut paths: Vec<FstrimPath> =
        systems.iter().map(|system| trim(root, hanging, &table, system, minimum)).collect();
    paths.reverse();
    Ok(FstrimRet { paths })
}

fn trim(root: &Root, hanging: &Hanging, table: &Arc<Table>, system: &FileSystem, minimum: i64) -> FstrimPath {
    let failed = |point, error| FstrimPath { minimum: None, path: mountinfo::text(point), trimmed: None, error };
    let handle = match hanging.open_within(Some(OPEN_LIMIT), &|| false, root, table, system) {
        Ok(handle) => handle,
        Err(OpenError::Unreachable) => {
            return failed(
                system.point(),
                Some("failed to open: no path leads to it, other mounts cover its own".into()),
            );
        }
        Err(OpenError::TooLate) => {
            return failed(system.point(), Some("failed to open: a mount on the way does not answer".into()));
        }
        Err(OpenError::Failed { point, errno }) => {
            return failed(&point, Some(format!("failed to open: {}", errno.errno_text())));
        }
    };
    // A negative minimum is a huge one, as the C agent has it: the file system refuses it, or finds no such range.
    match fstrim::trim(&handle, minimum as u64) {
        Ok(Trimmed { minimum, trimmed }) => FstrimPath {
            minimum: Some(minimum as i64),
            path: mountinfo::text(handle.point()),
            trimmed: Some(trimmed as i64),
            error: None,
        },
        Err(Errno::OPNOTSUPP | Errno::NOTTY) => failed(handle.point(), Some("trim not supported".into())),
        Err(errno) => failed(handle.point(), Some(format!("failed to trim: {}", errno.errno_text()))),
    }
}
