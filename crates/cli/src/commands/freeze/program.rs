//! The command of this host that is run while guests are frozen.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::TICK;
use crate::target::Target;

/// Time it has to end after it was told to; then it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// A running command.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    ended: Option<ExitStatus>,
    told: Option<Instant>,
}

impl Program {
    /// Starts it; the error is the exit code and the reason.
    pub(super) fn start(words: &[OsString], targets: &[Target], frozen: u64) -> Result<Self, (u8, String)> {
        let Some((program, arguments)) = words.split_first() else {
            return Err((2, "no command".into()));
        };
        let targets: Vec<String> = targets.iter().map(Target::spelled).collect();
        let mut command = Command::new(program);
        command.args(arguments).env("QGA_FROZEN", frozen.to_string()).env("QGA_TARGETS", targets.join("\n"));
        match targets.as_slice() {
            [one] => command.env("QGA_TARGET", one),
            _ => command.env_remove("QGA_TARGET"),
        };
        let child = command.spawn().map_err(|error| {
            let program = program.to_string_lossy();
            match error.kind() {
                ErrorKind::NotFound => (127, format!("there is no program {program}")),
                ErrorKind::PermissionDenied => (126, format!("{program} cannot be executed")),
                kind => (126, format!("{program} cannot be started: {kind}")),
            }
        })?;
        Ok(Program { child, ended: None, told: None })
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            // It is our child: nothing can be wrong with waiting for it.
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_some()
    }

    /// Tells it to end.
    pub(super) fn tell_to_end(&mut self) {
        // As long as nobody has waited for it, the number is nobody else's.
        if !self.has_ended() {
            if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
            self.told = Some(Instant::now());
        }
    }

    /// Waits for its end and gives its exit code as a shell does. One that was told to end is killed after a while.
    pub(super) fn wait(mut self) -> u8 {
        while !self.has_ended() {
            if self.told.is_some_and(|told| told.elapsed() >= GRACE) {
                let _ = self.child.kill();
            }
            sleep(TICK);
        }
        let code = self.ended.and_then(|status| status.code().or(status.signal().map(|signal| signal + 128)));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
    }
}
