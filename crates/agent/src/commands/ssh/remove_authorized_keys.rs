//! `guest-ssh-remove-authorized-keys`: removes keys.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::ssh::{GuestSshRemoveAuthorizedKeys, SshRemoveAuthorizedKeysArgs};

use super::{check, lines};
use crate::commands::{Context, Handler};
use crate::platform::linux::as_user;
use crate::platform::linux::authorized_keys::Place;
use crate::platform::linux::passwd::User;

impl Handler for GuestSshRemoveAuthorizedKeys {
    const NEEDS: &'static str = "root, or to run as the user; /etc/passwd or getent";

    fn run(cx: Context<'_>, args: SshRemoveAuthorizedKeysArgs<'_>) -> Result<Empty> {
        let SshRemoveAuthorizedKeysArgs { username, keys } = args;
        log::info!(
            target: "audit",
            "guest-ssh-remove-authorized-keys called, username: {username}, keys: {}",
            keys.len()
        );
        check(&keys)?;
        let user = User::find(&cx.state.root, &username)?;
        let place = Place::new(&cx.state.root, &user);
        as_user::run(&user, || {
            let Some(directory) = place.open()? else { return Ok(Empty {}) };
            let old = directory.read()?.unwrap_or_default();
            match lines::removed(&old, &keys) {
                Some(new) => directory.replace(&new).map(|()| Empty {}),
                None => Ok(Empty {}),
            }
        })
    }
}
