//! `guest-ssh-add-authorized-keys`: adds keys, or puts them in the place of all others.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::ssh::{GuestSshAddAuthorizedKeys, SshAddAuthorizedKeysArgs};

use super::{check, lines};
use crate::commands::{Context, Handler};
use crate::platform::linux::as_user;
use crate::platform::linux::authorized_keys::Place;
use crate::platform::linux::passwd::User;

impl Handler for GuestSshAddAuthorizedKeys {
    const NEEDS: &'static str = "root, or to run as the user; /etc/passwd or getent";

    fn run(cx: Context<'_>, args: SshAddAuthorizedKeysArgs<'_>) -> Result<Empty> {
        let SshAddAuthorizedKeysArgs { username, keys, reset } = args;
        let reset = reset.unwrap_or(false);
        log::info!(
            target: "audit",
            "guest-ssh-add-authorized-keys called, username: {username}, keys: {}, reset: {reset}",
            keys.len()
        );
        check(&keys)?;
        let user = User::find(&cx.state.root, &username)?;
        let place = Place::new(&cx.state.root, &user);
        as_user::run(&user, || {
            let directory = place.open_or_create()?;
            if reset {
                let new = lines::added(b"", &keys).unwrap_or_default();
                // What cannot be read is what a reset is good for.
                let same = directory.read().is_ok_and(|old| old.is_some_and(|old| old == new));
                return if same { Ok(Empty {}) } else { directory.replace(&new).map(|()| Empty {}) };
            }
            let old = directory.read()?;
            match lines::added(old.as_deref().unwrap_or_default(), &keys) {
                Some(new) => directory.replace(&new)?,
                None if old.is_none() => directory.replace(b"")?,
                None => {}
            }
            Ok(Empty {})
        })
    }
}
