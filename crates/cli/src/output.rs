//! What commands end in, and how it reaches the terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use qga_client::printable;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::json;

/// What a command ended in when it did not fail.
#[derive(Debug)]
pub(crate) struct Output {
    body: Body,
    /// For standard error.
    note: Option<&'static str>,
    /// The exit code: what is printed may tell of a failure.
    code: u8,
}

#[derive(Debug)]
enum Body {
    /// Lines for people, ready to be shown.
    Text(String),
    /// A value on one line.
    Json(Value),
}

impl Output {
    /// Lines, which must be harmless for a terminal already; the last line end may be missing.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Output { body: Body::Text(text.into()), note: None, code: 0 }
    }

    /// A value for programs.
    pub(crate) fn json(value: Value) -> Self {
        Output { body: Body::Json(value), note: None, code: 0 }
    }

    /// With an exit code other than 0.
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// With a word for people on standard error.
    pub(crate) fn with_note(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }
}

/// Prints the results of all targets, each in one piece.
#[derive(Debug)]
pub(crate) struct Printer {
    is_json: bool,
    is_many: bool,
    /// One result at a time.
    turn: Mutex<()>,
    /// Nobody reads any more.
    is_closed: AtomicBool,
}

impl Printer {
    /// For JSON or for people, for one target or for several.
    pub(crate) fn new(is_json: bool, is_many: bool) -> Self {
        Printer { is_json, is_many, turn: Mutex::new(()), is_closed: AtomicBool::new(false) }
    }

    /// Whether results are printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether the output has to tell targets apart.
    pub(crate) fn is_many(&self) -> bool {
        self.is_many
    }

    /// Whether nobody reads what is printed any more, as when it goes to `head`.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Prints what a target's command ended in, and returns the exit code for it.
    pub(crate) fn finish(&self, target: &str, result: Result<Output, Failure>) -> u8 {
        let failure = match result {
            Ok(output) => match self.show(target, &output) {
                Ok(()) => return output.code,
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        self.complain(Some(target), &failure);
        failure.code()
    }

    /// Prints what went wrong and what to do about it: on standard error, or, as JSON for several targets, where the
    /// results are.
    pub(crate) fn complain(&self, target: Option<&str>, failure: &Failure) {
        let target = target.filter(|_| self.is_many);
        if self.is_json {
            let mut value = failure.to_json();
            match target {
                None => self.note(None, &json::compact(&value)),
                Some(target) => {
                    value["target"] = target.into();
                    // A standard output that does not work is complained about on standard error, once, by its result.
                    let _ = self.print(None, &json::compact(&value));
                }
            }
            return;
        }
        self.note(target, &printable(&failure.to_string()));
        if let Some(hint) = failure.hint() {
            self.note_line(&format!("hint: {hint}"));
        }
    }

    fn show(&self, target: &str, output: &Output) -> Result<(), Failure> {
        match &output.body {
            Body::Text(text) => self.print(Some(target), text)?,
            Body::Json(value) if self.is_many => {
                self.print(None, &json::compact(&json!({ "target": target, "result": value })))?;
            }
            Body::Json(value) => self.print(None, &json::compact(value))?,
        }
        if let Some(note) = output.note.filter(|_| !self.is_json) {
            self.note(Some(target).filter(|_| self.is_many), note);
        }
        Ok(())
    }

    /// Prints lines, with the target in front of each where there are several. A reader that has gone away is no
    /// failure.
    pub(crate) fn print(&self, target: Option<&str>, text: &str) -> Result<(), Failure> {
        let mut lines = String::with_capacity(text.len() + 1);
        for line in text.lines() {
            if let Some(target) = target.filter(|_| self.is_many) {
                lines.push_str(&printable(target));
                lines.push_str(": ");
            }
            lines.push_str(line);
            lines.push('\n');
        }
        self.pass(lines.as_bytes())
    }

    /// Prints bytes as they are. A reader that has gone away is no failure.
    pub(crate) fn pass(&self, bytes: &[u8]) -> Result<(), Failure> {
        let _turn = self.turn.lock();
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            result => result.map_err(Failure::Output),
        }
    }

    /// Prints bytes as they are on standard error; there is nowhere to complain about one that does not work.
    pub(crate) fn pass_error(&self, bytes: &[u8]) {
        let _turn = self.turn.lock();
        let _ = io::stderr().lock().write_all(bytes);
    }

    /// Prints a word for people on standard error; it must be harmless for a terminal already.
    pub(crate) fn warn(&self, target: &str, text: &str) {
        self.note(Some(target).filter(|_| self.is_many), text);
    }

    /// A word for people on standard error.
    pub(crate) fn note(&self, target: Option<&str>, text: &str) {
        match (target, self.is_json) {
            (_, true) => self.note_line(text),
            (None, false) => self.note_line(&format!("qga: {text}")),
            (Some(target), false) => self.note_line(&format!("qga: {}: {text}", printable(target))),
        }
    }

    /// One line on standard error; there is nowhere to complain about a standard error that does not work.
    fn note_line(&self, line: &str) {
        let _turn = self.turn.lock();
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}

/// Whether standard output shows colours: a terminal that can, and a user who has not said no (<https://no-color.org>).
pub(crate) fn has_colours() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !is_set("NO_COLOR") && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}
