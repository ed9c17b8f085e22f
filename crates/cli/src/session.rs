//! One target while a command is carried out on it.

use std::time::Duration;

use qga_client::{Client, Error};
use qga_proto::Command;
use serde_json::Value;

use crate::cli::Options;
use crate::exit::Failure;
use crate::output::{Output, Printer};
use crate::target::Target;

/// One target while a command is carried out on it.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    /// The target.
    pub(crate) target: &'a Target,
    /// What every command takes.
    pub(crate) options: &'a Options,
    /// Where results go.
    pub(crate) printer: &'a Printer,
    /// The connection, once it was needed.
    agent: Option<Client>,
}

impl<'a> Session<'a> {
    /// Nothing is connected yet.
    pub(crate) fn new(target: &'a Target, options: &'a Options, printer: &'a Printer) -> Self {
        Session { target, options, printer, agent: None }
    }

    /// Whether the result is for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.printer.is_json()
    }

    /// The agent, connected with the first call.
    pub(crate) fn agent(&mut self) -> Result<&mut Client, Error> {
        match &mut self.agent {
            Some(agent) => Ok(agent),
            slot => Ok(slot.insert(self.target.connect(self.options.timeout())?)),
        }
    }

    /// The agent, with more time for each command unless the command line says how much.
    pub(crate) fn patient_agent(&mut self, default: Duration) -> Result<&mut Client, Error> {
        let timeout = self.options.timeout_or(default);
        let agent = self.agent()?;
        agent.set_timeout(timeout);
        Ok(agent)
    }

    /// Asks one question and shows the answer: as JSON exactly what the agent said, for people as `text` puts it.
    pub(crate) fn show<C: Command>(
        &mut self,
        args: C::Args<'_>,
        text: impl FnOnce(C::Ret) -> String,
    ) -> Result<Output, Failure> {
        if self.is_json() {
            return Ok(Output::json(self.agent()?.call_value::<C>(args)?));
        }
        Ok(Output::text(text(self.agent()?.call::<C>(args)?)))
    }

    /// Asks something that is nice to have: null when the agent does not know it, or must not tell.
    pub(crate) fn ask_if_known<C: Command>(&mut self, args: C::Args<'_>) -> Result<Value, Error> {
        match self.agent()?.call_value::<C>(args) {
            Err(Error::NotFound { .. } | Error::Blocked { .. } | Error::Failed { .. }) => Ok(Value::Null),
            result => result,
        }
    }

    /// Prints lines at once, before the command has ended; they must be harmless for a terminal already.
    #[expect(dead_code, reason = "for commands whose output comes while they run")]
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        self.printer.print(Some(self.target.name()), text)
    }

    /// Prints a word for people on standard error; it must be harmless for a terminal already.
    pub(crate) fn warn(&self, text: &str) {
        self.printer.warn(self.target.name(), text);
    }
}
