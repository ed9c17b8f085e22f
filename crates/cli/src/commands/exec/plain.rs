//! A command by `guest-exec` alone, whose output comes at its end.

use std::thread::sleep;
use std::time::Duration;

use qga_client::{Client, Ending, Error, Exec, Finished, Process};
use qga_proto::types::exec::CaptureOutput;

use super::drive::{Ended, Stop};
use super::show::Show;
use crate::exit::{Failure, Special};

/// The longest pause between two questions whether a command has ended.
const PAUSE_MAX: Duration = Duration::from_millis(300);

/// The time that a signal is given to be sent.
const SOON: Duration = Duration::from_secs(10);

/// Starts a command, with the exit code of a shell for one that cannot be.
pub(super) fn start(agent: &mut Client, exec: Exec) -> Result<Process, Failure> {
    exec.start(agent).map_err(|error| match &error {
        Error::Failed { desc, .. } => {
            let is_absent = desc.contains("No such file or directory");
            cannot_run(if is_absent { 127 } else { 126 }, error.to_string())
        }
        _ => Failure::Agent(error),
    })
}

/// A command that cannot be run in the guest.
pub(crate) fn cannot_run(code: u8, message: String) -> Failure {
    Failure::Special(Special { code, layer: "command", message, hint: None })
}

/// Runs a command to its end.
pub(super) fn run(
    agent: &mut Client,
    exec: Exec,
    limit: Option<Duration>,
    show: &mut Show<'_>,
) -> Result<Ended, Failure> {
    let process = start(agent, exec)?;
    let mut stop = Stop::new();
    let mut pause = Duration::from_millis(10);
    loop {
        let status = process.status(agent)?;
        if status.exited {
            let finished = Finished::from(status);
            show.more(&finished.out, &finished.err)?;
            show.end()?;
            let (code, is_cut) = (finished.exit_code(), finished.is_truncated);
            return Ok(Ended { code, why: stop.why, is_cut, state: None });
        }
        if let Some(how) = stop.next(limit, false) {
            let signal = if how == Ending::Ask { "-TERM" } else { "-KILL" };
            let kill = Exec::new("kill").args([signal, &process.pid().to_string()]).capture(CaptureOutput::None);
            // A guest without the program cannot be told.
            let _ = kill.run(agent, SOON);
            stop.done(how);
        }
        if stop.is_hopeless() {
            return Err(Failure::Host("the command cannot be ended in the guest".into()));
        }
        sleep(pause);
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}
