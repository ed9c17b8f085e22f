//! `qga call`

use std::io::{self, Read};

use qga_client::answers_on_success;
use serde_json::Value;

use super::{Outcome, connect};
use crate::cli::{Call, Cli};
use crate::exit::Failure;
use crate::json;

/// Runs a command by its name and prints what it returns.
pub(crate) fn run(cli: &Cli, call: &Call) -> Result<Outcome, Failure> {
    let arguments = match call.arguments.as_deref() {
        None => Value::Null,
        Some("-") => parse(&read_stdin()?)?,
        Some(text) => parse(text)?,
    };
    let mut agent = connect(cli)?;
    let result = agent.call_raw(&call.name, arguments)?;
    if !answers_on_success(&call.name) {
        let note = "sent; this command answers only when it fails, and it has not";
        return Ok(Outcome { text: String::new(), note: Some(note) });
    }
    Ok(Outcome::line(if call.compact || cli.json { json::compact(&result) } else { json::pretty(&result) }))
}

/// Arguments are an object: the agent has no other form.
fn parse(text: &str) -> Result<Value, Failure> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Failure::Usage("the arguments must be a JSON object, such as {\"handle\": 1000}".into())),
        Err(error) => Err(Failure::Usage(format!("the arguments are no JSON: {error}"))),
    }
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    match io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::Usage(format!("cannot read the arguments from standard input: {}", error.kind()))),
    }
}
