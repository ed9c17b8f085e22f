//! The files that the host has open, by handle.
//!
//! Handles belong to the agent and not to a connection: a host that comes back can go on with them, and they are
//! never closed by themselves.
//!
//! The lock of the table is held to find a handle, never while its file is read or written. A handle is used by one
//! command at a time; on a file that hangs (a dead server of a network file system) the next command for the *same*
//! handle is told so after two seconds, and all others go on.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qga_proto::error::{Error, Result};

use crate::platform::linux::file::OpenFile;

/// Most handles at a time: half of the 1,024 descriptors that a process usually has, so that some are left for
/// everything else.
pub const MOST_HANDLES: usize = 512;

/// How long a command waits for a handle that another command uses.
const PATIENCE: Duration = Duration::from_secs(2);

/// All open files.
#[derive(Debug, Default)]
pub struct FileTable {
    slots: Mutex<BTreeMap<i64, Arc<Slot>>>,
}

/// One handle, and whose turn it is.
#[derive(Debug, Default)]
struct Slot {
    place: Mutex<Place>,
    freed: Condvar,
}

#[derive(Debug, Default)]
enum Place {
    Free(OpenFile),
    /// In use by this command since then.
    Taken(&'static str, Instant),
    /// Closed. If a command still uses the file, it is closed when that comes back.
    #[default]
    Closed,
}

impl FileTable {
    /// Whether one more file may be opened. Asked before anything is created or truncated.
    ///
    /// # Errors
    ///
    /// [`MOST_HANDLES`] are open.
    pub fn check_room(&self) -> Result<()> {
        if self.slots().len() < MOST_HANDLES {
            return Ok(());
        }
        let desc =
            format!("{MOST_HANDLES} file handles are open, which is the limit: close some with guest-file-close");
        Err(Error::generic(desc))
    }

    /// Puts an open file under a handle that has never been used.
    pub fn insert(&self, handle: i64, file: OpenFile) {
        let slot = Arc::new(Slot { place: Mutex::new(Place::Free(file)), freed: Condvar::new() });
        self.slots().insert(handle, slot);
    }

    /// Calls `act` with the file of `handle`. `command` is who asks, for the text that others get while it runs.
    ///
    /// # Errors
    ///
    /// There is no such handle, another command uses it for longer than we wait, or what `act` returns.
    pub fn with<T>(
        &self,
        handle: i64,
        command: &'static str,
        act: impl FnOnce(&mut OpenFile) -> Result<T>,
    ) -> Result<T> {
        self.with_patience(handle, command, PATIENCE, act)
    }

    fn with_patience<T>(
        &self,
        handle: i64,
        command: &'static str,
        patience: Duration,
        act: impl FnOnce(&mut OpenFile) -> Result<T>,
    ) -> Result<T> {
        let slot = self.slots().get(&handle).cloned().ok_or_else(|| not_found(handle))?;
        let file = slot.take(handle, command, patience)?;
        let mut turn = Turn { slot: &slot, file: Some(file) };
        match &mut turn.file {
            Some(file) => act(file),
            None => Err(not_found(handle)),
        }
    }

    /// Closes the file of `handle`. The handle is gone whatever happens.
    ///
    /// # Errors
    ///
    /// There is no such handle, closing failed, or another command hangs on it (the file is closed when that ends).
    pub fn close(&self, handle: i64) -> Result<()> {
        self.close_with_patience(handle, PATIENCE)
    }

    fn close_with_patience(&self, handle: i64, patience: Duration) -> Result<()> {
        let slot = self.slots().remove(&handle).ok_or_else(|| not_found(handle))?;
        let taken = slot.take(handle, "guest-file-close", patience);
        slot.leave(Place::Closed);
        taken?.close()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<i64, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Takes the file out, when it is this command's turn.
    fn take(&self, handle: i64, command: &'static str, patience: Duration) -> Result<OpenFile> {
        let until = Instant::now() + patience;
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (by, since) = match &*place {
                Place::Free(_) => {
                    return match std::mem::replace(&mut *place, Place::Taken(command, Instant::now())) {
                        Place::Free(file) => Ok(file),
                        _ => Err(not_found(handle)),
                    };
                }
                Place::Closed => return Err(not_found(handle)),
                Place::Taken(by, since) => (*by, *since),
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seconds = since.elapsed().as_secs();
                let desc = format!("handle '{handle}' is busy with {by} for {seconds} seconds");
                return Err(Error::generic(desc));
            }
            place = self.freed.wait_timeout(place, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What the next ones find. A closed handle stays closed.
    fn leave(&self, then: Place) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = match &*place {
            Place::Closed => then,
            _ => std::mem::replace(&mut *place, then),
        };
        drop(place);
        self.freed.notify_all();
        // (Closing the file of a handle that was given up meanwhile may take long.)
        drop(dropped);
    }
}

/// Puts the file back, also when the command panics.
struct Turn<'a> {
    slot: &'a Slot,
    file: Option<OpenFile>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.slot.leave(Place::Free(file));
        }
    }
}

fn not_found(handle: i64) -> Error {
    Error::generic(format!("handle '{handle}' has not been found"))
}

#[cfg(test)]
mod tests;
