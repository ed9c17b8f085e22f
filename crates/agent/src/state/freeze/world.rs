//! What a freeze does to the world outside of the agent's memory.

use std::path::Path;
use std::time::Duration;

use qga_proto::Error;
use qga_proto::error::Result;
use rustix::io;

use crate::persist::FrozenMarker;
use crate::platform::linux::child;
use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::fsfreeze::{self, Handle, OpenError};
use crate::platform::linux::fsorder;
use crate::platform::linux::mountinfo::{self, FileSystem, Table};
use crate::platform::linux::root::Root;
use crate::state::State;

/// How long a hook may run.
const HOOK_DEADLINE: Duration = Duration::from_secs(60);

/// What the hook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPhase {
    /// File systems are about to be frozen.
    Freeze,
    /// They are thawed, or were not frozen after all.
    Thaw,
}

impl HookPhase {
    fn name(self) -> &'static str {
        match self {
            HookPhase::Freeze => "freeze",
            HookPhase::Thaw => "thaw",
        }
    }
}

/// The effects of freezing. [`System`] has them on this machine; tests have others.
pub trait World {
    /// Opens all file systems, or those with a mount point in `only`, in the order of freezing.
    fn open(&self, only: Option<&[String]>) -> Result<Vec<Handle>>;
    /// Freezes one; false where that is not possible and does not matter.
    fn freeze(&self, handle: &Handle) -> io::Result<bool>;
    /// Thaws one; false where it was not frozen.
    fn thaw(&self, handle: &Handle) -> io::Result<bool>;
    /// Thaws every file system there is, and returns how many were frozen.
    fn thaw_everything(&self) -> Result<i64>;
    /// Tells the administrator's programs.
    fn hook(&self, phase: HookPhase) -> Result<()>;
    /// Called once, right before the first file system is frozen.
    fn arm(&self);
    /// Called once, right after the last one is thawed.
    fn disarm(&self);
}

/// This machine.
#[derive(Debug, Clone, Copy)]
pub struct System<'a> {
    /// Where the system's files are.
    pub root: &'a Root,
    /// The administrator's program, if one is configured.
    pub hook: Option<&'a Path>,
    /// What tells a later process of the agent that this one left file systems frozen.
    pub marker: &'a FrozenMarker,
}

impl<'a> System<'a> {
    /// As the agent is configured.
    pub fn of(state: &'a State) -> Self {
        System { root: &state.root, hook: state.config.fsfreeze_hook.as_deref(), marker: &state.persist.frozen }
    }
}

impl World for System<'_> {
    fn open(&self, only: Option<&[String]>) -> Result<Vec<Handle>> {
        let table = Table::read(self.root)?;
        let systems = table.file_systems(self.root);
        let mut handles = Vec::with_capacity(systems.len());
        for i in fsorder::inner_first(self.root, &table, &systems) {
            let Some(system) = systems.get(i).filter(|system| is_meant(system, only)) else { continue };
            match fsfreeze::open(self.root, &table, system) {
                Ok(handle) => handles.push(handle),
                Err(OpenError::Unreachable) => {
                    let point = mountinfo::text(system.point());
                    log::warn!("the file system at {point} is not frozen: no path leads to it, other mounts cover its own");
                }
                Err(OpenError::Failed { point, errno }) => {
                    let point = mountinfo::text(&point);
                    return Err(Error::generic(format!("failed to open {point}: {}", errno.errno_text())));
                }
            }
        }
        Ok(handles)
    }

    fn freeze(&self, handle: &Handle) -> io::Result<bool> {
        fsfreeze::freeze(handle)
    }

    fn thaw(&self, handle: &Handle) -> io::Result<bool> {
        fsfreeze::thaw(handle)
    }

    fn thaw_everything(&self) -> Result<i64> {
        let table = Table::read(self.root)?;
        let systems = table.file_systems(self.root);
        let mut count = 0;
        for i in fsorder::inner_first(self.root, &table, &systems).into_iter().rev() {
            let Some(system) = systems.get(i) else { continue };
            // What cannot be opened now could not be opened for freezing either.
            let Ok(handle) = fsfreeze::open(self.root, &table, system) else { continue };
            match fsfreeze::thaw_fully(&handle) {
                Ok(frozen) => count += i64::from(frozen),
                Err(errno) => {
                    let point = mountinfo::text(handle.point());
                    return Err(Error::generic(format!("failed to thaw {point}: {}", errno.errno_text())));
                }
            }
        }
        Ok(count)
    }

    fn hook(&self, phase: HookPhase) -> Result<()> {
        let Some(program) = self.hook else { return Ok(()) };
        let phase = phase.name();
        log::info!(target: "audit", "executing fsfreeze hook with arg '{phase}'");
        child::Command {
            program,
            args: &[phase.as_ref()],
            input: None,
            deadline: HOOK_DEADLINE,
            action: "execute fsfreeze hook",
        }
        .run()
    }

    fn arm(&self) {
        self.marker.set();
        // The log may lie on what is about to be frozen: a line would block the thread that writes it.
        crate::log::mute();
    }

    fn disarm(&self) {
        self.marker.clear();
        crate::log::unmute();
    }
}

/// Whether a file system is among those asked for: by any of its mount points, as text, so that what
/// `guest-get-fsinfo` shows can be given back. A slash at the end does not matter.
fn is_meant(system: &FileSystem, only: Option<&[String]>) -> bool {
    let Some(only) = only else { return true };
    let trim = |point: &str| match point.trim_end_matches('/') {
        "" => point.get(..1).unwrap_or("").to_owned(),
        rest => rest.to_owned(),
    };
    system.mounts.iter().any(|mount| {
        let point = trim(&mountinfo::text(&mount.point));
        only.iter().any(|asked| trim(asked) == point)
    })
}
