//! What a freeze does to the world outside of the agent's memory.

use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qga_proto::Error;
use qga_proto::error::Result;
use rustix::io;

use super::hooks::{self, HookPhase};
use super::settings::Settings;
use crate::guardian::{self, Client};
use crate::persist::FrozenMarker;
use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::fsfreeze::{self, FreezeError, Handle, Hanging, OpenError};
use crate::platform::linux::fsorder;
use crate::platform::linux::mountinfo::{self, Device, FileSystem, Table};
use crate::platform::linux::root::Root;

/// How long asking after the state of one file system may take, and opening one that may be frozen.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// What opening a file system gets at least, however long those before it took.
const LEAST: Duration = Duration::from_secs(1);

/// The effects of freezing. [`System`] has them on this machine; tests have others.
pub trait World {
    /// Starts somebody who undoes everything should we not be able to. Called before anything else.
    fn guard(&self) -> Result<()>;
    /// Tells the administrator's programs: `freeze` to all of them, adding each to `ran`, `thaw` to those in `ran`.
    fn hook(&self, phase: HookPhase, ran: &mut Vec<PathBuf>) -> Result<()>;
    /// The administrator's programs that would be told now.
    fn hooks(&self) -> Vec<PathBuf>;
    /// Opens all file systems, or those with a mount point in `only`, in the order of freezing. `give_up` says that
    /// nobody wants it any more.
    fn open(&self, only: Option<&[String]>, give_up: &dyn Fn() -> bool) -> Result<Vec<Handle>>;
    /// Called once, right before the first of these is frozen.
    fn arm(&self, handles: &[Arc<Handle>]) -> Result<()>;
    /// Freezes one; false where that is not possible and does not matter. `give_up` says that nobody wants it any
    /// more. The error is for people.
    fn freeze(&self, handle: &Arc<Handle>, give_up: &dyn Fn() -> bool) -> Result<bool>;
    /// Whether what is frozen is still under guard, when all are.
    fn check(&self) -> Result<()>;
    /// Thaws one; false where it was not frozen.
    fn thaw(&self, handle: &Handle) -> io::Result<bool>;
    /// Thaws whatever an earlier process of the agent may have frozen, and returns how many of them were.
    fn thaw_adopted(&self) -> Result<i64>;
    /// Called once, right after the last one is thawed.
    fn disarm(&self);
    /// Called when everything is undone, the hooks as well.
    fn release(&self);
    /// Ends a hook that is being run with `freeze`: nobody wants that any more. Holds until the next
    /// [`guard`](World::guard).
    fn call_off(&self) {}
}

/// A line for the log.
#[derive(Debug)]
enum Note {
    /// What a hook wrote.
    Said(String),
    /// What is not in the snapshot although it might be expected to be.
    Missing(String),
}

/// This machine.
#[derive(Debug)]
pub struct System {
    root: Root,
    settings: Settings,
    /// What tells a later process of the agent that this one left file systems frozen.
    marker: FrozenMarker,
    guard: Mutex<Option<Arc<Client>>>,
    /// File systems whose freeze was given up and has not come to an end.
    late: Arc<Mutex<Vec<Device>>>,
    /// File systems that could not be opened in time.
    hanging: Hanging,
    /// Nobody waits for the hooks that are being run with `freeze`.
    called_off: AtomicBool,
    /// Lines for the log, which is silent while file systems are frozen.
    notes: Mutex<Vec<Note>>,
}

impl System {
    /// With nothing frozen.
    pub fn new(root: Root, settings: Settings, marker: FrozenMarker) -> Self {
        System {
            root,
            settings,
            marker,
            guard: Mutex::default(),
            late: Arc::default(),
            hanging: Hanging::default(),
            called_off: AtomicBool::new(false),
            notes: Mutex::default(),
        }
    }

    /// What tells a later process.
    pub fn marker(&self) -> &FrozenMarker {
        &self.marker
    }

    /// What does not let itself be opened.
    pub fn hanging(&self) -> &Hanging {
        &self.hanging
    }

    /// How long file systems may stay frozen.
    pub fn timeout(&self) -> Option<Duration> {
        self.settings.timeout
    }

    /// The guardian at work.
    pub fn guardian(&self) -> Option<Arc<Client>> {
        lock(&self.guard).clone()
    }

    /// Goes on with the guardian of an agent that is gone.
    pub fn set_guardian(&self, client: Client) -> Arc<Client> {
        let client = Arc::new(client);
        *lock(&self.guard) = Some(Arc::clone(&client));
        client
    }

    /// Whether the kernel says that none of the file systems is frozen that the marker names. Asks those first that
    /// others lie on: one that lies on a frozen one would not answer.
    pub fn is_marker_stale(&self) -> bool {
        let named = self.marker.devices();
        let Ok((table, systems)) = self.look(Some(ASK_LIMIT), &|| false) else { return false };
        for system in systems.iter().rev() {
            if !named.contains(&(system.device.major, system.device.minor)) {
                continue;
            }
            let Ok(handle) = self.open_one(&table, system) else { continue };
            let answer = fsfreeze::within(Some(ASK_LIMIT), &|| false, move || fsfreeze::is_frozen(&handle), |_| ());
            if answer != Ok(Ok(false)) {
                return false;
            }
        }
        // A marker that names none says nothing that could be asked after.
        !named.is_empty()
    }

    /// Puts a new guardian before what the marker names, of which it is known that it may be frozen. Gives it in the order
    /// of freezing; nothing where the marker names nothing.
    ///
    /// # Errors
    /// There is no guardian; then there is none.
    pub(super) fn guard_named(&self) -> Result<Vec<Handle>> {
        let named = self.marker.devices();
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let (table, systems) = self.look(Some(ASK_LIMIT), &|| false)?;
        let found = systems.iter().filter(|system| named.contains(&(system.device.major, system.device.minor)));
        let handles: Vec<Handle> = found.filter_map(|system| self.open_one(&table, system).ok()).collect();
        self.guard()?;
        let guardian = self.guard_or_fail()?;
        self.marker.set_guarded(&named, guardian.name());
        let handed = guardian.arm(&handles, self.settings.timeout).map(|()| {
            handles.iter().for_each(|handle| guardian.frozen(handle.device()));
            handles
        });
        if handed.is_err() {
            self.release();
        }
        handed
    }

    /// The mount table, and its file systems in the order of freezing. Paths are followed for that, and one of them may
    /// lie below a mount whose server does not answer.
    fn look(&self, limit: Option<Duration>, give_up: &dyn Fn() -> bool) -> Result<(Arc<Table>, Vec<FileSystem>)> {
        let root = self.root.clone();
        let work = move || {
            let table = Table::read(&root)?;
            let systems = table.file_systems(&root);
            let order = fsorder::inner_first(&root, &table, &systems);
            let systems = order.into_iter().filter_map(|i| systems.get(i).cloned()).collect();
            Ok((Arc::new(table), systems))
        };
        self.hanging.within(None, limit, give_up, work).unwrap_or_else(|e| {
            let why = match e {
                FreezeError::Failed(errno) => errno.errno_text(),
                FreezeError::TooLate => "a mount does not answer".to_owned(),
            };
            Err(Error::generic(format!("failed to find out which file system lies on which: {why}")))
        })
    }

    /// Opens one that may be frozen.
    fn open_one(&self, table: &Arc<Table>, system: &FileSystem) -> std::result::Result<Handle, OpenError> {
        self.hanging.open_within(Some(ASK_LIMIT), &|| false, &self.root, table, system)
    }

    fn note(&self, note: Note) {
        lock(&self.notes).push(note);
    }

    fn guard_or_fail(&self) -> Result<Arc<Client>> {
        self.guardian().ok_or_else(|| Error::generic("the freeze has no guardian"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World for System {
    fn guard(&self) -> Result<()> {
        self.called_off.store(false, Ordering::SeqCst);
        let client = Client::start(&guardian::client::Start {
            program: &self.settings.guardian,
            statedir: &self.settings.statedir,
            hook_limit: self.settings.hooks.limits.each,
            hooks_limit: self.settings.hooks.limits.all,
        })?;
        self.set_guardian(client);
        Ok(())
    }

    fn call_off(&self) {
        self.called_off.store(true, Ordering::SeqCst);
    }

    fn hooks(&self) -> Vec<PathBuf> {
        self.settings.hooks.list()
    }

    fn hook(&self, phase: HookPhase, ran: &mut Vec<PathBuf>) -> Result<()> {
        let guardian = self.guardian();
        match phase {
            HookPhase::Freeze => self.settings.hooks.freeze(
                |hook| {
                    if let Some(guardian) = &guardian {
                        guardian.hook(hook)?;
                    }
                    ran.push(hook.to_owned());
                    Ok(())
                },
                |said| self.note(Note::Said(said)),
                &|| self.called_off.load(Ordering::SeqCst),
            ),
            HookPhase::Thaw => hooks::thaw(ran, self.settings.hooks.limits, |hook| {
                if let Some(guardian) = &guardian {
                    guardian.hook_done(hook);
                }
            }),
        }
    }

    fn open(&self, only: Option<&[String]>, give_up: &dyn Fn() -> bool) -> Result<Vec<Handle>> {
        let since = Instant::now();
        let left = || self.settings.limit.map(|limit| limit.saturating_sub(since.elapsed()).max(LEAST));
        let (table, systems) = self.look(left(), give_up)?;
        let mut handles = Vec::with_capacity(systems.len());
        let mut failed = Vec::new();
        for system in systems.iter().filter(|system| is_meant(system, only)) {
            if give_up() {
                break;
            }
            if self.settings.excludes(system) {
                log::info!("the file system at {} is not frozen: excluded", mountinfo::text(system.point()));
                continue;
            }
            match self.hanging.open_within(left(), give_up, &self.root, &table, system) {
                Ok(handle) => handles.push(handle),
                Err(OpenError::TooLate) => {
                    let point = mountinfo::text(system.point());
                    failed.push(format!("failed to open {point}: a mount on the way does not answer"));
                }
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
        if self.settings.best_effort {
            for complaint in mem::take(&mut failed) {
                log::warn!("a file system is not frozen: {complaint}");
            }
        }
        // All of them in one go, so that not every backup brings up the next one.
        if failed.is_empty() { Ok(handles) } else { Err(Error::generic(failed.join("; "))) }
    }

    fn arm(&self, handles: &[Arc<Handle>]) -> Result<()> {
        let guardian = self.guard_or_fail()?;
        let devices: Vec<(u32, u32)> = handles.iter().map(|h| (h.device().major, h.device().minor)).collect();
        self.marker.set_guarded(&devices, guardian.name());
        // The log may lie on what is about to be frozen: a line would block the thread that writes it.
        crate::log::mute();
        guardian.arm(handles, self.settings.timeout)
    }

    fn freeze(&self, handle: &Arc<Handle>, give_up: &dyn Fn() -> bool) -> Result<bool> {
        let guardian = self.guard_or_fail()?;
        let (point, device) = (mountinfo::text(handle.point()), handle.device());
        if lock(&self.late).contains(&device) {
            return Err(Error::generic(format!("failed to freeze {point}: an earlier attempt has not come to an end")));
        }
        guardian.freezing(device)?;
        let work = {
            let handle = Arc::clone(handle);
            move || fsfreeze::freeze(&handle)
        };
        let late = {
            let (handle, guardian, late) = (Arc::clone(handle), Arc::clone(&guardian), Arc::clone(&self.late));
            move |result: io::Result<bool>| {
                if result == Ok(true) {
                    if let Err(errno) = fsfreeze::thaw(&handle) {
                        log::error!("failed to thaw {}: {}", mountinfo::text(handle.point()), errno.errno_text());
                    }
                }
                guardian.not_frozen(device);
                lock(&late).retain(|known| *known != device);
                guardian.late_is_over();
            }
        };
        // Before, as it may be over before we are told that it is late.
        guardian.expect_late();
        lock(&self.late).push(device);
        let result = fsfreeze::within(self.settings.limit, give_up, work, late);
        if result != Err(FreezeError::TooLate) {
            lock(&self.late).retain(|known| *known != device);
            guardian.late_is_over();
        }
        match result {
            Ok(Ok(true)) => {
                guardian.frozen(device);
                Ok(true)
            }
            Ok(Ok(false)) => {
                guardian.not_frozen(device);
                Ok(false)
            }
            Ok(Err(errno)) | Err(FreezeError::Failed(errno)) => {
                guardian.not_frozen(device);
                let text = format!("failed to freeze {point}: {}", errno.errno_text());
                if self.settings.best_effort {
                    self.note(Note::Missing(text));
                    return Ok(false);
                }
                Err(Error::generic(text))
            }
            Err(FreezeError::TooLate) => Err(Error::generic(match self.settings.limit {
                Some(limit) if !give_up() => format!(
                    "failed to freeze {point}: it is not done after {} seconds; it is thawed as soon as it is",
                    limit.as_secs_f64()
                ),
                _ => format!("failed to freeze {point}: it was given up; it is thawed as soon as it is frozen"),
            })),
        }
    }

    fn check(&self) -> Result<()> {
        self.guard_or_fail()?.check()
    }

    fn thaw(&self, handle: &Handle) -> io::Result<bool> {
        let thawed = fsfreeze::thaw(handle)?;
        if let Some(guardian) = self.guardian() {
            guardian.not_frozen(handle.device());
        }
        Ok(thawed)
    }

    fn thaw_adopted(&self) -> Result<i64> {
        let (table, systems) = self.look(Some(ASK_LIMIT), &|| false)?;
        // The C agent's marker names none.
        let named = self.marker.devices();
        let is_named = |device: Device| named.is_empty() || named.contains(&(device.major, device.minor));
        let mut count = 0;
        for system in systems.iter().rev().filter(|system| is_named(system.device)) {
            // What cannot be opened now could not be opened for freezing either.
            let Ok(handle) = self.open_one(&table, system) else { continue };
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

    fn disarm(&self) {
        crate::log::unmute();
        self.marker.clear();
    }

    fn release(&self) {
        for note in mem::take(&mut *lock(&self.notes)) {
            match note {
                Note::Said(said) => hooks::tell(&said),
                Note::Missing(why) => log::warn!("a file system was not frozen: {why}"),
            }
        }
        let guardian = lock(&self.guard).take();
        if let Some(guardian) = guardian {
            guardian.release();
        }
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
