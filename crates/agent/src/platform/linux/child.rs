//! External programs: bounded in time and output, in a session of their own, always reaped.
//!
//! What a program leaves running in the background does not hold us, even when it keeps the output pipe open; what
//! it writes there after we have gone meets a closed pipe.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{self, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use qga_proto::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, Mode, OFlags};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, waitpid};

use super::errno::ErrnoText;
use super::ffi;
use super::root::Root;

/// A stack for the start of a program.
const STACK: usize = 128 << 10;

/// Most bytes of a program's output that are kept; the rest is read and dropped.
pub const OUTPUT_KEPT: usize = 64 << 10;

/// How long after a program's end we wait for the last of its output while something else holds the pipe open.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// How long a killed program may take to go (it may be inside a hung system call) before it is left to a thread
/// that reaps it.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// How often a program is asked after on kernels before 5.3, which have no descriptor for a process.
const WAIT_STEP: Duration = Duration::from_millis(20);

/// How often it is asked whether a program is to be given up.
const GIVE_UP_STEP: Duration = Duration::from_millis(50);

/// Files that the host opens have descriptors from this number on.
pub const FILES_FROM: i32 = 512;

/// Names and values of an environment.
type Variables = &'static [(&'static str, &'static str)];

/// The environment of programs that are not to be led astray by the one that the daemon was started with.
pub const CLEAN: Variables = &[("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C")];

/// Whether this process is less likely than others to be ended when memory runs out, and so what it starts.
pub(super) fn is_favoured() -> bool {
    let mut sign = [0_u8];
    let score = rustix::fs::open(FAVOUR, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    score.is_ok_and(|score| rustix::io::read(&score, &mut sign).is_ok() && sign == *b"-")
}

/// Makes this process as likely as any other to be ended when memory runs out, if it was less likely: who spared the
/// agent did not mean what it starts. For a child before it becomes a program: nothing is allocated, and what cannot be
/// done is left.
pub(super) fn give_up_favour() {
    if !is_favoured() {
        return;
    }
    if let Ok(score) = rustix::fs::open(FAVOUR, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&score, b"0");
    }
}

/// Where the kernel says so, and is told otherwise.
const FAVOUR: &CStr = c"/proc/self/oom_score_adj";

/// A program to run.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// Its absolute path. A file that the kernel cannot run, such as a script without `#!`, is given to `/bin/sh`.
    pub program: &'a Path,
    /// What it is given behind its own name.
    pub args: &'a [&'a OsStr],
    /// What it can read from standard input; `None` is `/dev/null`.
    pub input: Option<&'a [u8]>,
    /// When it and all that it started is killed, unless that has left its process group.
    pub deadline: Duration,
    /// What it does, for error texts: `failed to <action>`.
    pub action: &'a str,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The exit status, or the signal that ended it.
    pub end: End,
    /// The first [`OUTPUT_KEPT`] bytes of what it wrote to standard output and error.
    pub output: Vec<u8>,
}

/// The two ways to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl Command<'_> {
    /// Runs the program to its end.
    ///
    /// # Errors
    ///
    /// Whatever kept it from ending with exit status 0, in the C agent's words, with what it wrote.
    pub fn run(&self) -> Result<()> {
        let outcome = self.outcome()?;
        outcome.check(self.action)
    }

    /// Runs the program to its end, whatever its exit status.
    ///
    /// # Errors
    ///
    /// That it could not be started, fed, read from or waited for, or did not end in time.
    pub fn outcome(&self) -> Result<Outcome> {
        self.start(None)?.finish(None)
    }

    /// Like [`outcome`](Self::outcome), but the program is killed as soon as `give_up` says so, too.
    ///
    /// # Errors
    ///
    /// As [`outcome`](Self::outcome).
    pub fn outcome_unless(&self, give_up: &dyn Fn() -> bool) -> Result<Outcome> {
        self.start(None)?.finish(Some(give_up))
    }

    /// Like [`outcome`](Self::outcome), with [`CLEAN`] for an environment instead of the daemon's own.
    ///
    /// # Errors
    ///
    /// As [`outcome`](Self::outcome).
    pub fn outcome_clean(&self) -> Result<Outcome> {
        self.start(Some(CLEAN))?.finish(None)
    }

    fn start(&self, environment: Option<Variables>) -> Result<Running<'_>> {
        let no_pipe = |_| Error::generic("cannot create pipe FDs");
        let (output, stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(no_pipe)?;
        let input = self.input.map(|_| pipe_with(PipeFlags::CLOEXEC).map_err(no_pipe)).transpose()?;
        let (stdin, input) = input.unzip();
        let child = self.spawn(environment, stdin, stdout)?;
        let pidfd = pid_of(&child).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        for ours in [Some(&output), input.as_ref()].into_iter().flatten() {
            if let Err(errno) = ioctl_fionbio(ours, true) {
                reap(child);
                return Err(self.failed("cannot read from stdout/stderr pipe", errno));
            }
        }
        Ok(Running {
            command: self,
            child,
            pidfd,
            output: Some(output),
            kept: Vec::new(),
            input,
            unwritten: self.input.unwrap_or_default(),
            input_failed: None,
        })
    }

    fn spawn(&self, environment: Option<Variables>, stdin: Option<OwnedFd>, stdout: OwnedFd) -> Result<process::Child> {
        let started = self.try_spawn(environment, self.program, None, stdin.as_ref(), &stdout);
        // The C library's search for programs may have done this already, but not every C library does.
        let started = match started {
            Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
                self.try_spawn(environment, Path::new("/bin/sh"), Some(self.program), stdin.as_ref(), &stdout)
            }
            other => other,
        };
        started.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE) => Error::generic("cannot create pipe FDs"),
            Some(errno @ (Errno::AGAIN | Errno::NOMEM)) => {
                Error::generic(format!("failed to create child process: {}", errno.errno_text()))
            }
            _ => Error::generic(format!(
                "child process has failed to {}: failed to exec '{}': {}\n",
                self.action,
                self.program.display(),
                error.errno_text()
            )),
        })
    }

    fn try_spawn(
        &self,
        environment: Option<Variables>,
        program: &Path,
        script: Option<&Path>,
        stdin: Option<&OwnedFd>,
        stdout: &OwnedFd,
    ) -> io::Result<process::Child> {
        let mut command = process::Command::new(program);
        if let Some(variables) = environment {
            command.env_clear().envs(variables.iter().copied());
        }
        command.args(script).args(self.args);
        let stdin = stdin.map(OwnedFd::try_clone).transpose()?;
        let streams = [stdout.try_clone()?, stdout.try_clone()?];
        let given: Vec<RawFd> = stdin.iter().chain(&streams).map(AsRawFd::as_raw_fd).collect();
        command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
        let [stdout, stderr] = streams;
        command.stdout(stdout).stderr(stderr);
        ffi::start_afresh(&mut command);
        spawn_apart(&mut command, &given)
    }

    fn failed(&self, what: &str, errno: Errno) -> Error {
        Error::generic(format!("{}: {what}: {}", self.action, errno.errno_text()))
    }

    fn given_up(&self) -> Error {
        let program = self.program.display();
        Error::generic(format!("child process has failed to {}: '{program}' was given up and killed", self.action))
    }

    fn too_late(&self) -> Error {
        Error::generic(format!(
            "child process has failed to {}: '{}' did not end within {} seconds and was killed",
            self.action,
            self.program.display(),
            self.deadline.as_secs_f64()
        ))
    }
}

impl Outcome {
    /// Success is exit status 0; everything else is told in the C agent's words.
    ///
    /// # Errors
    ///
    /// How the program ended, with its output where there is any and its exit status where there is none.
    pub fn check(&self, action: &str) -> Result<()> {
        let said = self.text();
        Err(Error::generic(match self.end {
            End::Exited(0) => return Ok(()),
            End::Exited(status) if said.is_empty() => {
                format!("child process has failed to {action}: exit status {status}")
            }
            End::Exited(_) => format!("child process has failed to {action}: {said}"),
            End::Killed(_) if said.is_empty() => "child process has terminated abnormally".to_owned(),
            End::Killed(_) => format!("child process has terminated abnormally: {said}"),
        }))
    }

    /// The output as text, up to the first NUL.
    pub fn text(&self) -> String {
        let text = self.output.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

/// A program that runs, and our ends of its pipes.
struct Running<'a> {
    command: &'a Command<'a>,
    child: process::Child,
    pidfd: Option<OwnedFd>,
    output: Option<OwnedFd>,
    kept: Vec<u8>,
    input: Option<OwnedFd>,
    unwritten: &'a [u8],
    input_failed: Option<Errno>,
}

impl fmt::Debug for Running<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("command", self.command).field("child", &self.child).finish_non_exhaustive()
    }
}

impl Running<'_> {
    fn finish(mut self, give_up: Option<&dyn Fn() -> bool>) -> Result<Outcome> {
        match self.follow(give_up) {
            Ok(status) => self.outcome(status),
            Err(error) => {
                reap(self.child);
                Err(error)
            }
        }
    }

    /// Feeds and reads until the program has ended and its output is closed (or has had its grace).
    fn follow(&mut self, give_up: Option<&dyn Fn() -> bool>) -> Result<ExitStatus> {
        let deadline = Instant::now().checked_add(self.command.deadline);
        let mut ended: Option<(ExitStatus, Instant)> = None;
        loop {
            let now = Instant::now();
            let until = match ended {
                Some((status, at)) => {
                    if self.output.is_none() || now >= at {
                        return Ok(status);
                    }
                    Some(at)
                }
                None if deadline.is_some_and(|deadline| now >= deadline) => return Err(self.command.too_late()),
                None if give_up.is_some_and(|give_up| give_up()) => return Err(self.command.given_up()),
                None if give_up.is_some() => Some(deadline.map_or(now + GIVE_UP_STEP, |at| at.min(now + GIVE_UP_STEP))),
                None => deadline,
            };
            self.wait_for_something(until.map(|until| until.saturating_duration_since(now)), ended.is_some())?;
            // Asked before the pipe is read: what the program wrote before its end is then in what is read.
            if ended.is_none() {
                let status = self.child.try_wait().map_err(|error| {
                    Error::generic(format!(
                        "failed to wait for child (pid: {}): {}",
                        self.child.id(),
                        error.errno_text()
                    ))
                })?;
                ended = status.map(|status| (status, Instant::now() + OUTPUT_GRACE));
            }
            self.feed();
            self.drain()?;
        }
    }

    fn wait_for_something(&self, limit: Option<Duration>, ended: bool) -> Result<()> {
        let mut fds = Vec::with_capacity(3);
        if let Some(output) = &self.output {
            fds.push(PollFd::new(output, PollFlags::IN));
        }
        if !ended {
            fds.extend(self.input.iter().map(|input| PollFd::new(input, PollFlags::OUT)));
            fds.extend(self.pidfd.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        }
        let limit = match &self.pidfd {
            Some(_) => limit,
            None => Some(limit.map_or(WAIT_STEP, |limit| limit.min(WAIT_STEP))),
        };
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(self.command.failed("cannot read from stdout/stderr pipe", errno)),
        }
    }

    /// Writes what the program's standard input takes; closes it when all is written or it is not wanted.
    fn feed(&mut self) {
        let Some(input) = &self.input else { return };
        while !self.unwritten.is_empty() {
            match rustix::io::write(input, self.unwritten) {
                Ok(count) => self.unwritten = self.unwritten.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(errno) => {
                    self.input_failed = Some(errno);
                    break;
                }
            }
        }
        self.input = None;
    }

    /// Reads what is there, at most as much as a full pipe so that an endless writer cannot hold us.
    fn drain(&mut self) -> Result<()> {
        let mut buf = [0; 16 << 10];
        for _ in 0..16 {
            let Some(output) = &self.output else { return Ok(()) };
            match rustix::io::read(output, &mut buf) {
                Ok(0) => self.output = None,
                Ok(count) => {
                    let room = OUTPUT_KEPT.saturating_sub(self.kept.len()).min(count);
                    self.kept.extend_from_slice(buf.get(..room).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(self.command.failed("cannot read from stdout/stderr pipe", errno)),
            }
        }
        Ok(())
    }

    /// What is told of a program that has been reaped.
    fn outcome(self, status: ExitStatus) -> Result<Outcome> {
        let end = match (status.code(), status.signal()) {
            (Some(status), _) => End::Exited(status),
            (None, signal) => End::Killed(signal.unwrap_or_default()),
        };
        // A program that failed has the better story than the pipe that it left behind.
        let input_failed = if self.unwritten.is_empty() { None } else { self.input_failed.or(Some(Errno::PIPE)) };
        match input_failed {
            Some(errno) if end == End::Exited(0) => Err(self.command.failed("cannot write to stdin pipe", errno)),
            _ => Ok(Outcome { end, output: self.kept }),
        }
    }
}

/// Starts a program on a thread that knows nothing of the files that the host has opened. The start of a program closes
/// copies of all that its process was given, and closing a file on a server that does not answer hangs: one such file
/// would be the end of all hooks and of `guest-shutdown`. `given` are the descriptors in `command`.
///
/// # Errors
/// Those of starting it.
pub(crate) fn spawn_apart(command: &mut process::Command, given: &[RawFd]) -> io::Result<process::Child> {
    // With so many descriptors that these come to lie among the files there is no telling them apart.
    if given.iter().any(|fd| *fd >= FILES_FROM) {
        return command.spawn();
    }
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("start".to_owned()).stack_size(STACK);
        let start = || {
            ffi::leave_descriptors(FILES_FROM.unsigned_abs());
            command.spawn()
        };
        builder.spawn_scoped(scope, start)?.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// The first file called `name` in `dirs` that can be executed.
pub fn find_program<D: AsRef<Path>>(root: &Root, dirs: impl IntoIterator<Item = D>, name: &str) -> Option<PathBuf> {
    dirs.into_iter()
        .map(|dir| root.path(dir.as_ref().join(name)))
        .find(|path| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok())
}

pub(super) fn pid_of(child: &process::Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// The same for a child of the standard library's, which may have been reaped.
pub(crate) fn reap(mut child: process::Child) {
    if let (Ok(None), Some(pid)) = (child.try_wait(), pid_of(&child)) {
        kill_and_reap(pid);
    }
}

/// Kills a program that has not been reaped (so that its number is still its own), with its whole process group.
pub(crate) fn kill_and_reap(pid: Pid) {
    let is_over = || !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None) | Err(Errno::INTR));
    if is_over() {
        return;
    }
    let _ = kill_process_group(pid, Signal::KILL);
    let until = Instant::now() + KILL_GRACE;
    while Instant::now() < until {
        if is_over() {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    log::warn!("process {pid} does not end although it was killed: it is inside a system call that hangs");
    let wait = move || while matches!(waitpid(Some(pid), WaitOptions::empty()), Err(Errno::INTR)) {};
    let _ = thread::Builder::new().name("reaper".to_owned()).spawn(wait);
}

#[cfg(test)]
pub(crate) mod tests;
