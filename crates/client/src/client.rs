//! Commands, typed and raw, over any transport.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use qga_proto::Command;
use qga_proto::types::fsfreeze::FsfreezeStatus;
use qga_proto::types::power::{GuestShutdown, GuestSuspendDisk, GuestSuspendHybrid, GuestSuspendRam};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::deadline::Deadline;
use crate::error::{Blocker, Channel, Error};
use crate::libvirt::Libvirt;
use crate::reply::{AgentError, Reply};
use crate::stream::{Serial, Unix, Vsock};
use crate::transport::{Answer, Chunks, Transport};
use crate::wire::Wire;

/// Time a command has unless the caller says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Time to wait for the complaint of a command that is silent when it succeeds.
pub const SILENCE: Duration = Duration::from_secs(5);

/// The vsock port that `qga` asks when none is named. There is no official one.
pub const VSOCK_PORT: u32 = 1024;

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
    /// [`Error::Open`] when there is no such socket, nobody listens, it is not allowed, or its queue stays full;
    /// [`Error::Held`] when libvirt has it.
    pub fn unix(path: impl AsRef<Path>, timeout: Duration) -> Result<Self, Error> {
        let path = path.as_ref();
        let stream = Unix::connect(path, Deadline::after(timeout)).map_err(|source| match source.kind() {
            ErrorKind::ResourceBusy => Error::Held(Channel::Unix(path.to_owned())),
            _ => Error::Open { channel: Channel::Unix(path.to_owned()), source },
        })?;
        Ok(Client::over(Wire::new(stream)).with_timeout(timeout))
    }

    /// Connects to an agent that listens on a vsock port, [`VSOCK_PORT`] usually, of the guest with this context
    /// identifier (`-m vsock-listen -p 4294967295:PORT`).
    ///
    /// # Errors
    /// [`Error::Open`] when there is no such guest or nobody listens.
    pub fn vsock(cid: u32, port: u32, timeout: Duration) -> Result<Self, Error> {
        let stream = Vsock::connect(cid, port)
            .map_err(|source| Error::Open { channel: Channel::Vsock { cid, port }, source })?;
        Ok(Client::over(Wire::new(stream)).with_timeout(timeout))
    }

    /// Opens a serial line, or a pty, with an agent at its other end.
    ///
    /// # Errors
    /// [`Error::Open`] when there is no such line, it is not allowed, it is no serial line, or another program has it.
    pub fn serial(path: impl AsRef<Path>, timeout: Duration) -> Result<Self, Error> {
        let path = path.as_ref();
        let stream = Serial::open(path, Deadline::after(timeout))
            .map_err(|source| Error::Open { channel: Channel::Serial(path.to_owned()), source })?;
        Ok(Client::over(Wire::new(stream)).with_timeout(timeout))
    }

    /// Asks the agent of a machine through libvirt: that of this host that `virsh` prefers, or the one at `uri`.
    ///
    /// # Errors
    /// [`Error::NoVirsh`] when `virsh` is not installed; [`Error::Arguments`] for a name that no machine can have. All
    /// else shows with the first command.
    pub fn libvirt(uri: Option<&str>, domain: &str, timeout: Duration) -> Result<Self, Error> {
        Ok(Client::over(Libvirt::new(uri, domain)?).with_timeout(timeout))
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

    /// The time each command has.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How many bytes of a file should go into one request on this channel.
    pub fn chunks(&self) -> Chunks {
        self.transport.chunks()
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
        self.run(C::NAME, &encode(C::NAME, Some(args))?, C::SUCCESS_RESPONSE)
    }

    /// Runs a command and gives its result as it came, with whatever the type of the result has no member for.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_value<C: Command>(&mut self, args: C::Args<'_>) -> Result<Value, Error> {
        self.run(C::NAME, &encode(C::NAME, Some(args))?, C::SUCCESS_RESPONSE)
    }

    /// Runs a command by its name, with arguments as they go over the wire; null for none.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_raw(&mut self, name: &str, args: Value) -> Result<Value, Error> {
        let args = if args.is_null() { None } else { Some(args) };
        self.run(name, &encode(name, args)?, answers_on_success(name))
    }

    /// Sends a request that is ready to be sent.
    pub(crate) fn run<T: DeserializeOwned>(&mut self, name: &str, request: &[u8], answers: bool) -> Result<T, Error> {
        let limit = if answers { self.timeout } else { self.timeout.min(SILENCE) };
        match self.transport.exchange(request, Deadline::after(limit))? {
            Answer::Reply(reply) => self.result(name, &reply, None),
            Answer::Closed | Answer::Nothing if !answers => {
                serde_json::from_value(Value::Object(Map::new())).map_err(|error| Error::Malformed(error.to_string()))
            }
            Answer::Closed => Err(Error::Closed),
            Answer::Nothing => Err(Error::Timeout { command: name.to_owned(), after: limit }),
        }
    }

    /// Sends a request whose answer is taken later with [`take`](Self::take). In between no other question may be
    /// asked: it would give up on the answer.
    pub(crate) fn ahead(&mut self, request: &[u8]) -> Result<(), Error> {
        self.transport.ahead(request, Deadline::after(self.timeout))
    }

    /// Waits for the answer to the oldest request that was sent ahead. The reply is read with
    /// [`result`](Self::result), and may then be given back with [`reuse`](Self::reuse).
    pub(crate) fn take(&mut self, name: &str) -> Result<Reply, Error> {
        match self.transport.take(Deadline::after(self.timeout))? {
            Answer::Reply(reply) => Ok(reply),
            Answer::Closed => Err(Error::Closed),
            Answer::Nothing => Err(Error::Timeout { command: name.to_owned(), after: self.timeout }),
        }
    }

    /// Gives up on what is under way.
    pub(crate) fn give_up(&mut self) {
        self.transport.lose_step();
    }

    /// Takes back the memory of a reply that has been read.
    pub(crate) fn reuse(&mut self, reply: Reply) {
        self.transport.reuse(reply);
    }

    /// The result in a reply, to the request with this number if it had one.
    pub(crate) fn result<'a, T: Deserialize<'a>>(
        &mut self,
        name: &str,
        reply: &'a Reply,
        id: Option<u64>,
    ) -> Result<T, Error> {
        match reply.read_to(id) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(self.explain(name, error)),
            Err(error) => {
                self.transport.lose_step();
                Err(match error {
                    Error::Malformed(what) => Error::Malformed(format!("{name}: {what}")),
                    other => other,
                })
            }
        }
    }

    /// Turns the agent's error into ours.
    fn explain(&mut self, name: &str, AgentError { class, desc }: AgentError) -> Error {
        let command = name.to_owned();
        if class != "CommandNotFound" && class != "CommandDisabled" {
            return Error::Failed { command, class, desc };
        }
        if class == "CommandNotFound" && !desc.contains("has been disabled") {
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
            Ok(Answer::Reply(reply)) => matches!(reply.read(), Ok(Ok(FsfreezeStatus::Frozen))),
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
