//! `guest-ssh-get-authorized-keys`: lists the keys.

use qga_proto::error::Result;
use qga_proto::types::ssh::{GuestAuthorizedKeys, GuestSshGetAuthorizedKeys, SshGetAuthorizedKeysArgs};

use super::lines;
use crate::commands::{Context, Handler};
use crate::platform::linux::as_user;
use crate::platform::linux::authorized_keys::Place;
use crate::platform::linux::passwd::User;

impl Handler for GuestSshGetAuthorizedKeys {
    const NEEDS: &'static str = "root, or to run as the user; /etc/passwd or getent";

    fn run(cx: Context<'_>, args: SshGetAuthorizedKeysArgs<'_>) -> Result<GuestAuthorizedKeys> {
        let user = User::find(&cx.state.root, &args.username)?;
        let place = Place::new(&cx.state.root, &user);
        let content = as_user::run(&user, || match place.open()? {
            Some(directory) => directory.read(),
            None => Ok(None),
        })?;
        // Clients tell "no file" from "no keys".
        let content = content.ok_or_else(|| place.missing())?;
        Ok(GuestAuthorizedKeys { keys: lines::keys(&content) })
    }
}
