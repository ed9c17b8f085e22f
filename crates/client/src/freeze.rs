//! File systems of the guest, held still for a snapshot.

use std::thread::sleep;
use std::time::Duration;

use qga_proto::command::Empty;
use qga_proto::types::fsfreeze::{
    FsfreezeFreezeListArgs, FsfreezeStatus, GuestFsfreezeFreeze, GuestFsfreezeFreezeList, GuestFsfreezeStatus,
    GuestFsfreezeThaw,
};

use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::{Error, Layer};
use crate::printable::printable;

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
            if is_uncertain(&error) {
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

/// How file systems that were frozen came to be thawed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thawed {
    /// By this request; how many the agent says it thawed.
    Now(u64),
    /// By this request or one before it whose answer was lost, so nobody knows how many.
    Uncounted,
    /// Before this request, and not at the wish of the one who asked: the agent's own limit was exceeded, the agent or
    /// the guest was started again, or another program thawed. What was done meanwhile did not see a frozen guest. Why, in
    /// words that are ready to be shown.
    Before(String),
    /// They are thawed, and the agent complains about something else, such as a hook: its words.
    WithComplaint(String),
}

/// The pause after the first attempt to thaw that failed; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// The longest pause between two attempts to thaw.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Thaws a guest that is known to be frozen, and does not give up before the deadline: when the connection is lost, or
/// nobody answers, it connects again and asks again.
///
/// `agent` is the connection, if there still is one; it is given up with the first thing that goes wrong on it, because
/// most channels serve one client at a time. `connect` makes another.
///
/// # Errors
/// The last [`Error`] when the deadline is over; then the guest may still be frozen.
pub fn thaw_for_certain(
    agent: &mut Option<Client>,
    mut connect: impl FnMut() -> Result<Client, Error>,
    deadline: Deadline,
) -> Result<Thawed, Error> {
    let mut pause = PAUSE_FIRST;
    // Whether a request went out that may have thawed although its answer did not come.
    let mut may_have_thawed = false;
    loop {
        let last = match attempt(agent, &mut connect, may_have_thawed) {
            Ok(thawed) => return Ok(thawed),
            Err(error) => error,
        };
        may_have_thawed |= is_uncertain(&last);
        *agent = None;
        if deadline.is_over() {
            return Err(last);
        }
        sleep(pause.min(deadline.left()));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One attempt to thaw.
fn attempt(
    agent: &mut Option<Client>,
    connect: &mut impl FnMut() -> Result<Client, Error>,
    may_have_thawed: bool,
) -> Result<Thawed, Error> {
    let agent = match agent {
        Some(agent) => agent,
        slot => slot.insert(connect()?),
    };
    let error = match thaw(agent) {
        Ok(0) if may_have_thawed => return Ok(Thawed::Uncounted),
        Ok(0) => return Ok(Thawed::Before("the agent had nothing to thaw".into())),
        Ok(count) => return Ok(Thawed::Now(count)),
        Err(error) => error,
    };
    // A thaw that is switched off cannot be asked for; while frozen, every agent allows it.
    let desc = match &error {
        Error::Failed { desc, .. } => printable(desc),
        Error::Blocked { .. } => error.to_string(),
        _ => return Err(error),
    };
    if is_exceeded(&desc) {
        return Ok(Thawed::Before(desc));
    }
    match is_frozen(agent) {
        Ok(false) if matches!(error, Error::Blocked { .. }) => Ok(Thawed::Before(desc)),
        Ok(false) => Ok(Thawed::WithComplaint(desc)),
        Ok(true) | Err(_) => Err(error),
    }
}

/// Whether an agent says by this that it had thawed before it was asked to. The first two are this project's agent's;
/// the third is what the C agent says on Windows, where writes are held for 10 seconds at the most.
fn is_exceeded(desc: &str) -> bool {
    desc.starts_with("file systems were thawed before this request")
        || desc.starts_with("the agent ended while file systems were frozen")
        || desc.contains("fsfreeze is limited")
}

/// Whether the agent may have carried out a request that ended like this.
fn is_uncertain(error: &Error) -> bool {
    matches!(error.layer(), Layer::Reply) || matches!(error, Error::Closed | Error::Broken(_))
}

#[cfg(test)]
mod tests;
