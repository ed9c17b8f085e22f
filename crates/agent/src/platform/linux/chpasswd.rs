//! `chpasswd`, of the shadow package or of busybox: sets one password.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
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
    let busybox = child::find_program(root, DIRS, "busybox");
    let (program, applet) = match (child::find_program(root, DIRS, "chpasswd"), &busybox) {
        (Some(program), _) => (program, None),
        (None, Some(busybox)) => (busybox.clone(), Some("chpasswd")),
        (None, None) => {
            let why = "failed to exec 'chpasswd': No such file or directory\n";
            return Err(Error::generic(format!("child process has failed to {ACTION}: {why}")));
        }
    };
    let is_busybox = applet.is_some() || is_busybox(&program, busybox.as_deref());
    // As long as it will be from the start, so that no piece is left behind by growing.
    let mut line = Vec::with_capacity(username.len() + password.len() + 2);
    line.extend_from_slice(username.as_bytes());
    line.push(b':');
    line.extend_from_slice(password);
    line.push(b'\n');
    let line = Secret::new(line);
    let run = |options: &[&'static str]| {
        let args: Vec<&OsStr> = applet.iter().chain(options).map(OsStr::new).collect();
        let input = Some(line.as_bytes());
        Command { program: &program, args: &args, input, deadline: DEADLINE, action: ACTION }.outcome_clean()
    };
    if crypted {
        return run(&["-e"])?.check(ACTION);
    }
    if is_busybox {
        // What it does of its own is the hash of 1979: eight characters count, and it is broken in hours.
        if run(&["-c", "sha512"])?.check(ACTION).is_ok() {
            return Ok(());
        }
        // An old one knows no such option. Anything else that is wrong is so for both.
        run(&[])?.check(ACTION)?;
        log::warn!("this busybox makes no SHA-512 hash: the password of {username} is kept as it does by itself");
        return Ok(());
    }
    // The shadow package asks PAM or its own configuration.
    run(&[])?.check(ACTION)
}

/// Whether a program is a name of busybox: a link to it, symbolic or not.
fn is_busybox(program: &Path, busybox: Option<&Path>) -> bool {
    let target = fs::canonicalize(program).unwrap_or_default();
    let named = target.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"busybox"));
    let file = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    named || busybox.is_some_and(|busybox| file(busybox).is_some() && file(busybox) == file(program))
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
