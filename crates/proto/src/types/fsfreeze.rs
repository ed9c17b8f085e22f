//! `guest-fsfreeze-status`, `-freeze`, `-freeze-list`, `-thaw`, and `guest-fstrim`.

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Whether the agent has frozen file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsfreezeStatus {
    /// Nothing is frozen by the agent.
    Thawed,
    /// File systems are frozen; most commands are refused.
    Frozen,
}

/// Tells whether the agent has frozen file systems.
#[derive(Debug)]
pub struct GuestFsfreezeStatus;

impl Command for GuestFsfreezeStatus {
    const NAME: &'static str = "guest-fsfreeze-status";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = Empty;
    type Ret = FsfreezeStatus;
}

/// Freezes every file system that can be frozen; returns how many.
#[derive(Debug)]
pub struct GuestFsfreezeFreeze;

impl Command for GuestFsfreezeFreeze {
    const NAME: &'static str = "guest-fsfreeze-freeze";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = Empty;
    type Ret = i64;
}

/// Freezes the file systems with these mount points; returns how many.
#[derive(Debug)]
pub struct GuestFsfreezeFreezeList;

impl Command for GuestFsfreezeFreezeList {
    const NAME: &'static str = "guest-fsfreeze-freeze-list";
    const SINCE: &'static str = "2.2";
    type Args<'a> = FsfreezeFreezeListArgs;
    type Ret = i64;
}

/// Arguments of `guest-fsfreeze-freeze-list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsfreezeFreezeListArgs {
    /// Mount points; any mount of a file system stands for it, and what is no mount point is passed over. Absent: all
    /// file systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoints: Option<Vec<String>>,
}

/// Thaws the file systems; returns how many were thawed.
#[derive(Debug)]
pub struct GuestFsfreezeThaw;

impl Command for GuestFsfreezeThaw {
    const NAME: &'static str = "guest-fsfreeze-thaw";
    const SINCE: &'static str = "0.15.0";
    type Args<'a> = Empty;
    type Ret = i64;
}

/// Gives unused blocks of all file systems back to the host.
#[derive(Debug)]
pub struct GuestFstrim;

impl Command for GuestFstrim {
    const NAME: &'static str = "guest-fstrim";
    const SINCE: &'static str = "1.2";
    type Args<'a> = FstrimArgs;
    type Ret = FstrimRet;
}

/// Arguments of `guest-fstrim`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FstrimArgs {
    /// Free ranges shorter than this many bytes are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<i64>,
}

/// What `guest-fstrim` returns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FstrimRet {
    /// One entry a file system, the one mounted last first.
    #[serde(default)]
    pub paths: Vec<FstrimPath>,
}

/// One file system in the result of `guest-fstrim`: two numbers, or an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FstrimPath {
    /// Smallest range that was given back, in bytes, as the file system rounded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<i64>,
    /// Mount point.
    pub path: String,
    /// Bytes given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimmed: Option<i64>,
    /// Why it could not be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
