//! The time for which file systems may stay frozen: what happens when it is over before the host has thawed, and when
//! an agent starts while they are frozen.

use std::sync::Arc;
use std::thread;

use qga_proto::Error;
use qga_proto::error::Result;

use super::{Freeze, Operation, System, World};
use crate::guardian::{Client, Ending, Reason, TakeOver};
use crate::platform::linux::errno::ErrnoText;
use crate::state::State;

/// How long the end of the window may wait for an operation that is going on; each has limits of its own.
const TURN: std::time::Duration = std::time::Duration::from_secs(3600);

/// Freezes, and keeps the window: what the handlers call.
///
/// # Errors
/// Those of [`Freeze::freeze`], or that there is no thread to watch the time; then everything is thawed again.
pub fn freeze(state: &State, only: Option<&[String]>) -> Result<i64> {
    let count = state.freeze.freeze(&*state.system, only)?;
    if count > 0 {
        if let Err(e) = watch(&state.freeze, &state.system) {
            // What cannot be thawed now is the guardian's.
            if let Err(e) = state.freeze.thaw(&*state.system) {
                log::error!("{e}");
            }
            return Err(e);
        }
    }
    Ok(count)
}

/// Waits on a thread for the guardian to say that it has thawed, while file systems are frozen. To be called after a
/// freeze, and after [`on_start`] once the process has its final shape.
///
/// # Errors
/// There is no thread.
pub fn watch(freeze: &Arc<Freeze>, system: &Arc<System>) -> Result<()> {
    let Some(client) = system.guardian() else { return Ok(()) };
    let (freeze, system) = (Arc::clone(freeze), Arc::clone(system));
    let watch = move || {
        let ending = client.wait();
        if ending != Ending::Released {
            freeze.window_is_over(&*system, &client, ending, system.timeout().map_or(0, |timeout| timeout.as_secs()));
        }
    };
    thread::Builder::new()
        .name("window".into())
        .stack_size(256 << 10)
        .spawn(watch)
        .map(drop)
        .map_err(|e| Error::generic(format!("failed to watch the time of the freeze: {}", e.errno_text())))
}

/// What an agent that starts finds. Gives lines for the log, which is not there yet.
///
/// - File systems are frozen and their guardian waits: goes on where the one before stopped.
/// - There is a marker of this boot and no guardian: believed, unless the kernel says that nothing is frozen. Then there
///   is a new guardian, and the time begins anew.
/// - A marker of another boot came with the disk, and means nothing.
pub fn on_start(freeze: &Freeze, system: &System) -> Vec<String> {
    let marker = system.marker();
    let mut notes = Vec::new();
    if marker.take_word_of_thaw() {
        notes.push(
            "the agent before this one ended while file systems were frozen; its guardian has thawed them".into(),
        );
        freeze.set_exceeded(GONE.into());
    }
    if !marker.is_current() {
        if marker.path().symlink_metadata().is_ok() {
            notes.push(format!("{} is of another boot and means nothing; it is removed", marker.path().display()));
            marker.clear();
        }
        return notes;
    }
    match marker.guardian().map_or(TakeOver::Nobody, |name| Client::take_over(&name)) {
        TakeOver::Taken(taken) => {
            system.set_guardian(taken.client);
            freeze.take_over(taken.handles, Some(taken.hooks));
        }
        TakeOver::Nobody if system.is_marker_stale() => {
            notes.push(format!("{} is removed: none of its file systems is frozen", marker.path().display()));
            marker.clear();
        }
        // The guardian was killed as well, or there never was one.
        TakeOver::Nobody => match system.guard_named() {
            Ok(handles) if !handles.is_empty() => freeze.take_over(handles, None),
            Ok(_) => freeze.adopt(),
            Err(e) => {
                notes.push(e.desc.into_owned());
                freeze.adopt();
            }
        },
        TakeOver::Busy => freeze.adopt(),
    }
    notes
}

const GONE: &str = "the agent ended while file systems were frozen, and they were thawed then";

impl Freeze {
    /// The guardian has thawed, or should have: leaves the frozen state and runs the hooks. The next thaw says so.
    pub(super) fn window_is_over(&self, world: &dyn World, client: &Client, ending: Ending, seconds: u64) {
        let Ok(turn) = self.begin(Operation::Thaw, TURN) else { return };
        // Somebody has thawed in the meantime.
        if client.is_released() || !self.is_frozen() {
            return;
        }
        let text = match ending {
            Ending::Released => return,
            Ending::Thawed(Reason::Told) => {
                "file systems were thawed before this request, because the guardian of the freeze was told to end"
                    .into()
            }
            Ending::Thawed(Reason::AgentGone) => GONE.into(),
            Ending::Thawed(Reason::Deadline) | Ending::Overdue => {
                format!("file systems were thawed before this request, after {seconds} s: no freeze may last longer")
            }
        };
        let thawed = self.undo_all(world);
        log::warn!("{text}");
        if let Err(e) = thawed {
            log::error!("{e}");
        }
        self.set_exceeded(text);
        drop(turn);
    }
}
