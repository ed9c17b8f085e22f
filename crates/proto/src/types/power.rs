//! `guest-shutdown`, `guest-suspend-disk`, `guest-suspend-ram`, `guest-suspend-hybrid`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Shuts the guest down. Nothing is sent on success.
#[derive(Debug)]
pub struct GuestShutdown;

impl Command for GuestShutdown {
    const NAME: &'static str = "guest-shutdown";
    const SINCE: &'static str = "0.15.0";
    const SUCCESS_RESPONSE: bool = false;
    type Args<'a> = ShutdownArgs<'a>;
    type Ret = Empty;
}

/// Arguments of `guest-shutdown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownArgs<'a> {
    /// `powerdown` (the default), `halt` or `reboot`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Cow<'a, str>>,
}

/// Suspends to disk (hibernates). Nothing is sent on success.
#[derive(Debug)]
pub struct GuestSuspendDisk;

impl Command for GuestSuspendDisk {
    const NAME: &'static str = "guest-suspend-disk";
    const SINCE: &'static str = "1.1";
    const SUCCESS_RESPONSE: bool = false;
    type Args<'a> = Empty;
    type Ret = Empty;
}

/// Suspends to memory. Nothing is sent on success.
#[derive(Debug)]
pub struct GuestSuspendRam;

impl Command for GuestSuspendRam {
    const NAME: &'static str = "guest-suspend-ram";
    const SINCE: &'static str = "1.1";
    const SUCCESS_RESPONSE: bool = false;
    type Args<'a> = Empty;
    type Ret = Empty;
}

/// Writes the image to disk, then suspends to memory. Nothing is sent on success.
#[derive(Debug)]
pub struct GuestSuspendHybrid;

impl Command for GuestSuspendHybrid {
    const NAME: &'static str = "guest-suspend-hybrid";
    const SINCE: &'static str = "1.1";
    const SUCCESS_RESPONSE: bool = false;
    type Args<'a> = Empty;
    type Ret = Empty;
}
