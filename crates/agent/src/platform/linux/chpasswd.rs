//! `chpasswd`, of the shadow package or of busybox: sets one password.

use std::ffi::OsStr;
use std::fmt;
use std::time::Duration;

use qga_proto::error::{Error, Result};

use super::child::{self, Command};
use super::ffi;
use super::root::Root;

/// Where the program is looked for. `PATH` is not asked: it is whatever the daemon was started with.
const DIRS: [&str; 6] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/run/current-system/sw/bin"];

/// How long it may take; a module of PAM may ask a server.
const DEADLINE: Duration = Duration::from_secs(30);

const ACTION: &str = "set user password";

/// Bytes that are overwritten when they are not needed any more.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes them over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Secret(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        ffi::wipe(&mut self.0);
    }
}

/// Sets the password of `username`, or its hash when `crypted`. Neither may contain a newline, nor the name a colon.
///
/// # Errors
///
/// What the program says; that there is none.
pub fn set_password(root: &Root, username: &str, password: &[u8], crypted: bool) -> Result<()> {
    let (program, applet) = match child::find_program(root, DIRS, "chpasswd") {
        Some(program) => (program, None),
        None => match child::find_program(root, DIRS, "busybox") {
            Some(busybox) => (busybox, Some("chpasswd")),
            None => {
                let why = "failed to exec 'chpasswd': No such file or directory\n";
                return Err(Error::generic(format!("child process has failed to {ACTION}: {why}")));
            }
        },
    };
    let args: Vec<&OsStr> = applet.into_iter().chain(crypted.then_some("-e")).map(OsStr::new).collect();
    // As long as it will be from the start, so that no piece is left behind by growing.
    let mut line = Vec::with_capacity(username.len() + password.len() + 2);
    line.extend_from_slice(username.as_bytes());
    line.push(b':');
    line.extend_from_slice(password);
    line.push(b'\n');
    let line = Secret::new(line);
    let command =
        Command { program: &program, args: &args, input: Some(line.as_bytes()), deadline: DEADLINE, action: ACTION };
    command.outcome_clean()?.check(ACTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_is_overwritten() {
        let mut secret = Secret::new(b"s3cret".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret");
        ffi::wipe(&mut secret.0);
        assert_eq!(secret.as_bytes(), [0; 6]);
    }
}
