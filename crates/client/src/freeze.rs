//! File systems of the guest, held still for a snapshot.

use qga_proto::command::Empty;
use qga_proto::types::fsfreeze::{
    FsfreezeFreezeListArgs, FsfreezeStatus, GuestFsfreezeFreeze, GuestFsfreezeFreezeList, GuestFsfreezeStatus,
    GuestFsfreezeThaw,
};

use crate::client::Client;
use crate::error::{Error, Layer};

/// Freezes all file systems, or those mounted at `mountpoints`, and returns how many those are.
///
/// When it is not certain whether the guest has frozen anything, because the answer did not come, a thaw is sent
/// before the error is returned: a guest left frozen is worse than a snapshot that was not made.
///
/// # Errors
/// Any [`Error`]; [`Error::Failed`] with the guest's words when a file system or a hook is in the way, in which case the
/// agent has thawed again.
pub fn freeze(agent: &mut Client, mountpoints: Option<&[String]>) -> Result<u64, Error> {
    let frozen = match mountpoints {
        None => agent.call::<GuestFsfreezeFreeze>(Empty {}),
        Some(list) => {
            agent.call::<GuestFsfreezeFreezeList>(FsfreezeFreezeListArgs { mountpoints: Some(list.to_vec()) })
        }
    };
    match frozen {
        Ok(count) => Ok(u64::try_from(count).unwrap_or(0)),
        Err(error) => {
            if matches!(error.layer(), Layer::Reply) || matches!(error, Error::Closed | Error::Broken(_)) {
                // Its own error would say less than the first one.
                let _ = thaw(agent);
            }
            Err(error)
        }
    }
}

/// Thaws everything that is frozen and returns how many file systems that were; 0 when there was nothing to thaw.
///
/// # Errors
/// Any [`Error`].
pub fn thaw(agent: &mut Client) -> Result<u64, Error> {
    agent.call::<GuestFsfreezeThaw>(Empty {}).map(|count| u64::try_from(count).unwrap_or(0))
}

/// Whether the agent has frozen file systems.
///
/// # Errors
/// Any [`Error`].
pub fn is_frozen(agent: &mut Client) -> Result<bool, Error> {
    agent.call::<GuestFsfreezeStatus>(Empty {}).map(|status| status == FsfreezeStatus::Frozen)
}
