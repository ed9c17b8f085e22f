//! `guest-get-memory-blocks`, `guest-set-memory-blocks`, `guest-get-memory-block-info`.

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Lists the blocks of memory that can be switched on and off, by number.
#[derive(Debug)]
pub struct GuestGetMemoryBlocks;

impl Command for GuestGetMemoryBlocks {
    const NAME: &'static str = "guest-get-memory-blocks";
    const SINCE: &'static str = "2.3";
    type Args<'a> = Empty;
    type Ret = Vec<GuestMemoryBlock>;
}

/// Switches blocks of memory on or off, all of them, whatever fails in between. Switching off takes as long as the
/// kernel needs to move what is in them.
#[derive(Debug)]
pub struct GuestSetMemoryBlocks;

impl Command for GuestSetMemoryBlocks {
    const NAME: &'static str = "guest-set-memory-blocks";
    const SINCE: &'static str = "2.3";
    type Args<'a> = SetMemoryBlocksArgs;
    type Ret = Vec<GuestMemoryBlockResponse>;
}

/// Tells the size of a block of memory.
#[derive(Debug)]
pub struct GuestGetMemoryBlockInfo;

impl Command for GuestGetMemoryBlockInfo {
    const NAME: &'static str = "guest-get-memory-block-info";
    const SINCE: &'static str = "2.3";
    type Args<'a> = Empty;
    type Ret = GuestMemoryBlockInfo;
}

/// Arguments of `guest-set-memory-blocks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SetMemoryBlocksArgs {
    /// What to do, in this order.
    pub mem_blks: Vec<GuestMemoryBlock>,
}

/// A block of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestMemoryBlock {
    /// Its number; times the size of a block it is its physical address.
    pub phys_index: u64,
    /// Whether it is, or shall be, in use.
    pub online: bool,
    /// Whether the kernel thinks it could be switched off; always there in a reply, ignored in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_offline: Option<bool>,
}

/// What became of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestMemoryBlockResponse {
    /// What happened.
    pub response: GuestMemoryBlockResponseType,
    /// The error number of Linux, where something failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i64>,
    /// Its number.
    pub phys_index: u64,
}

/// Outcomes of switching a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestMemoryBlockResponseType {
    /// It is as asked for.
    Success,
    /// There is no such block.
    NotFound,
    /// The kernel cannot do that at all.
    OperationNotSupported,
    /// The kernel refused.
    OperationFailed,
    /// Another one, of an agent that knows more.
    #[serde(other)]
    Other,
}

/// What `guest-get-memory-block-info` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMemoryBlockInfo {
    /// Bytes in a block.
    pub size: u64,
}
