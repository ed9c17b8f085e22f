//! The rules that hold for every command, in one place: which command it is, whether it may be called, binding
//! of its arguments, the form of its reply.

use std::borrow::Cow;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use qga_proto::Command;
use qga_proto::envelope::{self, Rejected, Request};
use qga_proto::error::Error;
use qga_proto::frame::Document;
use qga_proto::json::{self, Node};
use qga_proto::types::core::{GuestSync, GuestSyncDelimited};
use qga_proto::types::fsfreeze::GuestFsfreezeThaw;

use crate::commands::{self, Context, Entry, Lane};
use crate::state::State;

/// Bytes that most replies have room in.
const SHORT: usize = 128;

/// What a session needs to know of a request before it is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `guest-sync`: may overtake a command that hangs, after a grace.
    Sync,
    /// `guest-sync-delimited`: behind a byte 0xFF it overtakes everything, without one it is like the other.
    SyncDelimited,
    /// `guest-fsfreeze-thaw`: has to be done, whatever else cannot.
    Thaw,
    /// All others.
    Other,
}

impl Kind {
    /// Whether it brings both ends to the same point.
    pub fn is_sync(self) -> bool {
        matches!(self, Kind::Sync | Kind::SyncDelimited)
    }
}

/// A request that has been read and found to be one, or the complaint about it.
#[derive(Debug)]
pub struct Prepared<'a> {
    id: Option<Node<'a>>,
    call: Result<(&'static Entry, Node<'a>), Error>,
}

/// Reads a message. Nothing is carried out and nothing is refused for the state that the agent is in: that is
/// decided when its turn comes.
pub fn prepare(document: &Document) -> Prepared<'_> {
    let request = json::read_document(document).map_err(|error| Rejected { id: None, error }).and_then(envelope::parse);
    let Request { execute, arguments, id } = match request {
        Ok(request) => request,
        Err(Rejected { id, error }) => return Prepared { id, call: Err(error) },
    };
    let call = commands::find(&execute)
        .map(|entry| (entry, arguments))
        .ok_or_else(|| Error::not_found(format!("The command {execute} has not been found")));
    Prepared { id, call }
}

impl Prepared<'_> {
    /// Where it has to run. A complaint is answered on the loop.
    pub fn lane(&self) -> Lane {
        self.call.as_ref().map_or(Lane::Instant, |(entry, _)| entry.lane)
    }

    /// Which kind of request it is.
    pub fn kind(&self) -> Kind {
        match &self.call {
            Ok((entry, _)) if entry.name == GuestSync::NAME => Kind::Sync,
            Ok((entry, _)) if entry.name == GuestSyncDelimited::NAME => Kind::SyncDelimited,
            Ok((entry, _)) if entry.name == GuestFsfreezeThaw::NAME => Kind::Thaw,
            _ => Kind::Other,
        }
    }

    /// Its name, for messages to people.
    pub fn name(&self) -> &'static str {
        self.call.as_ref().map_or("", |(entry, _)| entry.name)
    }

    /// How to take its effect back should nobody hear of its success. It is given the value of the reply.
    pub fn undo(&self) -> Option<fn(&State, &str)> {
        self.call.as_ref().ok().and_then(|(entry, _)| entry.undo)
    }

    /// Answers with an error, whatever the request asks for.
    pub fn refuse(&self, error: &Error) -> Vec<u8> {
        let mut reply = Vec::new();
        envelope::failure(&mut reply, error, self.id.as_ref());
        reply
    }

    /// Carries it out and returns the reply: a whole line, or nothing where success is silent.
    pub fn run(self, state: &State, reply_limit: Option<usize>) -> Vec<u8> {
        self.run_into(Vec::new(), state, reply_limit)
    }

    /// The same, with an empty buffer for the reply.
    pub fn run_into(self, mut reply: Vec<u8>, state: &State, reply_limit: Option<usize>) -> Vec<u8> {
        let Prepared { id, call } = self;
        reply.reserve(SHORT);
        let (entry, arguments) = match call {
            Ok(call) => call,
            Err(error) => {
                envelope::failure(&mut reply, &error, id.as_ref());
                return reply;
            }
        };
        if entry.name == GuestSyncDelimited::NAME {
            reply.push(0xFF);
        }
        // What an answer without a value takes is not there for the value.
        let room = reply_limit.map(|limit| limit.saturating_sub(reply.len() + envelope_size(id.as_ref())));
        let outcome = envelope::success(&mut reply, id.as_ref(), |reply| execute(entry, arguments, state, room, reply));
        match outcome {
            Ok(()) if entry.success_response => {}
            Ok(()) => reply.clear(),
            Err(error) => {
                reply.clear();
                envelope::failure(&mut reply, &error, id.as_ref());
            }
        }
        match reply_limit {
            Some(limit) if reply.len() > limit => {
                let size = reply.len();
                reply = Vec::new();
                let error = Error::generic(format!(
                    "the reply of {} has {size} bytes, more than the {limit} this channel carries",
                    entry.name
                ));
                envelope::failure(&mut reply, &error, id.as_ref());
            }
            _ => {}
        }
        reply
    }
}

/// The value of a reply that tells of success, where that is a number.
pub fn value(reply: &[u8]) -> Option<String> {
    let Ok(Node::Dict(members)) = json::read(reply) else { return None };
    members.into_iter().find_map(|(name, value)| match value {
        Node::Number(number) if name == "return" => Some(number.to_owned()),
        _ => None,
    })
}

/// Bytes of an answer besides its value.
fn envelope_size(id: Option<&Node<'_>>) -> usize {
    let mut empty = Vec::new();
    let Ok(()) = envelope::success(&mut empty, id, |_| Ok::<(), Infallible>(()));
    empty.len()
}

/// Checks, carries out, and appends the value to `reply`.
fn execute(
    entry: &Entry,
    arguments: Node<'_>,
    state: &State,
    reply_limit: Option<usize>,
    reply: &mut Vec<u8>,
) -> Result<(), Error> {
    if !state.policy.permits(entry, state.freeze.is_frozen()) {
        return Err(Error::not_found(format!("Command {} has been disabled: the command is not allowed", entry.name)));
    }
    let started = Instant::now();
    let context = Context { state, reply_limit };
    // A mistake in one handler must not end the agent. The handlers' locks recover from poisoning.
    let outcome = catch_unwind(AssertUnwindSafe(|| (entry.call)(context, arguments, reply)));
    let outcome = outcome.unwrap_or_else(|panic| {
        let what = panic_text(panic.as_ref());
        log::error!("{} failed unexpectedly: {what}", entry.name);
        Err(Error::generic(format!("{} failed unexpectedly: {what}", entry.name)))
    });
    log::debug!("{} took {} us", entry.name, started.elapsed().as_micros());
    outcome
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> Cow<'static, str> {
    if let Some(text) = panic.downcast_ref::<&str>() {
        Cow::Borrowed(text)
    } else if let Some(text) = panic.downcast_ref::<String>() {
        Cow::Owned(text.clone())
    } else {
        Cow::Borrowed("no reason given")
    }
}
