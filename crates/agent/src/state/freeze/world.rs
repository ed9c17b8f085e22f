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
use crate::platform::linux::mountinfo::{self, Device, FileSystem, Table};
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
    /// Thaws whatever an earlier process of the agent may have frozen, and returns how many of them were.
    fn thaw_adopted(&self) -> Result<i64>;
    /// Tells the administrator's programs.
    fn hook(&self, phase: HookPhase) -> Result<()>;
    /// Called once, right before the first of these is frozen.
    fn arm(&self, handles: &[Handle]);
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
        let mut failed = Vec::new();
        for i in fsorder::inner_first(self.root, &table, &systems) {
            let Some(system) = systems.get(i).filter(|system| is_meant(system, only)) else { continue };
            match fsfreeze::open(self.root, &table, system) {
                Ok(handle) => handles.push(handle),
                Err(OpenError::Unreachable) => {
                    let point = mountinfo::text(system.point());
                    log::warn!(
                        "the file system at {point} is not frozen: no path leads to it, other mounts cover its own"
                    );
                }
                Err(OpenError::Failed { point, errno }) => {
                    let point = mountinfo::text(&point);
                    failed.push(format!("failed to open {point}: {}", errno.errno_text()));
                }
            }
        }
        // All of them in one go, so that not every backup brings up the next one.
        if failed.is_empty() { Ok(handles) } else { Err(Error::generic(failed.join("; "))) }
    }

    fn freeze(&self, handle: &Handle) -> io::Result<bool> {
        fsfreeze::freeze(handle)
    }

    fn thaw(&self, handle: &Handle) -> io::Result<bool> {
        fsfreeze::thaw(handle)
    }

    fn thaw_adopted(&self) -> Result<i64> {
        let table = Table::read(self.root)?;
        let systems = table.file_systems(self.root);
        // The C agent's marker names none.
        let named = self.marker.devices();
        let is_named = |device: Device| named.is_empty() || named.contains(&(device.major, device.minor));
        let mut count = 0;
        for i in fsorder::inner_first(self.root, &table, &systems).into_iter().rev() {
            let Some(system) = systems.get(i).filter(|system| is_named(system.device)) else { continue };
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

    fn arm(&self, handles: &[Handle]) {
        let devices: Vec<(u32, u32)> = handles.iter().map(|h| (h.device().major, h.device().minor)).collect();
        self.marker.set_for(&devices);
        // The log may lie on what is about to be frozen: a line would block the thread that writes it.
        crate::log::mute();
    }

    fn disarm(&self) {
        crate::log::unmute();
        self.marker.clear();
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
