//! `guest-ssh-get-authorized-keys`, `-add-`, `-remove-`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Lists the public keys in an account's `.ssh/authorized_keys`.
#[derive(Debug)]
pub struct GuestSshGetAuthorizedKeys;

impl Command for GuestSshGetAuthorizedKeys {
    const NAME: &'static str = "guest-ssh-get-authorized-keys";
    const SINCE: &'static str = "5.2";
    type Args<'a> = SshGetAuthorizedKeysArgs<'a>;
    type Ret = GuestAuthorizedKeys;
}

/// Arguments of `guest-ssh-get-authorized-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshGetAuthorizedKeysArgs<'a> {
    /// Name of the account.
    #[serde(borrow)]
    pub username: Cow<'a, str>,
}

/// What `guest-ssh-get-authorized-keys` returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestAuthorizedKeys {
    /// The lines with keys, the last one of the file first. Comments and empty lines are left out.
    pub keys: Vec<String>,
}

/// Adds public keys to an account's `.ssh/authorized_keys`, which is created if need be.
#[derive(Debug)]
pub struct GuestSshAddAuthorizedKeys;

impl Command for GuestSshAddAuthorizedKeys {
    const NAME: &'static str = "guest-ssh-add-authorized-keys";
    const SINCE: &'static str = "5.2";
    type Args<'a> = SshAddAuthorizedKeysArgs<'a>;
    type Ret = Empty;
}

/// Arguments of `guest-ssh-add-authorized-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshAddAuthorizedKeysArgs<'a> {
    /// Name of the account.
    #[serde(borrow)]
    pub username: Cow<'a, str>,
    /// Whole lines, without a newline. Those that are there already are not added again.
    #[serde(borrow)]
    pub keys: Vec<Cow<'a, str>>,
    /// Whether everything that was in the file is dropped first. False when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<bool>,
}

/// Removes public keys from an account's `.ssh/authorized_keys`.
#[derive(Debug)]
pub struct GuestSshRemoveAuthorizedKeys;

impl Command for GuestSshRemoveAuthorizedKeys {
    const NAME: &'static str = "guest-ssh-remove-authorized-keys";
    const SINCE: &'static str = "5.2";
    type Args<'a> = SshRemoveAuthorizedKeysArgs<'a>;
    type Ret = Empty;
}

/// Arguments of `guest-ssh-remove-authorized-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshRemoveAuthorizedKeysArgs<'a> {
    /// Name of the account.
    #[serde(borrow)]
    pub username: Cow<'a, str>,
    /// Whole lines; every line of the file that is the same is removed.
    #[serde(borrow)]
    pub keys: Vec<Cow<'a, str>>,
}
