//! Life cycle of the process: going into the background, the pid file, signals, and sockets handed over by the
//! service manager.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::pipe::PipeFlags;

use crate::platform::linux::errno::{ErrnoText, is_fault_of_disk};
use crate::platform::linux::ffi::{self, Fork};

/// A signal that the agent acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM` or `SIGINT`: end in good order.
    End,
    /// `SIGHUP`: open the log again.
    Reopen,
}

/// The signals, as something to wait for in a loop. They do nothing else from when this is made; children started
/// with [`std::process::Command`] get them back.
#[derive(Debug)]
pub struct Signals(File);

impl Signals {
    /// Takes `SIGTERM`, `SIGINT` and `SIGHUP` over. To be called before any other thread is started.
    ///
    /// # Errors
    /// A line for people.
    pub fn take() -> Result<Self, String> {
        Self::take_these(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
    }

    /// Takes those over by which a service manager ends a whole service, also one whose main process does not listen
    /// any more (`SIGABRT` and `SIGQUIT`), which leave no time to tidy up otherwise. They all read as [`Signal::End`],
    /// but for `SIGHUP`.
    ///
    /// # Errors
    /// A line for people.
    pub fn take_all() -> Result<Self, String> {
        Self::take_these(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGABRT, libc::SIGQUIT])
    }

    fn take_these(signals: &[i32]) -> Result<Self, String> {
        let fd = ffi::signal_fd(signals);
        Ok(Signals(fd.map_err(|e| format!("cannot set up signals: {}", e.errno_text()))?.into()))
    }

    /// The next signal that came; None if there is none. Does not block.
    pub fn next(&self) -> Option<Signal> {
        let mut info = [0; ffi::SIGNAL_INFO_SIZE];
        let n = (&self.0).read(&mut info).ok()?;
        let number = info.get(..n)?.first_chunk()?;
        match i32::from_ne_bytes(*number) {
            libc::SIGHUP => Some(Signal::Reopen),
            _ => Some(Signal::End),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The background process, which has not told yet that it is ready.
#[derive(Debug)]
#[must_use = "the process in the foreground waits for the word"]
pub struct Background {
    parent: File,
}

/// Goes into the background: returns in the new process only.
///
/// The old one waits until the new one says that it is ready, or why not, and ends with 0 or 1 accordingly. To be
/// called before any other thread is started, and before anything is held that a fork does not carry over (a record
/// lock for one).
///
/// # Errors
/// In the old process: there is no second one. A line for people.
pub fn daemonize() -> Result<Background, String> {
    let failed = |e: io::Error| format!("cannot go into the background: {}", e.errno_text());
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    match ffi::fork().map_err(failed)? {
        Fork::Parent => {
            drop(write);
            let status = wait_for_word(File::from(read), io::stderr());
            ffi::exit_now(status)
        }
        Fork::Child => {
            drop(read);
            rustix::process::umask(Mode::RWXG | Mode::RWXO);
            let background = Background { parent: File::from(write) };
            let moved = rustix::process::setsid().map(drop).and_then(|()| rustix::process::chdir("/"));
            match moved {
                Ok(()) => Ok(background),
                Err(e) => background.failed(&failed(e.into())),
            }
        }
    }
}

/// What the process in the foreground does: its exit status.
fn wait_for_word(mut child: impl Read, mut stderr: impl Write) -> i32 {
    let mut word = Vec::new();
    let complaint = match child.read_to_end(&mut word) {
        Ok(_) if word == READY => return 0,
        Ok(0) => "qemu-ga: the background process ended before it was ready\n".into(),
        Ok(_) => word,
        Err(e) => format!("qemu-ga: no word from the background process: {}\n", e.errno_text()).into_bytes(),
    };
    // If standard error is gone, the status has to do.
    let _ = stderr.write_all(&complaint);
    1
}

const READY: &[u8] = b"\0";

impl Background {
    /// Everything is set up: lets go of the terminal, and the process in the foreground end with 0.
    pub fn ready(mut self) {
        if let Err(e) = standard_streams_to_null() {
            log::warn!("cannot let go of the standard streams: {}", e.errno_text());
        }
        crate::log::stderr_is_gone();
        // Whoever waited may be gone already.
        let _ = self.parent.write_all(READY);
    }

    /// Ends this process; the one in the foreground shows the line and ends with 1.
    pub fn failed(mut self, message: &str) -> ! {
        // Whoever waited may be gone already.
        let _ = writeln!(self.parent, "qemu-ga: {message}");
        ffi::exit_now(1)
    }
}

fn standard_streams_to_null() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// The pid file: held and locked for as long as this lives, and removed with it. A file that is another process's is
/// never touched.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Creates the file, locks it and writes our process id into it. The lock belongs to the process and not to its
    /// children, so call this after [`daemonize`]. None if its disk is read-only or full or fails: that is logged, and no
    /// reason to be without an agent.
    ///
    /// # Errors
    /// A line for people; `Cannot lock pid file: Resource temporarily unavailable` if another agent runs.
    pub fn create(path: &Path) -> Result<Option<Self>, String> {
        let failed = |what: &str, e: Errno| format!("Cannot {what} pid file: {}", e.errno_text());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        loop {
            let fd = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => fd,
                Err(e) => {
                    let text = format!("Cannot open pid file {}: {}", path.display(), e.errno_text());
                    if !is_fault_of_disk(&e.into()) {
                        return Err(text);
                    }
                    log::warn!("{text}");
                    return Ok(None);
                }
            };
            rustix::fs::fcntl_lock(&fd, FlockOperation::NonBlockingLockExclusive).map_err(|e| failed("lock", e))?;
            let pid_file = PidFile { path: path.to_owned(), file: File::from(fd) };
            // Its former owner may have removed it between our opening and our locking.
            if !pid_file.is_ours() {
                continue;
            }
            let write = || {
                rustix::fs::ftruncate(&pid_file.file, 0)?;
                (&pid_file.file).write_all(format!("{}\n", std::process::id()).as_bytes())
            };
            return match write() {
                Ok(()) => Ok(Some(pid_file)),
                Err(e) if is_fault_of_disk(&e) => {
                    log::warn!("Cannot write pid file: {}", e.errno_text());
                    // It is locked all the same.
                    Ok(Some(pid_file))
                }
                Err(e) => Err(format!("Cannot write pid file: {}", e.errno_text())),
            };
        }
    }

    /// Whether the path still names the file that we hold.
    fn is_ours(&self) -> bool {
        match (self.file.metadata(), self.path.symlink_metadata()) {
            (Ok(held), Ok(named)) => held.dev() == named.dev() && held.ino() == named.ino(),
            _ => false,
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.is_ours() {
            // A file that cannot be removed is stale and unlocked; the next agent takes it over.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether what lies at `path` can be written while file systems are frozen: it is in memory, where nothing can be
/// frozen. An agent that starts frozen leaves its pid file until later if not.
pub fn is_never_frozen(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The field has a sign on some machines, and 32 bits on others.
    #[allow(clippy::unnecessary_cast, reason = "the type differs between machines")]
    rustix::fs::statfs(dir).is_ok_and(|s| matches!(s.f_type as u64 & 0xffff_ffff, TMPFS | RAMFS))
}

/// What kind of socket was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenFamily {
    /// `unix-listen`.
    Unix,
    /// `vsock-listen`.
    Vsock,
}

impl ListenFamily {
    /// The channel method that this amounts to.
    pub fn method(self) -> &'static str {
        match self {
            ListenFamily::Unix => "unix-listen",
            ListenFamily::Vsock => "vsock-listen",
        }
    }
}

/// A listening socket handed over by the service manager. Its file, if any, is not ours to remove.
#[derive(Debug)]
pub struct Activation {
    /// The socket.
    pub socket: OwnedFd,
    /// Its kind.
    pub family: ListenFamily,
}

/// The first of the descriptors that are handed over.
const FIRST_LISTEN_FD: i32 = 3;

impl Activation {
    /// Takes over what systemd's socket activation gave us; None if it gave nothing. The variables are removed from
    /// the environment, so call this before any other thread is started, and once.
    ///
    /// # Errors
    /// What was given is not one listening socket of a kind that we know; a line for people.
    pub fn take() -> Result<Option<Self>, String> {
        let pid = env::var("LISTEN_PID").ok();
        let fds = env::var("LISTEN_FDS").ok();
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            if env::var_os(name).is_some() {
                ffi::remove_env(name);
            }
        }
        if !is_activated(pid.as_deref(), fds.as_deref(), std::process::id())? {
            return Ok(None);
        }
        let socket = ffi::inherited_fd(FIRST_LISTEN_FD).map_err(|e| {
            format!("Socket activation failed: invalid file descriptor fd = {FIRST_LISTEN_FD}: {}", e.errno_text())
        })?;
        let family = listen_family(&socket).ok_or("unsupported listen fd type")?;
        Ok(Some(Activation { socket, family }))
    }
}

/// Whether exactly one descriptor was handed to this very process.
fn is_activated(pid: Option<&str>, fds: Option<&str>, own: u32) -> Result<bool, String> {
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<u32>().ok());
    match (number(pid), number(fds)) {
        (Some(pid), Some(fds)) if pid == own && fds > 0 => match fds {
            1 => Ok(true),
            _ => Err("qemu-ga only supports listening on one socket".into()),
        },
        _ => Ok(false),
    }
}

fn listen_family(socket: &OwnedFd) -> Option<ListenFamily> {
    use rustix::net::sockopt;
    if !sockopt::socket_acceptconn(socket).ok()? {
        return None;
    }
    match sockopt::socket_domain(socket).ok()? {
        AddressFamily::UNIX => Some(ListenFamily::Unix),
        AddressFamily::VSOCK => Some(ListenFamily::Vsock),
        _ => None,
    }
}

/// To be called first thing in `main`. (That a broken pipe is an error code and no
/// signal, and that the three standard descriptors are open, Rust's start-up code has seen to by then.)
pub fn start() {
    ffi::keep_ended_children();
}

#[cfg(test)]
mod tests;
