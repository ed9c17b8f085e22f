//! `guest-get-vcpus` and `guest-set-vcpus`.

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Lists the logical processors by number.
#[derive(Debug)]
pub struct GuestGetVcpus;

impl Command for GuestGetVcpus {
    const NAME: &'static str = "guest-get-vcpus";
    const SINCE: &'static str = "1.5";
    type Args<'a> = Empty;
    type Ret = Vec<GuestLogicalProcessor>;
}

/// Brings logical processors online or takes them offline, one after the other up to the first that fails. Returns how
/// many were done; ask again for the rest. The failure of the very first is an error.
#[derive(Debug)]
pub struct GuestSetVcpus;

impl Command for GuestSetVcpus {
    const NAME: &'static str = "guest-set-vcpus";
    const SINCE: &'static str = "1.5";
    type Args<'a> = SetVcpusArgs;
    type Ret = i64;
}

/// Arguments of `guest-set-vcpus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetVcpusArgs {
    /// What to do, in this order.
    pub vcpus: Vec<GuestLogicalProcessor>,
}

/// A logical processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestLogicalProcessor {
    /// The kernel's number for it.
    pub logical_id: i64,
    /// Whether it is, or shall be, in use.
    pub online: bool,
    /// Whether it can be taken offline; always there in a reply, ignored in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_offline: Option<bool>,
}
