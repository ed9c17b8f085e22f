//! `qga exec`

mod drive;
mod input;
mod interrupt;
mod plain;
mod show;

use std::time::Duration;

use clap::Args;
use qga_client::{DEFAULT_TIMEOUT, Remote};
use qga_proto::types::exec::CaptureOutput;
use serde_json::{Value, json};

pub(super) use drive::{Drive, Ended, Why};
pub(super) use interrupt::Interrupt;
pub(super) use plain::cannot_run;
pub(super) use show::Show;

use super::PerTarget;
use crate::cli::{Options, seconds};
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use input::Input;

/// Run a command in the guest as if it ran here
///
/// Its output comes while it runs, standard output and standard error apart, and it reads the standard input of qga.
/// Its exit code becomes that of qga: 128 and the number of the signal for one that a signal ended, 124 when the time
/// of --timeout was over, 126 when it cannot be executed, 127 when there is no such command. An interrupt (Ctrl-C), a
/// SIGTERM or SIGHUP ends it in the guest: with SIGTERM, after 3 seconds or a second interrupt with SIGKILL.
///
/// The arguments reach the command exactly as they are; no shell reads them. With several targets the command reads
/// nothing, and each line of its output has the target in front.
///
/// It works with every agent that allows guest-exec and guest-file-*, and a guest with a shell. Where these are not to
/// be had the command runs nevertheless, and its output, up to 16 MiB, comes at the end.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    place: Place,

    /// Start it, print its process id, and do not wait for it
    #[arg(short, long, conflicts_with = "no_stream")]
    detach: bool,

    /// Give it nothing to read
    #[arg(short, long)]
    null: bool,

    /// Run it with guest-exec alone: the output comes at the end
    #[arg(long)]
    no_stream: bool,

    /// Print the output on a terminal as it is, control characters included
    #[arg(long)]
    raw: bool,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Where and as whom a command runs.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// A variable for its environment; may be given several times
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,

    /// The directory it starts in [default: /, or the home of USER]
    #[arg(short = 'C', long, value_name = "DIR")]
    cwd: Option<String>,

    /// The user it runs as [default: that of the agent]
    #[arg(short, long)]
    user: Option<String>,

    /// Seconds it goes on in the guest when qga is killed or loses the connection
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = seconds)]
    pub(super) keep: Duration,
}

impl Place {
    /// A program at this place.
    pub(super) fn remote(&self, program: &str, args: impl IntoIterator<Item = impl Into<String>>) -> Remote {
        let mut remote = Remote::new(program).args(args).keep(self.keep);
        for (name, value) in &self.env {
            remote = remote.env(name, value);
        }
        if let Some(cwd) = &self.cwd {
            remote = remote.cwd(cwd);
        }
        if let Some(user) = &self.user {
            remote = remote.user(user);
        }
        remote
    }
}

impl PerTarget for Exec {
    const NAME: &'static str = "exec";

    fn prepare(&mut self, _options: &Options) -> Result<(), Failure> {
        match self.command.first() {
            Some(program) if !program.is_empty() => Interrupt::prepare(),
            _ => Err(Failure::Usage("the command is empty".into())),
        }
    }

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let [program, args @ ..] = self.command.as_slice() else {
            return Err(Failure::Usage("the command is missing".into()));
        };
        let remote = self.place.remote(program, args);
        let (printer, target, limit) = (session.printer, session.target.name(), session.options.limit());
        let agent = session.agent()?;
        // The time of the command line is that of the program.
        agent.set_timeout(limit.unwrap_or(DEFAULT_TIMEOUT).min(DEFAULT_TIMEOUT));
        if self.detach {
            let pid = plain::start(agent, remote.plain().capture(CaptureOutput::None))?.pid();
            let is_json = printer.is_json();
            return Ok(if is_json { Output::json(json!({ "pid": pid })) } else { Output::text(pid.to_string()) });
        }
        let input = if self.null || printer.is_many() { None } else { Input::start() };
        let mut show = Show::new(printer, target, self.raw);
        let running = if self.no_stream { None } else { remote.clone().with_input(input.is_some()).start(agent)? };
        let (ended, show) = match running {
            Some(running) => {
                agent.set_timeout(DEFAULT_TIMEOUT);
                let mut drive = Drive::new(show, limit, self.place.keep).with_input(input);
                (drive.run(agent, running)?, drive.show)
            }
            None => {
                if !self.no_stream {
                    show.note("the agent or the guest does not allow streaming: the output comes at the end");
                }
                let input = input.map(Input::read_all).transpose()?.unwrap_or_default();
                (plain::run(agent, remote.plain().input(&input), limit, &mut show)?, show)
            }
        };
        Ok(result(&show, &ended, limit))
    }
}

/// What an end looks like.
fn result(show: &Show<'_>, ended: &Ended, limit: Option<Duration>) -> Output {
    if show.is_json() {
        let why = match ended.why {
            None => Value::Null,
            Some(Why::Time) => "timeout".into(),
            Some(Why::Interrupt(_)) => "interrupt".into(),
            Some(Why::Unread) => "unread".into(),
        };
        let value = json!({ "exit_code": ended.exit_code(), "ended_by": why, "truncated": ended.is_cut });
        return Output::json(value).with_code(ended.exit_code());
    }
    if ended.is_cut {
        show.note("not all of the output is here: there was more than the guest or the agent keeps");
    }
    match (&ended.why, limit) {
        (Some(Why::Time), Some(limit)) => {
            show.note(&format!("the command had not ended after {} s and was ended", limit.as_secs_f64()));
        }
        _ if ended.exit_code() != 0 && show.is_many() => show.note(&format!("exit code {}", ended.exit_code())),
        _ => {}
    }
    Output::text("").with_code(ended.exit_code())
}

/// Reads `NAME=VALUE`; the name has to be one that a shell takes.
fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_word) {
        return Err(format!("'{name}' is no name of a variable"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn a_variable_has_a_name_that_a_shell_takes_and_any_value() {
        assert_eq!(variable("A_1=b=c d"), Ok(("A_1".to_owned(), "b=c d".to_owned())));
        assert_eq!(variable("_="), Ok(("_".to_owned(), String::new())));
        for bad in ["A", "=x", "1A=x", "A B=x", "A;id=x", "Ä=x"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }
}
