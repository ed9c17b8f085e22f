//! What the agent has frozen, and the one place that freezes and thaws.
//!
//! A guest left frozen is a dead guest, so everything here leads back to thawed:
//!
//! - All file systems are opened before the first is frozen, and stay open; thawing needs no path and no disk.
//! - A freeze that fails in the middle, or is called off, thaws what it froze, in reverse order.
//! - A thaw that comes while a freeze is stuck in the kernel thaws what is frozen so far from its own thread. Where
//!   the freeze was stuck because of that (an image on a frozen file system), it comes free; whatever it freezes
//!   late is thawed at once.
//! - A freeze that does not come to an end in time is given up, and undone when it does.
//! - A hook that was run with `freeze` is run with `thaw`, whatever happened in between.
//! - When the agent is gone, or the host does not come back, the [guardian](crate::guardian) does all that.
//!
//! Requests run on several threads, and a thread whose request was given up goes on working. So there is one
//! operation at a time, and every wait for it has a limit. The lock is never held across a call that can block.

pub mod hooks;
mod settings;
pub mod window;
mod world;

use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use qga_proto::Error;
use qga_proto::error::Result;
use qga_proto::types::fsfreeze::FsfreezeStatus;
use rustix::fd::OwnedFd;

use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::fsfreeze::Handle;
use crate::platform::linux::mountinfo;

pub use hooks::HookPhase;
pub use settings::Settings;
pub use world::{System, World};

/// How long requests wait for another one that is still working.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Status, and a second freeze. Below the sync limit of every client.
    pub status: Duration,
    /// What a thaw gives a freeze to end by itself, before it thaws behind the freeze's back.
    pub grace: Duration,
    /// A thaw in all.
    pub thaw: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { status: Duration::from_secs(3), grace: Duration::from_secs(1), thaw: Duration::from_secs(10) }
    }
}

/// What is frozen. One for the whole agent.
#[derive(Debug, Default)]
pub struct Freeze {
    /// What dispatch looks at for every request: true from just before the first file system is frozen until all
    /// are thawed.
    frozen: AtomicBool,
    inner: Mutex<Inner>,
    changed: Condvar,
    patience: Patience,
    /// Rung when an operation begins or ends.
    bell: OnceLock<OwnedFd>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The operation that is going on.
    working: Option<Working>,
    /// Asks the freeze that is going on to stop and thaw.
    cancel: bool,
    /// When a freeze that was asked to stop is to be given up, should it hang.
    give_up: Option<Instant>,
    /// What we have frozen, in the order of freezing.
    held: Vec<Arc<Handle>>,
    /// When the first of them was frozen; None if an earlier process of this agent did that.
    since: Option<SystemTime>,
    /// The hooks that were run with `freeze` and not yet with `thaw`. None: nobody knows.
    hooks: Option<Vec<PathBuf>>,
    /// Why file systems were thawed before the host asked for it, until it does.
    exceeded: Option<String>,
    /// Thaws that wait for their turn: no freeze gets one before them.
    thaws: usize,
    /// How many thaws have been asked for: a freeze that has waited since before one is not wanted any more.
    thaws_asked: u64,
    /// A thaw is thawing what a freeze that does not end has frozen.
    helping: bool,
    /// An earlier process of this agent has frozen we do not know what.
    adopted: bool,
    /// The agent is about to end: nobody would thaw what is frozen now.
    ending: bool,
}

#[derive(Debug, Clone, Copy)]
struct Working {
    what: Operation,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Freeze,
    Thaw,
}

impl Working {
    fn error(self) -> Error {
        let what = match self.what {
            Operation::Freeze => "freezing",
            Operation::Thaw => "thawing",
        };
        Error::generic(format!("{what} file systems has been going on for {} s", self.since.elapsed().as_secs()))
    }
}

/// The right to work; given back when dropped, even by a panic.
#[derive(Debug)]
struct Turn<'a>(&'a Freeze);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.working = None;
        inner.cancel = false;
        inner.give_up = None;
        drop(inner);
        self.0.changed.notify_all();
        self.0.ring();
    }
}

/// A thaw that waits for its turn.
#[derive(Debug)]
struct Ahead<'a>(&'a Freeze);

impl<'a> Ahead<'a> {
    fn new(freeze: &'a Freeze) -> Self {
        let mut inner = freeze.lock();
        inner.thaws += 1;
        inner.thaws_asked += 1;
        drop(inner);
        Ahead(freeze)
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.0.lock().thaws -= 1;
    }
}

fn called_off() -> Error {
    Error::generic("freezing was called off by guest-fsfreeze-thaw")
}

/// How things stand, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is frozen by us.
    Thawed,
    /// A freeze is going on.
    Freezing,
    /// A thaw is going on.
    Thawing,
    /// File systems are frozen.
    Frozen {
        /// How many; None if only an earlier process of the agent knew.
        count: Option<usize>,
        /// Since when; None if since before this process.
        since: Option<SystemTime>,
    },
}

impl Freeze {
    /// One that waits for other lengths of time.
    pub fn with_patience(patience: Patience) -> Self {
        Freeze { patience, ..Freeze::default() }
    }

    /// Whether file systems are, or are just being, frozen. Never blocks.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    /// How things stand just now. Never blocks.
    pub fn standing(&self) -> Standing {
        let inner = self.lock();
        match inner.working.map(|working| working.what) {
            Some(Operation::Freeze) => Standing::Freezing,
            Some(Operation::Thaw) if self.is_frozen() => Standing::Thawing,
            _ if self.is_frozen() => {
                Standing::Frozen { count: (!inner.adopted).then_some(inner.held.len()), since: inner.since }
            }
            _ => Standing::Thawed,
        }
    }

    /// Has this event counter (`eventfd`, non-blocking) rung when [`Freeze::standing`] may have changed. The first one
    /// counts.
    pub fn ring_on_change(&self, bell: OwnedFd) {
        let _ = self.bell.set(bell);
    }

    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            // A full counter is readable all the same.
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }

    /// Takes over from an earlier process of the agent that ended while file systems were frozen: everything counts
    /// as frozen until a thaw. To be called at start, before the first request, when the marker of this boot exists.
    pub fn adopt(&self) {
        self.lock().adopted = true;
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// Takes over what an earlier process of the agent has frozen, in this order, and the hooks that it ran, if they are
    /// known. To be called at start.
    pub fn take_over(&self, handles: Vec<Handle>, hooks: Option<Vec<PathBuf>>) {
        let mut inner = self.lock();
        inner.held = handles.into_iter().map(Arc::new).collect();
        inner.hooks = hooks;
        drop(inner);
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// The next thaw answers an error with this text: the snapshot is not what the host thinks.
    pub(crate) fn set_exceeded(&self, text: String) {
        self.lock().exceeded = Some(text);
    }

    /// What `guest-fsfreeze-status` answers. It waits a little for an operation that is going on, so that it does
    /// not say `thawed` in the middle of a freeze.
    ///
    /// # Errors
    /// The operation is not over within [`Patience::status`].
    pub fn status(&self) -> Result<FsfreezeStatus> {
        drop(self.wait(self.patience.status)?);
        Ok(if self.is_frozen() { FsfreezeStatus::Frozen } else { FsfreezeStatus::Thawed })
    }

    /// Freezes all file systems, or those with a mount point in `only`, and returns how many were frozen. When it is
    /// none, nothing is left behind.
    ///
    /// # Errors
    /// The guardian's, a hook's, or `failed to open MOUNTPOINT: <errno>`, `failed to freeze MOUNTPOINT: <errno>`:
    /// everything is thawed again, and the hooks have been run with `thaw`.
    pub fn freeze(&self, world: &dyn World, only: Option<&[String]>) -> Result<i64> {
        let turn = self.begin(Operation::Freeze, self.patience.status)?;
        if self.is_frozen() {
            // Dispatch refuses this; it can come about only when two freezes were under way at once.
            let text = "Command guest-fsfreeze-freeze has been disabled: the command is not allowed";
            return Err(Error::not_found(text));
        }
        {
            let mut inner = self.lock();
            inner.exceeded = None;
            inner.hooks = Some(Vec::new());
            inner.since = Some(SystemTime::now());
        }
        let frozen = world.guard().and_then(|()| self.freeze_all(world, only));
        // Not frozen, or not frozen any more: what was told to get ready for a snapshot is told that it is over.
        if !self.is_frozen() {
            if let Err(e) = self.thaw_hooks(world) {
                log::warn!("{e}");
            }
            world.release();
        }
        drop(turn);
        frozen
    }

    /// Thaws what [`freeze`](Self::freeze) froze and returns how many file systems that were. After
    /// [`adopt`](Self::adopt) it thaws every file system that is frozen. The hooks are run in any case. A freeze that is
    /// still going on is called off.
    ///
    /// # Errors
    /// - `failed to thaw MOUNTPOINT: <errno>`: those are still frozen, and so is the state.
    /// - No mount table after [`adopt`](Self::adopt): the state is as before.
    /// - A hook's: everything is thawed all the same.
    /// - It was all thawed before, by the guardian. That is said once.
    /// - A freeze does not end: what it had frozen is thawed, and the rest will be when it ends.
    pub fn thaw(&self, world: &dyn World) -> Result<i64> {
        let (turn, early) = self.begin_thaw(world)?;
        self.finish_thaw(world, turn, early)
    }

    fn finish_thaw(&self, world: &dyn World, turn: Turn<'_>, early: i64) -> Result<i64> {
        let exceeded = self.lock().exceeded.take();
        if let Some(text) = exceeded.filter(|_| !self.is_frozen()) {
            return Err(Error::generic(text));
        }
        let thawed = self.undo_all(world);
        drop(turn);
        Ok(thawed? + early)
    }

    /// Thaws, runs the hooks with `thaw` and lets the guardian go.
    fn undo_all(&self, world: &dyn World) -> Result<i64> {
        let thawed = self.thaw_all(world);
        let hooks = self.thaw_hooks(world);
        if !self.is_frozen() {
            world.release();
        }
        let count = thawed?;
        hooks.map(|()| count)
    }

    /// Those that were run with `freeze`; all of them when that is not known.
    fn thaw_hooks(&self, world: &dyn World) -> Result<()> {
        let known = self.lock().hooks.take();
        world.hook(HookPhase::Thaw, &mut known.unwrap_or_else(|| world.hooks()))
    }

    /// What has to be done before the agent ends: thaws if anything is or is being frozen, else does nothing. Runs
    /// hooks and may take as long as [`thaw`](Self::thaw). From now on no freeze begins. Tells whether anything was
    /// frozen, not how much: what ends a whole service tells its guardian too, and that thaws at the same time.
    ///
    /// # Errors
    /// Those of [`thaw`](Self::thaw).
    pub fn thaw_for_exit(&self, world: &dyn World) -> Result<bool> {
        self.lock().ending = true;
        let (turn, early) = self.begin_thaw(world)?;
        if !self.is_frozen() {
            return Ok(early > 0);
        }
        self.finish_thaw(world, turn, early).map(|_| true)
    }

    fn freeze_all(&self, world: &dyn World, only: Option<&[String]>) -> Result<i64> {
        let mut ran = Vec::new();
        let told = world.hook(HookPhase::Freeze, &mut ran);
        self.lock().hooks = Some(ran);
        told?;
        let give_up = || self.lock().give_up.is_some_and(|at| Instant::now() >= at);
        let handles: Vec<Arc<Handle>> = world.open(only, &give_up)?.into_iter().map(Arc::new).collect();
        if handles.is_empty() || self.lock().cancel {
            return self.outcome();
        }
        self.frozen.store(true, Ordering::SeqCst);
        let frozen = world.arm(&handles).and_then(|()| self.freeze_each(world, handles, &give_up));
        let outcome = frozen.and_then(|()| self.outcome());
        // A guardian that has thawed in the meantime must not stay unnoticed.
        let outcome = if matches!(outcome, Ok(1..)) { world.check().and(outcome) } else { outcome };
        if !matches!(outcome, Ok(1..)) {
            if let Err(still) = self.thaw_all(world) {
                let desc = outcome.err().map_or(String::new(), |e| format!("{e}; "));
                return Err(Error::generic(format!("{desc}{still}")));
            }
        }
        outcome
    }

    fn freeze_each(&self, world: &dyn World, handles: Vec<Arc<Handle>>, give_up: &dyn Fn() -> bool) -> Result<()> {
        for handle in handles {
            if world.freeze(&handle, give_up)? {
                self.lock().held.push(handle);
            }
            if self.lock().cancel {
                break;
            }
        }
        Ok(())
    }

    /// How many are frozen, unless the freeze was called off.
    fn outcome(&self) -> Result<i64> {
        let inner = self.lock();
        if inner.cancel {
            return Err(called_off());
        }
        Ok(i64::try_from(inner.held.len()).unwrap_or(i64::MAX))
    }

    /// Thaws what is held, and everything if that is not known, and leaves the frozen state if nothing is left.
    fn thaw_all(&self, world: &dyn World) -> Result<i64> {
        let mut count = self.thaw_held(world)?;
        if self.lock().adopted {
            count += world.thaw_adopted()?;
            self.lock().adopted = false;
        }
        let limit = self.patience.thaw;
        drop(self.changed.wait_timeout_while(self.lock(), limit, |inner| inner.helping));
        if self.frozen.load(Ordering::SeqCst) {
            world.disarm();
            self.frozen.store(false, Ordering::SeqCst);
        }
        Ok(count)
    }

    /// Thaws what is held, last frozen first. What cannot be thawed stays held.
    fn thaw_held(&self, world: &dyn World) -> Result<i64> {
        let mut count = 0;
        let mut failed = Vec::new();
        let mut texts = Vec::new();
        for handle in mem::take(&mut self.lock().held).into_iter().rev() {
            match world.thaw(&handle) {
                Ok(true) => count += 1,
                Ok(false) => {}
                Err(errno) => {
                    let point = mountinfo::text(handle.point());
                    texts.push(format!("failed to thaw {point}: {}", errno.errno_text()));
                    failed.push(handle);
                }
            }
        }
        if failed.is_empty() {
            return Ok(count);
        }
        failed.reverse();
        self.lock().held.splice(0..0, failed);
        Err(Error::generic(texts.join("; ")))
    }

    /// Waits for a thaw's turn. A freeze that is going on is told to stop; when it does not, what it has frozen is
    /// thawed from here. Also gives how many that were.
    fn begin_thaw(&self, world: &dyn World) -> Result<(Turn<'_>, i64)> {
        let since = Instant::now();
        let mut early = 0;
        let _first = Ahead::new(self);
        {
            let mut inner = self.lock();
            if inner.working.is_some_and(|working| working.what == Operation::Freeze) {
                inner.cancel = true;
            }
        }
        if self.wait(self.patience.grace).is_err() {
            let help = {
                let mut inner = self.lock();
                inner.helping = inner.cancel;
                inner.helping
            };
            if help {
                match self.thaw_held(world) {
                    Ok(count) => early = count,
                    // What is left is still held: whoever has the next turn meets it.
                    Err(e) => log::warn!("{e}"),
                }
                let mut inner = self.lock();
                inner.helping = false;
                // It may have been stuck for what was just thawed.
                inner.give_up = Some(Instant::now() + self.patience.grace);
                drop(inner);
                world.call_off();
                self.changed.notify_all();
            }
        }
        let left = self.patience.thaw.saturating_sub(since.elapsed());
        match self.begin(Operation::Thaw, left) {
            Ok(turn) => Ok((turn, early)),
            Err(e) if self.lock().cancel => Err(Error::generic(format!(
                "{e} and cannot be interrupted; what was frozen so far is thawed, the rest will be as soon as it ends"
            ))),
            Err(e) => Err(e),
        }
    }

    /// Waits until nobody works, and begins.
    fn begin(&self, what: Operation, limit: Duration) -> Result<Turn<'_>> {
        let asked = self.lock().thaws_asked;
        let mut inner = self.wait(limit)?;
        if inner.ending && what == Operation::Freeze {
            return Err(Error::generic("the agent is about to end"));
        }
        if (inner.thaws > 0 || inner.thaws_asked != asked) && what == Operation::Freeze {
            return Err(called_off());
        }
        inner.working = Some(Working { what, since: Instant::now() });
        drop(inner);
        self.ring();
        Ok(Turn(self))
    }

    /// Waits until nobody works.
    fn wait(&self, limit: Duration) -> Result<MutexGuard<'_, Inner>> {
        let (inner, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, |inner| inner.working.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        match inner.working {
            Some(working) => Err(working.error()),
            None => Ok(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
