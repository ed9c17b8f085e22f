//! The commands. A module a family, a file a command; [`COMMANDS`] is the one list of them.

pub mod account;
pub mod core;
pub mod cpu;
#[cfg(test)]
mod document;
pub mod exec;
pub mod file;
pub mod fsfreeze;
pub mod memory;
pub mod network;
pub mod power;
pub mod ssh;
pub mod stats;
pub mod storage;
pub mod system;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;

use qga_proto::Command;
use qga_proto::bind;
use qga_proto::error::Result;
use qga_proto::json::{self, Node};
use qga_proto::types::account::GuestSetUserPassword;
use qga_proto::types::core::{GuestInfo, GuestPing, GuestSync, GuestSyncDelimited};
use qga_proto::types::cpu::{GuestGetVcpus, GuestSetVcpus};
use qga_proto::types::exec::{GuestExec, GuestExecStatus};
use qga_proto::types::file::{
    GuestFileClose, GuestFileFlush, GuestFileOpen, GuestFileRead, GuestFileSeek, GuestFileWrite,
};
use qga_proto::types::fsfreeze::{
    GuestFsfreezeFreeze, GuestFsfreezeFreezeList, GuestFsfreezeStatus, GuestFsfreezeThaw, GuestFstrim,
};
use qga_proto::types::memory::{GuestGetMemoryBlockInfo, GuestGetMemoryBlocks, GuestSetMemoryBlocks};
use qga_proto::types::network::{GuestNetworkGetInterfaces, GuestNetworkGetRoute};
use qga_proto::types::power::{GuestShutdown, GuestSuspendDisk, GuestSuspendHybrid, GuestSuspendRam};
use qga_proto::types::ssh::{GuestSshAddAuthorizedKeys, GuestSshGetAuthorizedKeys, GuestSshRemoveAuthorizedKeys};
use qga_proto::types::stats::{GuestGetCpustats, GuestGetDiskstats, GuestGetLoad};
use qga_proto::types::storage::{GuestGetDisks, GuestGetFsinfo};
use qga_proto::types::system::{GuestGetHostName, GuestGetOsinfo, GuestGetTimezone, GuestGetUsers};
use qga_proto::types::time::{GuestGetTime, GuestSetTime};

use crate::state::State;

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// On the loop: it never blocks and takes microseconds.
    Instant,
    /// On the conversation's worker thread.
    Worker,
    /// The same, and it is not refused because commands before it are stuck: a frozen guest cannot do without.
    Thaw,
}

/// What a handler is given besides its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The agent.
    pub state: &'a State,
    /// Bytes that the value in the reply should not exceed, where the channel has a limit. What is around the value has
    /// been taken off.
    pub reply_limit: Option<usize>,
}

/// How the agent carries a command out.
pub trait Handler: Command {
    /// Where it runs.
    const LANE: Lane = Lane::Worker;
    /// Whether it may be called while file systems are frozen.
    const WHILE_FROZEN: bool = false;
    /// Takes its effect back when nobody hears of its success, because the host has not waited for it. Given the state
    /// and the result, a number.
    const UNDO: Option<fn(&State, &str)> = None;
    /// What the guest must have for it, beside the agent itself; for `docs/commands.md`.
    const NEEDS: &'static str = "";

    /// Does it.
    fn run(cx: Context<'_>, args: Self::Args<'_>) -> Result<Self::Ret>;

    /// Does it and appends the result as JSON. For a command whose result is so large that it is not to be held beside its
    /// text.
    fn answer(cx: Context<'_>, args: Self::Args<'_>, out: &mut Vec<u8>) -> Result<()> {
        json::write(out, &Self::run(cx, args)?);
        Ok(())
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name on the wire.
    pub name: &'static str,
    /// The QEMU release that brought it.
    pub since: &'static str,
    /// Where it runs.
    pub lane: Lane,
    /// Whether it may be called while file systems are frozen.
    pub while_frozen: bool,
    /// Whether it answers when it succeeds.
    pub success_response: bool,
    /// What the guest must have for it.
    pub needs: &'static str,
    /// Takes its effect back when nobody hears of its success.
    pub undo: Option<fn(&State, &str)>,
    /// Binds the arguments, runs the handler and writes its result as JSON.
    pub call: fn(Context<'_>, Node<'_>, &mut Vec<u8>) -> Result<()>,
}

const fn entry<H: Handler>() -> Entry {
    Entry {
        name: H::NAME,
        since: H::SINCE,
        lane: H::LANE,
        while_frozen: H::WHILE_FROZEN,
        success_response: H::SUCCESS_RESPONSE,
        undo: H::UNDO,
        needs: H::NEEDS,
        call: call::<H>,
    }
}

fn call<H: Handler>(cx: Context<'_>, args: Node<'_>, out: &mut Vec<u8>) -> Result<()> {
    H::answer(cx, bind::from_node::<H::Args<'_>>(args)?, out)
}

/// Every command there is, in the order of the schema.
pub const COMMANDS: &[Entry] = &[
    entry::<GuestSyncDelimited>(),
    entry::<GuestSync>(),
    entry::<GuestPing>(),
    entry::<GuestGetTime>(),
    entry::<GuestSetTime>(),
    entry::<GuestInfo>(),
    entry::<GuestShutdown>(),
    entry::<GuestFileOpen>(),
    entry::<GuestFileClose>(),
    entry::<GuestFileRead>(),
    entry::<GuestFileWrite>(),
    entry::<GuestFileSeek>(),
    entry::<GuestFileFlush>(),
    entry::<GuestFsfreezeStatus>(),
    entry::<GuestFsfreezeFreeze>(),
    entry::<GuestFsfreezeFreezeList>(),
    entry::<GuestFsfreezeThaw>(),
    entry::<GuestFstrim>(),
    entry::<GuestSuspendDisk>(),
    entry::<GuestSuspendRam>(),
    entry::<GuestSuspendHybrid>(),
    entry::<GuestNetworkGetInterfaces>(),
    entry::<GuestGetVcpus>(),
    entry::<GuestSetVcpus>(),
    entry::<GuestGetDisks>(),
    entry::<GuestGetFsinfo>(),
    entry::<GuestSetUserPassword>(),
    entry::<GuestGetMemoryBlocks>(),
    entry::<GuestSetMemoryBlocks>(),
    entry::<GuestGetMemoryBlockInfo>(),
    entry::<GuestExecStatus>(),
    entry::<GuestExec>(),
    entry::<GuestGetHostName>(),
    entry::<GuestGetUsers>(),
    entry::<GuestGetTimezone>(),
    entry::<GuestGetOsinfo>(),
    entry::<GuestSshGetAuthorizedKeys>(),
    entry::<GuestSshAddAuthorizedKeys>(),
    entry::<GuestSshRemoveAuthorizedKeys>(),
    entry::<GuestGetDiskstats>(),
    entry::<GuestGetCpustats>(),
    entry::<GuestGetLoad>(),
    entry::<GuestNetworkGetRoute>(),
];

/// The command of this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    let found = COMMANDS.iter().find(|entry| entry.name == name);
    #[cfg(test)]
    let found = found.or_else(|| testing::TEST_COMMANDS.iter().find(|entry| entry.name == name));
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_there_once_and_is_found() {
        let names: HashSet<_> = COMMANDS.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), COMMANDS.len());
        assert!(COMMANDS.iter().all(|entry| find(entry.name).is_some_and(|found| found.name == entry.name)));
        assert!(find("guest-nope").is_none() && find("Guest-Ping").is_none() && find("").is_none());
    }

    #[test]
    fn four_commands_send_nothing_when_they_succeed() {
        let silent: Vec<_> = COMMANDS.iter().filter(|entry| !entry.success_response).map(|entry| entry.name).collect();
        assert_eq!(silent, ["guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"]);
    }

    #[test]
    fn commands_on_the_loop_may_be_called_while_frozen() {
        assert!(COMMANDS.iter().filter(|entry| entry.lane == Lane::Instant).all(|entry| entry.while_frozen));
    }
}
