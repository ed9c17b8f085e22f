//! The commands. A module a family, a file a command; [`COMMANDS`] is the one list of them.

pub mod core;
pub mod file;
pub mod fsfreeze;
pub mod network;
pub mod power;

use qga_proto::bind;
use qga_proto::error::Result;
use qga_proto::json::{self, Node};
use qga_proto::Command;

use crate::state::State;

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// On the loop: it never blocks and takes microseconds.
    Instant,
    /// On the conversation's worker thread.
    Worker,
}

/// What a handler is given besides its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The agent.
    pub state: &'a State,
    /// Bytes that the reply should not exceed, where the channel has a limit.
    pub reply_limit: Option<usize>,
}

/// How the agent carries a command out.
pub trait Handler: Command {
    /// Where it runs.
    const LANE: Lane = Lane::Worker;
    /// Whether it may be called while file systems are frozen.
    const WHILE_FROZEN: bool = false;

    /// Does it.
    fn run(cx: Context<'_>, args: Self::Args<'_>) -> Result<Self::Ret>;
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name on the wire.
    pub name: &'static str,
    /// Where it runs.
    pub lane: Lane,
    /// Whether it may be called while file systems are frozen.
    pub while_frozen: bool,
    /// Whether it answers when it succeeds.
    pub success_response: bool,
    /// Binds the arguments, runs the handler and writes its result as JSON.
    pub call: fn(Context<'_>, Node<'_>, &mut Vec<u8>) -> Result<()>,
}

const fn entry<H: Handler>() -> Entry {
    Entry {
        name: H::NAME,
        lane: H::LANE,
        while_frozen: H::WHILE_FROZEN,
        success_response: H::SUCCESS_RESPONSE,
        call: call::<H>,
    }
}

fn call<H: Handler>(cx: Context<'_>, args: Node<'_>, out: &mut Vec<u8>) -> Result<()> {
    let args = bind::from_node::<H::Args<'_>>(args)?;
    let ret = H::run(cx, args)?;
    json::write(out, &ret);
    Ok(())
}
