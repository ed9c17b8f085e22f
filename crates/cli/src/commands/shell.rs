//! `qga shell`

use std::io::{self, BufRead, IsTerminal};

use clap::Args;
use qga_client::{Client, DEFAULT_TIMEOUT, printable};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::Whole;
use super::exec::{Drive, Ended, Interrupt, Place, Show, cannot_run};
use crate::cli::Options;
use crate::exit::Failure;
use crate::output::Printer;

/// Runs one line in the guest.
const LINE: &str = include_str!("line.sh");

/// Run commands in the guest line by line
///
/// Each line is read by the guest's /bin/sh and runs until it has ended; Ctrl-C ends it. The directory and the
/// variables stay from line to line, functions and aliases do not. The commands read nothing, and see no terminal.
/// 'exit', Ctrl-D or the end of standard input ends the shell, with the exit code of the last line.
#[derive(Debug, Args)]
pub(crate) struct Shell {
    #[command(flatten)]
    place: Place,

    /// Print the output on a terminal as it is, control characters included
    #[arg(long)]
    raw: bool,
}

/// What stays from line to line.
#[derive(Debug, Default)]
struct State {
    /// What a shell reads to have it all back.
    text: String,
    /// The exit code of the last line.
    code: u8,
}

/// Where lines come from.
enum Source {
    Terminal(Box<DefaultEditor>),
    Plain,
}

/// What came from there.
enum Line {
    Text(String),
    /// Ctrl-C: whatever was typed is forgotten.
    Nothing,
    End,
}

impl Whole for Shell {
    const NAME: &'static str = "shell";

    fn run(&self, options: &Options) -> Result<u8, Failure> {
        let target = options.target()?;
        Interrupt::prepare()?;
        let printer = Printer::new(options.json, false);
        let mut agent = target.connect(DEFAULT_TIMEOUT)?;
        let mut state = State::default();
        let mut source = Source::new()?;
        // Whether this works at all shows before the first line is asked for.
        self.line(&mut agent, options, &printer, ":", &mut state)?;
        loop {
            let line = match source.read(target.name(), &state)? {
                Line::Text(line) => line,
                Line::Nothing => continue,
                Line::End => return Ok(state.code),
            };
            match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                [] => continue,
                ["exit"] => return Ok(state.code),
                ["exit", code] if code.parse::<u8>().is_ok() => return Ok(code.parse().unwrap_or(state.code)),
                _ => {}
            }
            if let Err(failure) = self.line(&mut agent, options, &printer, &line, &mut state) {
                // A connection that has ended may be made again; what a line did is not known then.
                printer.complain(None, &failure);
                state.code = failure.code();
                agent = target.connect(DEFAULT_TIMEOUT)?;
            }
            if printer.is_closed() {
                return Ok(state.code);
            }
        }
    }
}

impl Shell {
    /// Runs a line to its end.
    fn line(
        &self,
        agent: &mut Client,
        options: &Options,
        printer: &Printer,
        line: &str,
        state: &mut State,
    ) -> Result<(), Failure> {
        let remote = self.place.remote("/bin/sh", ["-c", LINE, "sh", &state.text, line]).with_state();
        let Some(running) = remote.start(agent)? else {
            let what = "there is no shell to be had: the agent blocks guest-file-*, or the guest has no /bin/sh";
            return Err(cannot_run(126, what.into()));
        };
        let show = Show::new(printer, "", self.raw);
        let mut drive = Drive::new(show, options.limit(), self.place.keep).with_state();
        let ended = drive.run(agent, running)?;
        state.take(&ended);
        if printer.is_json() {
            let result = serde_json::json!({ "exit_code": state.code, "directory": state.directory() });
            printer.print(None, &crate::json::compact(&result))?;
        }
        Ok(())
    }
}

impl State {
    /// Takes over what a line left behind; one that was killed leaves nothing, and all stays as it was.
    fn take(&mut self, ended: &Ended) {
        self.code = ended.exit_code();
        let text = ended.state.as_ref().and_then(|state| String::from_utf8(state.clone()).ok());
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.text = text;
        }
    }

    /// The directory the next line starts in.
    fn directory(&self) -> &str {
        self.text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default()
    }
}

impl Source {
    fn new() -> Result<Self, Failure> {
        if !io::stdin().is_terminal() {
            return Ok(Source::Plain);
        }
        match DefaultEditor::new() {
            Ok(editor) => Ok(Source::Terminal(Box::new(editor))),
            Err(error) => Err(trouble(&error.to_string())),
        }
    }

    /// The next line.
    fn read(&mut self, target: &str, state: &State) -> Result<Line, Failure> {
        match self {
            Source::Plain => {
                let mut line = String::new();
                match io::stdin().lock().read_line(&mut line) {
                    Ok(0) => Ok(Line::End),
                    Ok(_) => Ok(Line::Text(line.trim_end_matches('\n').to_owned())),
                    Err(error) => Err(trouble(&error.kind().to_string())),
                }
            }
            Source::Terminal(editor) => {
                let code = if state.code == 0 { String::new() } else { format!(" [{}]", state.code) };
                let prompt = format!("{}:{}{code}$ ", printable(target), printable(state.directory()));
                match editor.readline(&prompt) {
                    Ok(line) => {
                        // A history that does not work costs nothing but comfort.
                        let _ = editor.add_history_entry(&line);
                        Ok(Line::Text(line))
                    }
                    Err(ReadlineError::Interrupted) => Ok(Line::Nothing),
                    Err(ReadlineError::Eof) => Ok(Line::End),
                    Err(error) => Err(trouble(&error.to_string())),
                }
            }
        }
    }
}

fn trouble(what: &str) -> Failure {
    Failure::Host(format!("cannot read a line: {what}"))
}
