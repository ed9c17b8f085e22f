//! The agent's end: starting a guardian, keeping it informed, and taking over the one of an agent that is gone.

use std::borrow::Borrow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qga_proto::Error;
use qga_proto::error::Result;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::message::{Message, Reason, SIZE};
use super::{ARGUMENT, GRACE};
use crate::platform::linux::child;
use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::ffi;
use crate::platform::linux::fsfreeze::Handle;
use crate::platform::linux::mountinfo::Device;
use crate::platform::linux::packets::Packets;

/// How long a guardian may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How much later than the guardian we thaw ourselves, should it have been killed.
const MARGIN: Duration = Duration::from_secs(5);

/// How a guard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// [`Client::release`] was called.
    Released,
    /// The guardian has thawed.
    Thawed(Reason),
    /// The deadline has passed and the guardian, if it is still there, has said nothing.
    Overdue,
}

/// A guardian that is at work.
#[derive(Debug)]
pub struct Client {
    socket: Packets,
    name: String,
    /// None for a guardian that another agent has started.
    child: Mutex<Option<Child>>,
    state: Mutex<State>,
    /// Becomes readable when the guard is over.
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    deadline: Option<Instant>,
    /// File systems whose freeze was given up and may still come.
    late: usize,
    released: bool,
}

/// What came of trying to take over.
#[derive(Debug)]
pub enum TakeOver {
    /// It is ours.
    Taken(Taken),
    /// There is a guardian, whose agent lives, or which has begun to thaw.
    Busy,
    /// There is no guardian.
    Nobody,
}

/// What an agent that is gone has left behind.
#[derive(Debug)]
pub struct Taken {
    /// Its guardian, now ours.
    pub client: Client,
    /// What it had frozen, in the order of freezing.
    pub handles: Vec<Handle>,
    /// The hooks that were run with `freeze`, in that order.
    pub hooks: Vec<PathBuf>,
}

/// What a guardian has to know from the beginning.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The agent's program.
    pub program: &'a Path,
    /// The state directory.
    pub statedir: &'a Path,
    /// How long one hook may run.
    pub hook_limit: Duration,
    /// How long all hooks may run.
    pub hooks_limit: Duration,
}

impl Client {
    /// Starts a guardian.
    ///
    /// # Errors
    /// `failed to start the guardian of the freeze: <why>`
    pub fn start(start: &Start<'_>) -> Result<Self> {
        let failed = |what: String| Error::generic(format!("failed to start the guardian of the freeze: {what}"));
        let (socket, theirs) = Packets::pair().map_err(|e| failed(e.errno_text()))?;
        let wake = new_wake().map_err(|e| failed(e.errno_text()))?;
        let mut command = Command::new(start.program);
        // What `ps` shows; `pidof qemu-ga` has to find the agent only.
        command.arg0("qemu-ga-guardian").arg(ARGUMENT).current_dir("/");
        let given = theirs.as_raw_fd();
        command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        ffi::start_afresh(&mut command);
        let child = child::spawn_apart(&mut command, &[given]).map_err(|e| failed(e.errno_text()))?;
        // Holds the other end of the socket, whose closing is to be noticed.
        drop(command);
        let name = new_name(child.id());
        let client = Client { socket, name, child: Mutex::new(Some(child)), state: Mutex::default(), wake };
        let setup = Message::Setup {
            hook_limit: start.hook_limit.as_secs(),
            hooks_limit: start.hooks_limit.as_secs(),
            name: client.name.as_bytes(),
            statedir: start.statedir.as_os_str().as_bytes(),
        };
        match client.ask(&setup, |message| (message == Message::Ready).then_some(())) {
            Ok(()) => Ok(client),
            Err(errno) => {
                client.reap(true);
                Err(failed(errno.errno_text()))
            }
        }
    }

    /// Takes over from an agent that is gone, if its guardian still waits for that.
    pub fn take_over(name: &str) -> TakeOver {
        match Packets::connect(name.as_bytes()) {
            Ok(socket) if socket.is_trusted() => match Self::ask_for_all(socket, name) {
                Ok(taken) => TakeOver::Taken(taken),
                // It is just ending.
                Err(Errno::PIPE | Errno::CONNRESET) => TakeOver::Nobody,
                Err(_) => TakeOver::Busy,
            },
            _ => TakeOver::Nobody,
        }
    }

    fn ask_for_all(socket: Packets, name: &str) -> std::result::Result<Taken, Errno> {
        let wake = new_wake()?;
        let (mut handles, mut hooks) = (Vec::new(), Vec::new());
        let mut deadline = None;
        let mut buf = [0; SIZE];
        loop {
            if !wait(&[&socket.as_fd()], Some(ANSWER))? {
                return Err(Errno::TIMEDOUT);
            }
            let packet = socket.receive(&mut buf, false)?;
            match buf.get(..packet.len).and_then(Message::read).ok_or(Errno::PIPE)? {
                Message::Hold { device, frozen, point } => {
                    let point = PathBuf::from(std::ffi::OsString::from_vec(point.to_vec()));
                    if frozen {
                        handles.push(Handle::new(packet.fd.ok_or(Errno::BADF)?, point, device));
                    }
                }
                Message::Hook(path) => hooks.push(PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()))),
                Message::Arm(0) => {}
                Message::Arm(seconds) => deadline = Instant::now().checked_add(Duration::from_secs(seconds)),
                Message::Over => break,
                _ => return Err(Errno::BUSY),
            }
        }
        let state = State { deadline, ..State::default() };
        let client = Client { socket, name: name.to_owned(), child: Mutex::default(), state: Mutex::new(state), wake };
        Ok(Taken { client, handles, hooks })
    }

    /// Where a later agent finds the guardian; see [`Client::take_over`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A hook is about to be run with `freeze`.
    ///
    /// # Errors
    /// The guardian is gone.
    pub fn hook(&self, program: &Path) -> Result<()> {
        self.tell(&Message::Hook(program.as_os_str().as_bytes()), None)
    }

    /// A hook was run with `thaw`.
    pub fn hook_done(&self, program: &Path) {
        // Nothing is lost by a hook that runs once more.
        let _ = self.tell(&Message::HookDone(program.as_os_str().as_bytes()), None);
    }

    /// Hands over what is going to be frozen, and lets the time run: `timeout` from now on.
    ///
    /// # Errors
    /// The guardian is gone, or does not answer.
    pub fn arm(&self, handles: &[impl Borrow<Handle>], timeout: Option<Duration>) -> Result<()> {
        for handle in handles.iter().map(Borrow::borrow) {
            let point = handle.point().as_os_str().as_bytes();
            self.tell(&Message::Hold { device: handle.device(), frozen: false, point }, Some(handle))?;
        }
        self.lock().deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let seconds = timeout.map_or(0, |timeout| timeout.as_secs().max(1));
        self.ask(&Message::Arm(seconds), |message| (message == Message::Armed).then_some(())).map_err(gone)
    }

    /// A file system is about to be frozen.
    ///
    /// # Errors
    /// The guardian is gone: it must not be.
    pub fn freezing(&self, device: Device) -> Result<()> {
        self.tell(&Message::Freezing(device), None)
    }

    /// A file system is frozen.
    pub fn frozen(&self, device: Device) {
        // It was told before that this might come.
        let _ = self.tell(&Message::Frozen(device), None);
    }

    /// A file system is not frozen any more, or was not frozen by us.
    pub fn not_frozen(&self, device: Device) {
        let _ = self.tell(&Message::NotFrozen(device), None);
    }

    /// Whether the guard still stands.
    ///
    /// # Errors
    /// It has thawed, or is gone.
    pub fn check(&self) -> Result<()> {
        let mut buf = [0; SIZE];
        match self.socket.receive(&mut buf, false) {
            Err(Errno::AGAIN) => Ok(()),
            Ok(packet) if packet.len > 0 => {
                let text = match buf.get(..packet.len).and_then(Message::read) {
                    Some(Message::Thawed { reason: Reason::Deadline, .. }) => {
                        "freezing took longer than file systems may be frozen"
                    }
                    _ => "freezing was called off by a signal to the guardian of the freeze",
                };
                Err(Error::generic(text))
            }
            Ok(_) => Err(gone(Errno::PIPE)),
            Err(errno) => Err(gone(errno)),
        }
    }

    /// Waits until the guard is over, in whatever way.
    pub fn wait(&self) -> Ending {
        let mut lost = false;
        let mut buf = [0; SIZE];
        loop {
            let (deadline, released) = {
                let state = self.lock();
                (state.deadline, state.released)
            };
            if released {
                return Ending::Released;
            }
            let left = deadline.map(|at| (at + MARGIN).saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ending::Overdue;
            }
            let (wake, socket) = (self.wake.as_fd(), self.socket.as_fd());
            let both = [&wake, &socket];
            // Waiting cannot fail but for want of memory, which comes back.
            let _ = wait(if lost { both.get(..1).unwrap_or(&[]) } else { &both }, left);
            if lost || self.lock().released {
                continue;
            }
            match self.socket.receive(&mut buf, false) {
                Ok(packet) if packet.len > 0 => {
                    if let Some(Message::Thawed { reason, .. }) = buf.get(..packet.len).and_then(Message::read) {
                        return Ending::Thawed(reason);
                    }
                }
                Err(Errno::AGAIN) => {}
                // Killed: the deadline is ours alone now.
                _ => lost = true,
            }
        }
    }

    /// A freeze was given up and may still come; the guardian stays until [`Client::late_is_over`].
    pub fn expect_late(&self) {
        self.lock().late += 1;
    }

    /// A freeze that was given up has ended, and is undone.
    pub fn late_is_over(&self) {
        let mut state = self.lock();
        state.late = state.late.saturating_sub(1);
        let last = state.released && state.late == 0;
        drop(state);
        if last {
            self.dismiss();
        }
    }

    /// All is undone.
    pub fn release(&self) {
        let mut state = self.lock();
        let last = !std::mem::replace(&mut state.released, true) && state.late == 0;
        drop(state);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        if last {
            self.dismiss();
        }
    }

    /// Whether [`Client::release`] was called.
    pub fn is_released(&self) -> bool {
        self.lock().released
    }

    fn dismiss(&self) {
        let _ = self.tell(&Message::Done, None);
        self.reap(false);
    }

    /// Waits for the process to end, so that nothing of it is left.
    fn reap(&self, kill: bool) {
        let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let until = Instant::now() + if kill { Duration::ZERO } else { GRACE };
        while Instant::now() < until {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        child::reap(child);
    }

    fn tell(&self, message: &Message<'_>, handle: Option<&Handle>) -> Result<()> {
        let mut bytes = Vec::with_capacity(SIZE);
        message.write(&mut bytes);
        self.socket.send(&bytes, handle.map(AsFd::as_fd)).map_err(gone)
    }

    fn ask<T>(&self, message: &Message<'_>, take: impl Fn(Message<'_>) -> Option<T>) -> std::result::Result<T, Errno> {
        let mut buf = Vec::with_capacity(SIZE);
        message.write(&mut buf);
        self.socket.send(&buf, None)?;
        let mut buf = [0; SIZE];
        if !wait(&[&self.socket.as_fd()], Some(ANSWER))? {
            return Err(Errno::TIMEDOUT);
        }
        let packet = self.socket.receive(&mut buf, false)?;
        buf.get(..packet.len).and_then(Message::read).and_then(take).ok_or(Errno::PIPE)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone(errno: Errno) -> Error {
    Error::generic(format!("the guardian of the freeze is gone: {}", errno.errno_text()))
}

fn new_wake() -> std::result::Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

/// A name that nobody can have taken before.
fn new_name(pid: u32) -> String {
    let mut random = [0; 8];
    let flags = rustix::rand::GetRandomFlags::NONBLOCK;
    if rustix::rand::getrandom(&mut random, flags).is_err() {
        // Early in the boot of an old kernel; the number of the process has to do.
        random = [0; 8];
    }
    format!("qemu-ga-guardian-{pid}-{:016x}", u64::from_ne_bytes(random))
}

/// Waits until one of them can be read; false if that did not come in time.
fn wait(fds: &[&impl AsFd], limit: Option<Duration>) -> std::result::Result<bool, Errno> {
    let mut fds: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(&mut fds, limit.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(errno),
    }
}
