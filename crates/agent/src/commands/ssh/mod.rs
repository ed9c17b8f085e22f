//! `guest-ssh-get-authorized-keys`, `-add-`, `-remove-`.

mod add_authorized_keys;
mod get_authorized_keys;
mod lines;
mod remove_authorized_keys;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use qga_proto::error::{Error, Result};

/// Refuses what would not be a line of its own, or be taken for a comment. Whether it is a key is for sshd to say: it
/// knows more kinds than we do.
fn check(keys: &[Cow<'_, str>]) -> Result<()> {
    match keys.iter().find(|key| key.starts_with('#') || key.contains(['\n', '\0'])) {
        Some(key) => Err(Error::generic(format!("invalid OpenSSH public key: '{key}'"))),
        None => Ok(()),
    }
}
