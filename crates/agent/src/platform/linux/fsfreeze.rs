//! Freezing and thawing one file system, and opening one for that: `FIFREEZE`, `FITHAW`.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::ffi;
use super::mountinfo::{Device, FileSystem, Table};
use super::root::Root;

/// An open file or directory of a file system: enough to freeze, thaw and trim it, with no path looked up again.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    point: PathBuf,
    device: Device,
}

impl Handle {
    /// Wraps what is open already.
    pub fn new(fd: OwnedFd, point: PathBuf, device: Device) -> Self {
        Handle { fd, point, device }
    }

    /// The mount point through which it was opened.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Device number of the file system, as the mount table has it.
    pub fn device(&self) -> Device {
        self.device
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Why a file system could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// No path leads to a file or directory of it: other mounts cover all of its own, or it has been unmounted
    /// meanwhile, or nothing but sockets and the like is mounted.
    Unreachable,
    /// A path leads there, but opening it failed.
    Failed {
        /// The mount point that was tried.
        point: PathBuf,
        /// How it failed.
        errno: Errno,
    },
    /// It did not come to an end in time, or it was given up: a path below a mount whose server is gone, say.
    TooLate,
}

/// Opens a file system through the first of its mounts that can be opened, directories before files (a container's
/// `/etc/hosts` is a mount, too). What was opened is checked to belong to this file system: a path may lead to
/// another one that has been mounted over it. Sockets, FIFOs and device nodes are never opened.
///
/// # Errors
/// The first failure, when no mount could be opened.
pub fn open(root: &Root, table: &Table, system: &FileSystem) -> Result<Handle, OpenError> {
    let mut failed = None;
    let mut files = Vec::new();
    for mount in system.mounts.iter().filter(|mount| table.is_reachable(mount)) {
        match open_directory(&root.path(&mount.point)) {
            Ok(fd) if belongs(root, &fd, system) => return Ok(Handle::new(fd, mount.point.clone(), system.device)),
            Ok(_) => {}
            Err(Errno::NOTDIR) => files.push(mount),
            Err(errno) => {
                failed.get_or_insert(OpenError::Failed { point: mount.point.clone(), errno });
            }
        }
    }
    for mount in files {
        match open_file(&root.path(&mount.point)) {
            Ok(Some(fd)) if belongs(root, &fd, system) => {
                return Ok(Handle::new(fd, mount.point.clone(), system.device));
            }
            Ok(_) => {}
            Err(errno) => {
                failed.get_or_insert(OpenError::Failed { point: mount.point.clone(), errno });
            }
        }
    }
    Err(failed.unwrap_or(OpenError::Unreachable))
}

/// What was given up and has not come to an end. It is not tried again until then: each attempt would leave one more
/// thread behind.
#[derive(Debug, Clone, Default)]
pub struct Hanging(Arc<Mutex<Vec<Option<Device>>>>);

impl Hanging {
    /// Like [`open`], which may hang on a path below a mount whose server does not answer: not for longer than `limit`,
    /// nor once `give_up` says so.
    ///
    /// # Errors
    /// Those of [`open`], or [`OpenError::TooLate`]; that at once while an earlier attempt hangs.
    pub fn open_within(
        &self,
        limit: Option<Duration>,
        give_up: &dyn Fn() -> bool,
        root: &Root,
        table: &Arc<Table>,
        system: &FileSystem,
    ) -> Result<Handle, OpenError> {
        let (point, device) = (system.point().to_owned(), system.device);
        let (root, table, system) = (root.clone(), Arc::clone(table), system.clone());
        match self.within(Some(device), limit, give_up, move || open(&root, &table, &system)) {
            Ok(opened) => opened,
            Err(FreezeError::TooLate) => Err(OpenError::TooLate),
            Err(FreezeError::Failed(errno)) => Err(OpenError::Failed { point, errno }),
        }
    }

    /// Does something that may hang: for a file system, or for all of them together.
    ///
    /// # Errors
    /// Those of [`within`]; [`FreezeError::TooLate`] at once while an earlier attempt hangs.
    pub fn within<T: Send + 'static>(
        &self,
        what: Option<Device>,
        limit: Option<Duration>,
        give_up: &dyn Fn() -> bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FreezeError> {
        if self.lock().contains(&what) {
            return Err(FreezeError::TooLate);
        }
        let ended = Arc::new(AtomicBool::new(false));
        let late = {
            let (hanging, ended) = (self.clone(), Arc::clone(&ended));
            move |result| {
                drop(result);
                let mut list = hanging.lock();
                ended.store(true, Ordering::SeqCst);
                list.retain(|other| *other != what);
            }
        };
        let result = within(limit, give_up, work, late);
        if matches!(result, Err(FreezeError::TooLate)) {
            let mut list = self.lock();
            // It may have come to its end between being given up and now.
            if !ended.load(Ordering::SeqCst) {
                list.push(what);
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Device>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a regular file; none if it is anything else, as opening a FIFO blocks and a device may act.
fn open_file(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let look = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&look)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(Some)
}

/// Whether an open file lies in a file system. The number of its mount decides, which Linux tells since 5.8 by
/// `statx`, since 3.15 in `/proc/self/fdinfo`; before, the device number does, except on btrfs, where files have
/// other numbers than the file system.
fn belongs(root: &Root, fd: &OwnedFd, system: &FileSystem) -> bool {
    match mount_id(root, fd) {
        Some(id) => system.has_mount(id),
        None if system.device.major == 0 => true,
        None => rustix::fs::fstat(fd).is_ok_and(|stat| Device::from_raw(stat.st_dev) == system.device),
    }
}

/// The number of the mount through which a file is open, as the mount table has it; `None` where the kernel is too
/// old to tell.
pub fn mount_id(root: &Root, fd: &OwnedFd) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    if let Ok(stat) = rustix::fs::statx(fd, c"", flags, StatxFlags::MNT_ID) {
        if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
            return Some(stat.stx_mnt_id);
        }
    }
    let info = fs::read_to_string(root.path(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// Freezes. Blocks until everything is written back.
///
/// True: it is frozen now. False: it cannot be frozen (no support) or somebody else has frozen it; both are passed
/// over, as the C agent does. A read-only file system can be frozen.
///
/// # Errors
/// Any other failure.
pub fn freeze(handle: &Handle) -> Result<bool, Errno> {
    loop {
        match ffi::fifreeze(handle.as_fd()) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::BUSY) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
}

/// Why a file system is not frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezeError {
    /// The kernel said so.
    Failed(Errno),
    /// It did not come to an end in time, or it was given up.
    TooLate,
}

/// How often somebody who waits looks whether to go on.
const STEP: Duration = Duration::from_millis(50);

/// Does something that may hang on a thread of its own and waits for it, up to `limit` or until `give_up` says so. A
/// result that comes later is given to `late`, on that thread.
///
/// # Errors
/// [`FreezeError::TooLate`]; `late` will be called. Or there is no thread.
pub fn within<T: Send + 'static>(
    limit: Option<Duration>,
    give_up: &dyn Fn() -> bool,
    work: impl FnOnce() -> T + Send + 'static,
    late: impl FnOnce(T) + Send + 'static,
) -> Result<T, FreezeError> {
    struct Meeting<T> {
        result: Option<T>,
        given_up: bool,
    }
    let meeting = Arc::new((Mutex::new(Meeting { result: None, given_up: false }), Condvar::new()));
    let theirs = Arc::clone(&meeting);
    let run = move || {
        let result = work();
        let mut meeting = theirs.0.lock().unwrap_or_else(PoisonError::into_inner);
        if meeting.given_up {
            drop(meeting);
            late(result);
        } else {
            meeting.result = Some(result);
            theirs.1.notify_one();
        }
    };
    let started = thread::Builder::new().name("freeze".into()).stack_size(128 << 10).spawn(run);
    let thread = started.map_err(|e| FreezeError::Failed(Errno::from_io_error(&e).unwrap_or(Errno::AGAIN)))?;
    let since = Instant::now();
    let mut state = meeting.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(result) = state.result.take() {
            drop(state);
            // It has nothing left to do; this way none is there when the process splits in two.
            let _ = thread.join();
            return Ok(result);
        }
        let left = limit.map_or(STEP, |limit| limit.saturating_sub(since.elapsed()).min(STEP));
        if left.is_zero() || thread.is_finished() || give_up() {
            state.given_up = true;
            return Err(FreezeError::TooLate);
        }
        state = meeting.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Whether a file system is frozen. Asks by freezing it for a moment, as the kernel has no other way to tell.
///
/// # Errors
/// It cannot be told.
pub fn is_frozen(handle: &Handle) -> Result<bool, Errno> {
    loop {
        match ffi::fifreeze(handle.as_fd()) {
            Ok(()) => return thaw(handle).map(|_| false),
            Err(Errno::INTR) => {}
            Err(Errno::BUSY) => return Ok(true),
            Err(Errno::OPNOTSUPP) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
}

/// Ends one freeze. False: it was not frozen; somebody else has thawed it.
///
/// # Errors
/// Any other failure; it is still frozen then.
pub fn thaw(handle: &Handle) -> Result<bool, Errno> {
    loop {
        match ffi::fithaw(handle.as_fd()) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::INVAL) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
}

/// Ends all freezes of a file system, however often it was frozen. Tells whether there was one.
///
/// # Errors
/// A failure other than "not frozen"; it may still be frozen then.
pub fn thaw_fully(handle: &Handle) -> Result<bool, Errno> {
    let mut any = false;
    // Kernels count freezes, but not far.
    for _ in 0..1000 {
        match thaw(handle) {
            Ok(true) => any = true,
            // What has no support for it was not frozen.
            Ok(false) | Err(Errno::OPNOTSUPP) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(any)
}

#[cfg(test)]
#[path = "fsfreeze/tests.rs"]
mod tests;
