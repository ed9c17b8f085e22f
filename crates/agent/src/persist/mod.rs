//! What outlives the process, in small files of the state directory: the handle counter and the frozen marker.
//!
//! Names, format, first value and step are the C agent's, so that either agent can follow the other.

mod counter;
mod marker;

use std::path::Path;

pub use self::counter::HandleCounter;
pub use self::marker::{FrozenMarker, leave_word_of_thaw};
use crate::platform::linux::root::Root;

/// The two files.
#[derive(Debug)]
pub struct Persist {
    /// The number of the next file handle.
    pub handles: HandleCounter,
    /// Whether file systems are frozen.
    pub frozen: FrozenMarker,
}

impl Persist {
    /// Reads what the state directory holds. Nothing is written if the marker says that file systems are frozen: the
    /// directory may lie on one of them.
    ///
    /// Strange content of the counter is repaired and logged; start the log first, with what
    /// [`FrozenMarker::is_current`] says.
    ///
    /// # Errors
    /// See [`HandleCounter::open`].
    pub fn open(statedir: &Path, marker: FrozenMarker) -> Result<Self, String> {
        let handles = HandleCounter::open(statedir, marker.is_current())?;
        Ok(Persist { handles, frozen: marker })
    }

    /// Both files in `statedir`, found as they are.
    ///
    /// # Errors
    /// See [`FrozenMarker::new`] and [`Persist::open`].
    pub fn new(statedir: &Path, root: &Root) -> Result<Self, String> {
        Persist::open(statedir, FrozenMarker::new(statedir, root)?)
    }
}
