//! What is to run in the guest, and how it gets there.

use std::time::Duration;

use qga_proto::Command;
use qga_proto::command::Empty;
use qga_proto::types::core::GuestInfo;
use qga_proto::types::exec::CaptureOutput;
use qga_proto::types::file::{GuestFileClose, GuestFileFlush, GuestFileOpen, GuestFileRead, GuestFileWrite};

use super::running::Running;
use super::{Exec, script};
use crate::client::Client;
use crate::error::Error;
use crate::random;

/// The shell of the guest, which every system but Windows has.
pub(super) const SHELL: &str = "/bin/sh";

/// Keeps the program's streams and end in files of the guest.
const SUPERVISE: &str = include_str!("supervise.sh");

/// Sets user, environment and directory, and becomes the program.
const LAUNCH: &str = include_str!("launch.sh");

/// How long a program goes on without its host, unless the caller says otherwise.
pub const KEEP: Duration = Duration::from_secs(60);

/// What streaming needs besides `guest-exec`.
const FILE_COMMANDS: [&str; 5] =
    [GuestFileOpen::NAME, GuestFileClose::NAME, GuestFileRead::NAME, GuestFileWrite::NAME, GuestFileFlush::NAME];

/// A program to be run in the guest as if it ran here: its output comes while it runs, it reads what it is sent, it
/// can be ended, and it gets a user, an environment and a directory.
///
/// This works with every agent whose guest has a POSIX shell: a small script supervises the program and keeps its
/// streams in files of a private directory, which is gone afterwards.
///
/// ```no_run
/// # use std::time::Duration;
/// # use qga_client::{Client, Error, Remote};
/// let mut agent = Client::unix("/run/vm/qga.sock", Duration::from_secs(30))?;
/// let remote = Remote::new("journalctl").args(["--follow"]).user("nobody");
/// if let Some(mut running) = remote.start(&mut agent)? {
///     let code = loop {
///         let heard = running.poll(&mut agent)?;
///         print!("{}", qga_client::printable(&String::from_utf8_lossy(&heard.out)));
///         if let Some(code) = heard.code {
///             break code;
///         }
///         std::thread::sleep(Duration::from_millis(100));
///     };
///     running.finish(&mut agent)?;
///     println!("exit code {code}");
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Remote {
    program: Vec<String>,
    env: Vec<String>,
    cwd: String,
    user: String,
    keep: Duration,
    has_input: bool,
    has_state: bool,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Arguments and environment may hold secrets.
        f.debug_struct("Remote").field("program", &self.program.first()).finish_non_exhaustive()
    }
}

impl Remote {
    /// A program, looked for in the guest's `PATH` when its name has no slash.
    pub fn new(program: impl Into<String>) -> Self {
        Remote {
            program: vec![program.into()],
            env: Vec::new(),
            cwd: String::new(),
            user: String::new(),
            keep: KEEP,
            has_input: false,
            has_state: false,
        }
    }

    /// More arguments. They reach the program exactly as they are.
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.program.extend(args.into_iter().map(Into::into));
        self
    }

    /// One more variable, besides those the agent has.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// Where it starts, instead of `/` or, for another user, that user's home.
    pub fn cwd(mut self, directory: impl Into<String>) -> Self {
        self.cwd = directory.into();
        self
    }

    /// Whose program it is, instead of the agent's own user.
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = name.into();
        self
    }

    /// How long it goes on when nothing is heard from this host any more, in whole seconds, [`KEEP`] unless set.
    pub fn keep(mut self, time: Duration) -> Self {
        self.keep = time.max(Duration::from_secs(1));
        self
    }

    /// It reads what [`Running::write`] sends; otherwise it finds the end of its input at once.
    pub fn with_input(mut self, has_input: bool) -> Self {
        self.has_input = has_input;
        self
    }

    /// What it writes to its descriptor 3 is kept for [`Running::state`].
    pub fn with_state(mut self) -> Self {
        self.has_state = true;
        self
    }

    /// Starts it; nothing when the agent may not work with files, or the guest has no shell or no place for them.
    ///
    /// # Errors
    /// Any [`Error`]. A program that cannot be started ends with exit code 126 or 127, as in a shell.
    pub fn start(&self, agent: &mut Client) -> Result<Option<Running>, Error> {
        let info = agent.call::<GuestInfo>(Empty {})?;
        let has = |name| info.supported_commands.iter().any(|command| command.name == name && command.enabled);
        if !FILE_COMMANDS.into_iter().all(has) {
            return Ok(None);
        }
        let name = format!("qga-exec-{:013x}{:013x}", random::bits()?, random::bits()?);
        let supervisor = Exec::new(SHELL)
            .args(["-c", &script(SUPERVISE), "qga", &name, &self.keep.as_secs().to_string()])
            .args([if self.has_input { "1" } else { "0" }, &script(LAUNCH)])
            .args(self.launch_args())
            .capture(CaptureOutput::None);
        match supervisor.start(agent) {
            Ok(process) => Running::attach(agent, process, &name, self.keep, self.has_input),
            Err(Error::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same program for `guest-exec` alone: no shell is needed unless a user, an environment or a directory is
    /// wanted.
    pub fn plain(&self) -> Exec {
        if self.user.is_empty() && self.cwd.is_empty() && self.env.is_empty() {
            let [program, args @ ..] = self.program.as_slice() else { return Exec::new("") };
            return Exec::new(program).args(args);
        }
        Exec::new(SHELL).args(["-c", &script(LAUNCH), "qga", "", ""]).args(self.launch_args())
    }

    /// What the launcher is told behind what the supervisor tells it.
    fn launch_args(&self) -> Vec<String> {
        let quoted: Vec<_> = self.program.iter().map(|word| quote(word)).collect();
        let mut args = vec![if self.has_state { "1" } else { "0" }.to_owned(), self.user.clone(), quoted.join(" ")];
        args.extend([self.cwd.clone(), self.env.len().to_string()]);
        args.extend(self.env.iter().chain(&self.program).cloned());
        args
    }
}

/// A word as a shell reads it.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_for_every_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's $HOME\n"), "'it'\\''s $HOME\n'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn secrets_are_not_shown_for_debugging() {
        let shown = format!("{:?}", Remote::new("login").args(["geheim"]).env("P", "geheim"));
        assert!(shown.contains("login") && !shown.contains("geheim"), "{shown}");
    }

    #[test]
    fn a_time_below_a_second_is_a_second() {
        assert_eq!(Remote::new("x").keep(Duration::ZERO).keep, Duration::from_secs(1));
    }
}
