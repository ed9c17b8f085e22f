//! `guest-sync`, `guest-sync-delimited`, `guest-ping`, `guest-info`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// The argument of the two sync commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncArgs {
    /// Any number; it comes back unchanged.
    pub id: i64,
}

/// Returns its argument, so that a host can tell the answer to this question from answers to earlier ones.
#[derive(Debug)]
pub struct GuestSync;

impl Command for GuestSync {
    const NAME: &'static str = "guest-sync";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = SyncArgs;
    type Ret = i64;
}

/// As `guest-sync`, and the answer has one byte 0xFF in front of it.
#[derive(Debug)]
pub struct GuestSyncDelimited;

impl Command for GuestSyncDelimited {
    const NAME: &'static str = "guest-sync-delimited";
    const SINCE: &'static str = "1.1";
    type Args<'a> = SyncArgs;
    type Ret = i64;
}

/// Does nothing; an answer says that the agent is there.
#[derive(Debug)]
pub struct GuestPing;

impl Command for GuestPing {
    const NAME: &'static str = "guest-ping";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = Empty;
    type Ret = Empty;
}

/// Tells the version and the commands.
#[derive(Debug)]
pub struct GuestInfo;

impl Command for GuestInfo {
    const NAME: &'static str = "guest-info";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = Empty;
    type Ret = GuestAgentInfo;
}

/// What `guest-info` returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestAgentInfo {
    /// The release of QEMU whose agent this one is compatible with: three numbers and two dots.
    pub version: String,
    /// Every command there is, also those that are switched off.
    #[serde(default)]
    pub supported_commands: Vec<GuestAgentCommandInfo>,
}

/// One command in `guest-info`. Exactly these three members: a widely used client compares the whole entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestAgentCommandInfo {
    /// Whether it may be called now.
    pub enabled: bool,
    /// Its name (the agent's own are not copied for each reply).
    pub name: Cow<'static, str>,
    /// Whether it answers when it succeeds.
    #[serde(default = "answers")]
    pub success_response: bool,
}

/// Agents before QEMU 1.7 do not tell.
fn answers() -> bool {
    true
}
