//! Commands, typed and raw, over any transport.

use std::path::Path;
use std::time::Duration;

use qga_proto::Command;
use qga_proto::types::power::{GuestShutdown, GuestSuspendDisk, GuestSuspendHybrid, GuestSuspendRam};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::deadline::Deadline;
use crate::error::{Blocker, Error};
use crate::stream::Unix;
use crate::transport::{Answer, Transport};
use crate::wire::Wire;

/// Time a command has unless the caller says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Time to wait for the complaint of a command that is silent when it succeeds.
pub const SILENCE: Duration = Duration::from_secs(5);

/// The commands that send nothing when they succeed, for raw calls.
const SILENT: [&str; 4] =
    [GuestShutdown::NAME, GuestSuspendDisk::NAME, GuestSuspendRam::NAME, GuestSuspendHybrid::NAME];

/// Whether a command answers when it succeeds; one that is not known here does.
pub fn answers_on_success(name: &str) -> bool {
    !SILENT.contains(&name)
}

/// An agent that can be asked.
#[derive(Debug)]
pub struct Client {
    transport: Box<dyn Transport>,
    timeout: Duration,
}

/// A request as it is written.
#[derive(Serialize)]
struct Request<'a, A: Serialize> {
    execute: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<A>,
}

impl Client {
    /// Connects to an agent behind a unix socket; `timeout` holds for connecting and for each command afterwards.
    ///
    /// Whether an agent is there shows with the first command.
    ///
    /// # Errors
    /// [`Error::Open`] when there is no such socket, nobody listens, it is not allowed, or its queue stays full.
    pub fn unix(path: impl AsRef<Path>, timeout: Duration) -> Result<Self, Error> {
        let path = path.as_ref();
        let stream = Unix::connect(path, Deadline::after(timeout))
            .map_err(|source| Error::Open { path: path.to_owned(), source })?;
        Ok(Client::over(Wire::new(stream)).with_timeout(timeout))
    }

    /// Uses any transport, with [`DEFAULT_TIMEOUT`].
    pub fn over(transport: impl Transport + 'static) -> Self {
        Client { transport: Box::new(transport), timeout: DEFAULT_TIMEOUT }
    }

    /// Gives each command so much time, the handshake in front of it included.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// As [`with_timeout`](Self::with_timeout), for the commands from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Runs a command.
    ///
    /// A command without a success response counts as done when no complaint came within [`SILENCE`], or when the
    /// connection ended.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::layer`] tells how far the request came. After every one of them the next call may be
    /// made: it first finds its place in the conversation again.
    pub fn call<C: Command>(&mut self, args: C::Args<'_>) -> Result<C::Ret, Error> {
        let value = self.run(C::NAME, Some(args), C::SUCCESS_RESPONSE)?;
        serde_json::from_value(value).map_err(|error| Error::Malformed(format!("{}: {error}", C::NAME)))
    }

    /// Runs a command by its name, with arguments as they go over the wire; null for none.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_raw(&mut self, name: &str, args: Value) -> Result<Value, Error> {
        let args = if args.is_null() { None } else { Some(args) };
        self.run(name, args, answers_on_success(name))
    }

    fn run(&mut self, name: &str, arguments: Option<impl Serialize>, answers: bool) -> Result<Value, Error> {
        let limit = if answers { self.timeout } else { self.timeout.min(SILENCE) };
        let request = encode(name, arguments)?;
        match self.transport.exchange(&request, Deadline::after(limit))? {
            Answer::Reply(reply) => match take_return(reply) {
                Ok(value) => Ok(value),
                Err(error) => Err(self.explain(name, &error)),
            },
            Answer::Closed | Answer::Nothing if !answers => Ok(Value::Object(Map::new())),
            Answer::Closed => Err(Error::Closed),
            Answer::Nothing => Err(Error::Timeout { command: name.to_owned(), after: limit }),
        }
    }

    /// Turns the agent's error into ours.
    fn explain(&mut self, name: &str, error: &Value) -> Error {
        let text = |member| error.get(member).and_then(Value::as_str).unwrap_or_default();
        let (class, desc) = (text("class"), text("desc"));
        let command = name.to_owned();
        if class != "CommandNotFound" && class != "CommandDisabled" {
            return Error::Failed { command, class: class.to_owned(), desc: desc.to_owned() };
        }
        if !desc.contains("has been disabled") {
            return Error::NotFound { command };
        }
        // Only some releases say why; the one question that is allowed while frozen tells.
        let frozen = desc.contains("frozen") || (!desc.contains("for this instance") && self.is_frozen());
        Error::Blocked { command, by: if frozen { Blocker::Frozen } else { Blocker::List } }
    }

    /// Whether the agent says that it has frozen file systems; no when it does not say.
    fn is_frozen(&mut self) -> bool {
        let Ok(request) = encode("guest-fsfreeze-status", None::<()>) else {
            return false;
        };
        let limit = self.timeout.min(crate::HANDSHAKE_TIMEOUT);
        match self.transport.exchange(&request, Deadline::after(limit)) {
            Ok(Answer::Reply(reply)) => reply.get("return").and_then(Value::as_str) == Some("frozen"),
            _ => false,
        }
    }
}

/// A request with its line end.
fn encode(name: &str, arguments: Option<impl Serialize>) -> Result<Vec<u8>, Error> {
    let mut bytes = serde_json::to_vec(&Request { execute: name, arguments })
        .map_err(|error| Error::Arguments(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The result in a reply, or the error in it.
fn take_return(reply: Value) -> Result<Value, Value> {
    let Value::Object(mut members) = reply else {
        return Err(Value::Null);
    };
    match (members.remove("error"), members.remove("return")) {
        (Some(error), _) => Err(error),
        (None, result) => Ok(result.unwrap_or_default()),
    }
}
