//! `guest-set-user-password`.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::command::{Command, Empty};

/// Sets the password of an account.
#[derive(Debug)]
pub struct GuestSetUserPassword;

impl Command for GuestSetUserPassword {
    const NAME: &'static str = "guest-set-user-password";
    const SINCE: &'static str = "2.3";
    type Args<'a> = SetUserPasswordArgs<'a>;
    type Ret = Empty;
}

/// Arguments of `guest-set-user-password`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUserPasswordArgs<'a> {
    /// The account, which must exist.
    #[serde(borrow)]
    pub username: Cow<'a, str>,
    /// The password in base64. Kept as text, so that it is decoded where the result can be wiped.
    #[serde(borrow)]
    pub password: Cow<'a, str>,
    /// Whether the password is the hash itself, as `crypt` makes it.
    pub crypted: bool,
}

impl fmt::Debug for SetUserPasswordArgs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SetUserPasswordArgs { username, password: _, crypted } = self;
        f.debug_struct("SetUserPasswordArgs")
            .field("username", username)
            .field("crypted", crypted)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let args = SetUserPasswordArgs { username: "alice".into(), password: "czNjcmV0".into(), crypted: false };
        let shown = format!("{args:?}");
        assert!(shown.contains("alice") && !shown.contains("czNjcmV0"), "{shown}");
    }
}
