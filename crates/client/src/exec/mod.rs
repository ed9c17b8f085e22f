//! A program in the guest: started, waited for, and what it printed.

mod input;
mod output;
mod remote;
mod running;

use std::thread::sleep;
use std::time::Duration;

use qga_proto::Command;
use qga_proto::base64;
use qga_proto::types::exec::{CaptureOutput, ExecArgs, ExecStatusArgs, ExecStatusRet, GuestExec, GuestExecStatus};

use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;

pub use remote::{KEEP, Remote};
pub use running::{Ending, Heard, Running};

/// The pause between the first two questions whether a program has ended; each further one is a half longer.
const PAUSE_FIRST: Duration = Duration::from_millis(5);

/// The longest pause between two questions.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// A program to be started in the guest.
///
/// ```
/// # use std::time::Duration;
/// # use qga_client::{Client, Error, Exec};
/// # let guest = qga_testkit::fake::Agent::start(&[
/// #     ("guest-exec", r#"{"pid": 1234}"#),
/// #     ("guest-exec-status", r#"{"exited": true, "exitcode": 0, "out-data": "TGludXgK"}"#),
/// # ]);
/// let mut agent = Client::unix(guest.path(), Duration::from_secs(10))?;
/// let finished = Exec::new("uname").arg("-s").run(&mut agent, Duration::from_secs(60))?;
/// assert_eq!((finished.exit_code(), finished.out.as_slice()), (0, &b"Linux\n"[..]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Exec {
    args: ExecArgs<'static>,
}

/// A program that has been started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: i64,
}

/// A program that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i64>,
    /// The signal that ended it; on Windows, the number of the exception.
    pub signal: Option<i64>,
    /// What it printed on standard output, if that was captured.
    pub out: Vec<u8>,
    /// What it printed on standard error, if that was captured.
    pub err: Vec<u8>,
    /// Whether it printed more than the agent keeps.
    pub is_truncated: bool,
}

impl Exec {
    /// A program, looked for in the agent's `PATH` when its name has no slash. Both its outputs are captured.
    pub fn new(path: impl Into<String>) -> Self {
        let args = ExecArgs {
            path: path.into().into(),
            arg: None,
            env: None,
            input_data: None,
            capture_output: Some(CaptureOutput::Separated),
        };
        Exec { args }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.arg.get_or_insert_default().push(arg.into());
        self
    }

    /// More arguments.
    pub fn args<A: Into<String>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Exec::arg)
    }

    /// One more variable. With the first one, the program no longer gets the agent's own environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.args.env.get_or_insert_default().push(format!("{name}={value}"));
        self
    }

    /// What it reads from standard input.
    pub fn input(mut self, bytes: &[u8]) -> Self {
        let mut text = Vec::new();
        base64::encode_into(&mut text, bytes);
        self.args.input_data = Some(String::from_utf8_lossy(&text).into_owned().into());
        self
    }

    /// Which of its outputs are captured. Agents before QEMU 8.0 know only none and separated.
    pub fn capture(mut self, what: CaptureOutput) -> Self {
        self.args.capture_output = Some(what);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Failed`] with the guest's words when it cannot be started.
    pub fn start(self, agent: &mut Client) -> Result<Process, Error> {
        Ok(Process { pid: agent.call::<GuestExec>(self.args)?.pid })
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`Process::wait`].
    pub fn run(self, agent: &mut Client, limit: Duration) -> Result<Finished, Error> {
        self.start(agent)?.wait(agent, limit)
    }
}

impl Process {
    /// The number by which the agent knows it.
    pub fn pid(&self) -> i64 {
        self.pid
    }

    /// Asks for its state. The agent forgets a program once it has told that it ended.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn status(&self, agent: &mut Client) -> Result<ExecStatusRet, Error> {
        agent.call::<GuestExecStatus>(ExecStatusArgs { pid: self.pid })
    }

    /// Waits for its end, asking at growing intervals up to half a second.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Timeout`] when it is still running after `limit`: it goes on running, and may be waited
    /// for again.
    pub fn wait(&self, agent: &mut Client, limit: Duration) -> Result<Finished, Error> {
        let deadline = Deadline::after(limit);
        let mut pause = PAUSE_FIRST;
        loop {
            let status = self.status(agent)?;
            if status.exited {
                return Ok(status.into());
            }
            if deadline.is_over() {
                return Err(Error::Timeout { command: GuestExec::NAME.to_owned(), after: limit });
            }
            sleep(pause.min(deadline.left()));
            pause = (pause * 3 / 2).min(PAUSE_MAX);
        }
    }
}

impl Finished {
    /// One number for its end, as a shell gives it: its exit code, or 128 and the signal that ended it.
    pub fn exit_code(&self) -> u8 {
        match (self.code, self.signal) {
            (_, Some(signal)) => u8::try_from(signal.saturating_add(128)).unwrap_or(255),
            (Some(code), None) => u8::try_from(code).unwrap_or(255),
            (None, None) => 255,
        }
    }

    /// Whether it ended by itself with exit code 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0) && self.signal.is_none()
    }
}

impl From<ExecStatusRet> for Finished {
    fn from(status: ExecStatusRet) -> Self {
        Finished {
            code: status.exitcode,
            signal: status.signal,
            out: status.out_data.map(|data| data.0).unwrap_or_default(),
            err: status.err_data.map(|data| data.0).unwrap_or_default(),
            is_truncated: status.out_truncated == Some(true) || status.err_truncated == Some(true),
        }
    }
}

/// A script without its comments: the guest's list of processes shows it.
fn script(text: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with('#') && !line.trim().is_empty();
    text.lines().filter(is_code).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_a_shell() {
        let code = |code, signal| Finished { code, signal, ..Finished::default() }.exit_code();
        assert_eq!(code(Some(0), None), 0);
        assert_eq!(code(Some(42), None), 42);
        assert_eq!(code(None, Some(9)), 137);
        // An exception of Windows, a nonsense code, and nothing at all are failures.
        assert_eq!(code(None, Some(0xC000_0005)), 255);
        assert_eq!(code(Some(256), None), 255);
        assert_eq!(code(None, None), 255);
    }
}
