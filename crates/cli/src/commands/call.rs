//! `qga call`

use std::io::{self, Read};

use clap::Args;
use qga_client::answers_on_success;
use serde_json::Value;

use super::PerTarget;
use crate::cli::Options;
use crate::exit::Failure;
use crate::json;
use crate::output::Output;
use crate::session::Session;

/// Said about a command that has no answer.
pub(super) const SENT: &str = "sent; this command answers only when it fails, and it has not";

/// Run any command of the agent by its name and print what it returns, as JSON
#[derive(Debug, Args)]
pub(crate) struct Call {
    /// Name of the command, such as guest-get-osinfo
    name: String,

    /// Its arguments, a JSON object; '-' reads them from standard input
    #[arg(value_name = "JSON")]
    arguments: Option<String>,

    /// Print the result on one line
    #[arg(short = '1', long)]
    compact: bool,
}

impl PerTarget for Call {
    const NAME: &'static str = "call";

    fn prepare(&mut self, _options: &Options) -> Result<(), Failure> {
        if self.arguments.as_deref() == Some("-") {
            self.arguments = Some(read_stdin()?);
        }
        self.parsed().map(drop)
    }

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let result = session.agent()?.call_raw(&self.name, self.parsed()?)?;
        if session.is_json() {
            return Ok(Output::json(result));
        }
        if !answers_on_success(&self.name) {
            return Ok(Output::text("").with_note(SENT));
        }
        Ok(Output::text(if self.compact { json::compact(&result) } else { json::pretty(&result) }))
    }
}

impl Call {
    /// Arguments are an object: the agent has no other form.
    fn parsed(&self) -> Result<Value, Failure> {
        let Some(text) = &self.arguments else {
            return Ok(Value::Null);
        };
        match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => Ok(value),
            Ok(_) => Err(Failure::Usage("the arguments must be a JSON object, such as {\"handle\": 1000}".into())),
            Err(error) => Err(Failure::Usage(format!("the arguments are no JSON: {error}"))),
        }
    }
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    match io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::Host(format!("cannot read the arguments from standard input: {}", error.kind()))),
    }
}
