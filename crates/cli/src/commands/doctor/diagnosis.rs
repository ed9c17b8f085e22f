//! What was found, line by line.

use qga_client::{Error, printable};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::table::{Field, Table};

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    check: &'static str,
    state: State,
    message: String,
    hint: Option<String>,
    /// The exit code if this is the worst.
    code: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

impl Diagnosis {
    /// All is well there. Messages and hints must be harmless for a terminal already.
    pub(super) fn ok(&mut self, check: &'static str, message: String) {
        self.lines.push(Line { check, state: State::Ok, message, hint: None, code: 0 });
    }

    /// Something works less well than it could.
    pub(super) fn warn(&mut self, check: &'static str, message: String, hint: Option<String>, code: u8) {
        self.lines.push(Line { check, state: State::Warn, message, hint, code });
    }

    /// Something is broken.
    pub(super) fn fail(&mut self, check: &'static str, message: String, hint: Option<String>, code: u8) {
        self.lines.push(Line { check, state: State::Fail, message, hint, code });
    }

    /// The way ends here.
    pub(super) fn failed(&mut self, check: &'static str, error: Error) {
        let (message, hint) = (printable(&error.to_string()), error.hint().map(str::to_owned));
        self.fail(check, message, hint, Failure::Agent(error).code());
    }

    /// It cannot be told, which need not be a fault.
    pub(super) fn doubted(&mut self, check: &'static str, error: Error) {
        let (message, hint) = (printable(&error.to_string()), error.hint().map(str::to_owned));
        self.warn(check, message, hint, Failure::Agent(error).code());
    }

    /// That of the first of the worst lines; among warnings, of the first that has more to say than "something".
    pub(super) fn code(&self) -> u8 {
        let of = |state| self.lines.iter().filter(move |line| line.state == state).map(|line| line.code);
        of(State::Fail)
            .next()
            .or_else(|| of(State::Warn).find(|code| *code != Failure::GENERAL))
            .or_else(|| of(State::Warn).next())
            .unwrap_or(0)
    }

    pub(super) fn to_json(&self) -> Value {
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                json!({
                    "check": line.check, "state": line.state.name(), "message": line.message, "hint": line.hint,
                })
            })
            .collect();
        json!({ "well": self.code() == 0, "checks": lines })
    }

    pub(super) fn text(&self) -> String {
        let mut table = Table::new(&["STATE", "CHECK", "RESULT"]);
        for line in &self.lines {
            let state = Field::from(line.state.name()).coloured(line.state == State::Warn, line.state == State::Fail);
            let message = match &line.hint {
                Some(hint) => format!("{}\n  {}", line.message, hint),
                None => line.message.clone(),
            };
            table.row([state, line.check.into(), message.into()]);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_first_failure_and_of_a_telling_warning_otherwise() {
        let mut diagnosis = Diagnosis::default();
        diagnosis.ok("a", "x".into());
        assert_eq!(diagnosis.code(), 0);
        diagnosis.warn("b", "x".into(), None, 1);
        assert_eq!(diagnosis.code(), 1);
        diagnosis.warn("c", "x".into(), None, 126);
        assert_eq!(diagnosis.code(), 126);
        diagnosis.fail("d", "x".into(), Some("do this".into()), 122);
        diagnosis.fail("e", "x".into(), None, 125);
        assert_eq!(diagnosis.code(), 122);
        assert!(diagnosis.text().contains("\nfail   d      x\n                do this\n"), "{}", diagnosis.text());
    }
}
