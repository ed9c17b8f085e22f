//! `guest-set-user-password`: through `chpasswd`, which knows where and how this system keeps passwords.

use std::borrow::Cow;

use qga_proto::base64;
use qga_proto::command::Empty;
use qga_proto::error::{Error, Result};
use qga_proto::types::account::{GuestSetUserPassword, SetUserPasswordArgs};

use crate::commands::{Context, Handler};
use crate::platform::linux::chpasswd::{self, Secret};

impl Handler for GuestSetUserPassword {
    const NEEDS: &'static str = "root; chpasswd, of shadow or of busybox";

    fn run(cx: Context<'_>, args: SetUserPasswordArgs<'_>) -> Result<Empty> {
        let SetUserPasswordArgs { username, password, crypted } = args;
        log::info!(target: "audit", "guest-set-user-password called, username: {username}, crypted: {crypted}");
        let decoded = base64::decode(&password).map(Secret::new);
        if let Cow::Owned(text) = password {
            drop(Secret::new(text.into_bytes()));
        }
        let password = decoded?;
        check(&username, password.as_bytes(), crypted)?;
        chpasswd::set_password(&cx.state.root, &username, password.as_bytes(), crypted)?;
        Ok(Empty {})
    }
}

/// Refuses what would become another line, another field or no password at all.
fn check(username: &str, password: &[u8], crypted: bool) -> Result<()> {
    let forbidden = |what: &str| Err(Error::generic(format!("forbidden characters in {what}")));
    if password.contains(&b'\n') || password.contains(&0) {
        return forbidden("raw password");
    }
    if crypted && password.is_empty() {
        return Err(Error::generic("an empty hash would let everybody in without a password"));
    }
    if crypted && password.contains(&b':') {
        return forbidden("crypted password");
    }
    if username.contains(['\n', ':', '\0']) {
        return forbidden("username");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
