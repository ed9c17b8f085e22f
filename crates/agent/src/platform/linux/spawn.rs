//! Programs that run on their own: started with the streams that are wanted and nothing else, in a session of their
//! own. Feeding, reading and reaping is for whoever starts them; [`child`] is for programs that we wait
//! for.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use qga_proto::error::Error;
use qga_proto::types::exec::CaptureOutput;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

use super::child::{self, FILES_FROM};
use super::errno::ErrnoText;
use super::ffi::{self, Image};

/// Where programs are searched for when nobody says where.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to start.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    /// Its file, searched for in `PATH` when there is no slash in it, and its own name.
    pub path: &'a str,
    /// What it is given behind its own name.
    pub args: &'a [String],
    /// Its whole environment as it is; `None` is ours.
    pub env: Option<&'a [String]>,
    /// Which streams get a pipe.
    pub capture: CaptureOutput,
    /// Whether standard input is a pipe; `/dev/null` if not.
    pub input: bool,
}

impl fmt::Debug for Program<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and environment may hold secrets.
        f.debug_struct("Program").field("path", &self.path).field("capture", &self.capture).finish_non_exhaustive()
    }
}

/// A program that has been started, and our ends of its pipes.
#[derive(Debug)]
pub struct Started {
    /// The process; whoever has this reaps it.
    pub child: Child,
    /// Becomes readable when the process ends. `None` on kernels before 5.3, or when there are no descriptors left.
    pub pidfd: Option<OwnedFd>,
    /// Its standard input.
    pub input: Option<Pipe>,
    /// Its standard output, or both of its outputs.
    pub out: Option<Pipe>,
    /// Its standard error.
    pub err: Option<Pipe>,
}

/// A process that has been started and not reaped.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
}

impl Child {
    /// Its process id; nobody else has it until the process is reaped.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Reaps it if it has ended; after that it is not to be asked again.
    ///
    /// # Errors
    /// Somebody else has reaped it.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Errno> {
        let ended = waitpid(Some(self.pid), WaitOptions::NOHANG)?;
        Ok(ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw())))
    }
}

/// The child's ends of its standard output and error, where they are pipes, and ours.
struct Outputs {
    theirs: [Option<OwnedFd>; 2],
    out: Option<OwnedFd>,
    err: Option<OwnedFd>,
}

impl Program<'_> {
    /// How many descriptors of ours it needs while it runs.
    pub fn descriptors(&self) -> usize {
        let outputs = match self.capture {
            CaptureOutput::None => 0,
            CaptureOutput::Separated => 2,
            CaptureOutput::Stdout | CaptureOutput::Stderr | CaptureOutput::Merged => 1,
        };
        1 + usize::from(self.input) + outputs
    }

    /// Starts it. Returns when it runs or has failed to; that may take as long as its file system lets one wait.
    ///
    /// # Errors
    ///
    /// In the words of the library that the C agent uses: `Failed to execute child process “x” (No such file or
    /// directory)`.
    pub fn start(&self) -> Result<Started, Error> {
        let mut image = self.image().map_err(|errno| self.cannot_execute(errno))?;
        let (stdin, input) = match self.input {
            true => pipe().map(|(theirs, ours)| (Some(theirs), Some(ours))).map_err(no_pipe)?,
            false => (None, None),
        };
        let Outputs { theirs: [stdout, stderr], out, err } = self.outputs().map_err(no_pipe)?;
        let null = |flags| rustix::fs::open(c"/dev/null", flags | OFlags::CLOEXEC, Mode::empty());
        let filled = |stream: Option<OwnedFd>, flags| stream.map_or_else(|| null(flags), Ok);
        let stdin = filled(stdin, OFlags::RDONLY).map_err(|errno| self.failed(errno))?;
        let stdout = filled(stdout, OFlags::WRONLY).map_err(|errno| self.failed(errno))?;
        let stderr = filled(stderr, OFlags::WRONLY).map_err(|errno| self.failed(errno))?;
        let streams = [&stdin, &stdout, &stderr].map(AsFd::as_fd);
        let pid = ffi::start_image(&mut image, streams, FILES_FROM.unsigned_abs())
            .map_err(|error| self.failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        // While we have our copies of the child's ends no pipe ever ends.
        drop((stdin, stdout, stderr));
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
        let child = Child { pid };
        let [input, out, err] = [input, out, err].map(|fd| fd.map(|fd| Pipe { fd, is_wide: false }));
        let started = Started { child, pidfd, input, out, err };
        for pipe in [&started.input, &started.out, &started.err].into_iter().flatten() {
            if let Err(errno) = ioctl_fionbio(pipe, true) {
                child::kill_and_reap(pid);
                return Err(no_pipe(errno));
            }
        }
        Ok(started)
    }

    /// Why it was not started.
    fn failed(&self, errno: Errno) -> Error {
        match errno {
            Errno::MFILE | Errno::NFILE => no_pipe(errno),
            Errno::AGAIN | Errno::NOMEM => Error::generic(format!("Failed to fork ({})", errno.errno_text())),
            errno => self.cannot_execute(errno),
        }
    }

    fn cannot_execute(&self, errno: Errno) -> Error {
        Error::generic(format!("Failed to execute child process “{}” ({})", self.path, errno.errno_text()))
    }

    /// Makes the pipes of its outputs.
    fn outputs(&self) -> Result<Outputs, Errno> {
        let (mut stdout, mut stderr, mut out, mut err) = (None, None, None, None);
        if matches!(self.capture, CaptureOutput::Stdout | CaptureOutput::Separated | CaptureOutput::Merged) {
            let (ours, theirs) = pipe()?;
            if self.capture == CaptureOutput::Merged {
                stderr = Some(rustix::io::fcntl_dupfd_cloexec(&theirs, 3)?);
            }
            (stdout, out) = (Some(theirs), Some(ours));
        }
        if matches!(self.capture, CaptureOutput::Stderr | CaptureOutput::Separated) {
            let (ours, theirs) = pipe()?;
            (stderr, err) = (Some(theirs), Some(ours));
        }
        Ok(Outputs { theirs: [stdout, stderr], out, err })
    }

    fn image(&self) -> Result<Image, Errno> {
        // No file has a NUL in its name.
        let path = CString::new(self.path).map_err(|_| Errno::NOENT)?;
        let strings = |list: &[String]| -> Result<Vec<CString>, Errno> {
            list.iter().map(|text| CString::new(text.as_str()).map_err(|_| Errno::INVAL)).collect()
        };
        let mut argv = vec![path];
        argv.extend(strings(self.args)?);
        let envp = match self.env {
            Some(env) => strings(env)?,
            None => own_environment(),
        };
        Ok(Image::new(self.files(env::var_os("PATH").as_deref()), argv, envp))
    }

    /// The files that the program may be, in the order in which they are tried.
    fn files(&self, own_path: Option<&OsStr>) -> Vec<CString> {
        if self.path.is_empty() || self.path.contains('/') {
            return CString::new(self.path).into_iter().collect();
        }
        let theirs = self.env.into_iter().flatten().find_map(|entry| entry.strip_prefix("PATH="));
        let path = theirs.map(OsStr::new).or(own_path).unwrap_or(OsStr::new(USUAL_PATH));
        env::split_paths(path)
            .map(|dir| if dir.as_os_str().is_empty() { Path::new(".").join(self.path) } else { dir.join(self.path) })
            .filter_map(|file| CString::new(file.into_os_string().into_vec()).ok())
            .collect()
    }
}

fn own_environment() -> Vec<CString> {
    let entry = |(name, value): (OsString, OsString)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend_from_slice(value.as_bytes());
        CString::new(entry).ok()
    };
    env::vars_os().filter_map(entry).collect()
}

/// The reading and the writing end. Neither is passed on to any program but as a standard stream.
fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    pipe_with(PipeFlags::CLOEXEC)
}

fn no_pipe(errno: Errno) -> Error {
    Error::generic(format!("Failed to create pipe for communicating with child process ({})", errno.errno_text()))
}

/// Our end of a pipe; it never blocks.
#[derive(Debug)]
pub struct Pipe {
    fd: OwnedFd,
    is_wide: bool,
}

/// Bytes of a pipe, as every pipe holds at first.
pub const USUAL_PIPE: usize = 64 << 10;

/// Bytes that a pipe may hold at most without a privilege, unless somebody has set another limit.
const WIDE_PIPE: usize = 1 << 20;

/// What a pipe did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It gave or took so many bytes, more than none.
    Bytes(usize),
    /// Nothing now.
    Later,
    /// Nothing any more: all other ends are closed.
    Over,
}

impl Pipe {
    /// Reads what is there.
    pub fn read(&self, buf: &mut [u8]) -> Flow {
        flow(|| rustix::io::read(&self.fd, &mut *buf))
    }

    /// Writes what it takes. `bytes` must not be empty.
    pub fn write(&self, bytes: &[u8]) -> Flow {
        flow(|| rustix::io::write(&self.fd, bytes))
    }

    /// Lets the pipe hold more from now on, if the kernel allows it. For one that has been seen full: whoever writes much
    /// then waits less often for being read from.
    pub fn widen(&mut self) {
        if !self.is_wide {
            self.is_wide = true;
            let _ = fcntl_setpipe_size(&self.fd, WIDE_PIPE);
        }
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn flow(mut transfer: impl FnMut() -> Result<usize, Errno>) -> Flow {
    loop {
        return match transfer() {
            Ok(0) => Flow::Over,
            Ok(count) => Flow::Bytes(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Flow::Later,
            // A pipe fails in no other way than by having nobody at its other end.
            Err(_) => Flow::Over,
        };
    }
}

#[cfg(test)]
mod tests;
