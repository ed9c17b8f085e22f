//! Programs that run on their own: started with the streams that are wanted and nothing else, in a session of their
//! own. Feeding, reading and reaping is for whoever starts them; [`child`] is for programs that we wait
//! for.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{self, Stdio};

use qga_proto::error::Error;
use qga_proto::types::exec::CaptureOutput;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};

use super::child::{self, pid_of};
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
    pub child: process::Child,
    /// Becomes readable when the process ends. `None` on kernels before 5.3, or when there are no descriptors left.
    pub pidfd: Option<OwnedFd>,
    /// Its standard input.
    pub input: Option<Pipe>,
    /// Its standard output, or both of its outputs.
    pub out: Option<Pipe>,
    /// Its standard error.
    pub err: Option<Pipe>,
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
        let image = self.image().map_err(|errno| self.cannot_execute(errno))?;
        // The command's own program is never reached.
        let mut command = process::Command::new("/");
        let (stdin, input) = match self.input {
            true => pipe().map(|(theirs, ours)| (Some(theirs), Some(ours))).map_err(no_pipe)?,
            false => (None, None),
        };
        let mut given: Vec<RawFd> = stdin.iter().map(AsRawFd::as_raw_fd).collect();
        command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
        let (out, err) = self.outputs(&mut command, &mut given).map_err(no_pipe)?;
        ffi::start_afresh(&mut command);
        ffi::become_image(&mut command, image);
        let child = child::spawn_apart(&mut command, &given).map_err(|error| {
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(errno @ (Errno::MFILE | Errno::NFILE)) => no_pipe(errno),
                Some(errno @ (Errno::AGAIN | Errno::NOMEM)) => {
                    Error::generic(format!("Failed to fork ({})", errno.errno_text()))
                }
                Some(errno) => self.cannot_execute(errno),
                None => Error::generic(format!("Failed to execute child process “{}” ({error})", self.path)),
            }
        })?;
        // Our copies of the child's ends go with this; while we had them no pipe would ever end.
        drop(command);
        let pidfd = pid_of(&child).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let started = Started { child, pidfd, input: input.map(Pipe), out: out.map(Pipe), err: err.map(Pipe) };
        for pipe in [&started.input, &started.out, &started.err].into_iter().flatten() {
            if let Err(errno) = ioctl_fionbio(&pipe.0, true) {
                child::kill_and_reap(started.child);
                return Err(no_pipe(errno));
            }
        }
        Ok(started)
    }

    fn cannot_execute(&self, errno: Errno) -> Error {
        Error::generic(format!("Failed to execute child process “{}” ({})", self.path, errno.errno_text()))
    }

    /// Gives the command its outputs, which are noted in `given`, and returns our ends: of standard output, of standard
    /// error.
    fn outputs(
        &self,
        command: &mut process::Command,
        given: &mut Vec<RawFd>,
    ) -> Result<(Option<OwnedFd>, Option<OwnedFd>), Errno> {
        let (mut out, mut err) = (None, None);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if matches!(self.capture, CaptureOutput::Stdout | CaptureOutput::Separated | CaptureOutput::Merged) {
            let (ours, theirs) = pipe()?;
            if self.capture == CaptureOutput::Merged {
                let twin = rustix::io::fcntl_dupfd_cloexec(&theirs, 3)?;
                given.push(twin.as_raw_fd());
                command.stderr(twin);
            }
            given.push(theirs.as_raw_fd());
            command.stdout(theirs);
            out = Some(ours);
        }
        if matches!(self.capture, CaptureOutput::Stderr | CaptureOutput::Separated) {
            let (ours, theirs) = pipe()?;
            given.push(theirs.as_raw_fd());
            command.stderr(theirs);
            err = Some(ours);
        }
        Ok((out, err))
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
pub struct Pipe(OwnedFd);

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
        flow(|| rustix::io::read(&self.0, &mut *buf))
    }

    /// Writes what it takes. `bytes` must not be empty.
    pub fn write(&self, bytes: &[u8]) -> Flow {
        flow(|| rustix::io::write(&self.0, bytes))
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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
