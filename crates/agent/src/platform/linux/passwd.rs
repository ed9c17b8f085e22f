//! Accounts: `/etc/passwd` and `/etc/group`, and what `getent` knows beyond them.
//!
//! The C library's own lookup is not used: it loads modules that may ask a server, for ever, and a static program
//! cannot load them at all. `getent` does the same in a process that has a deadline.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use qga_proto::error::{Error, Result};

use super::child::{self, Command, End};
use super::root::Root;

/// Where `getent` is looked for.
const DIRS: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/current-system/sw/bin"];

/// How long the name services may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Number of its primary group.
    pub gid: u32,
    /// Its home directory, as the system has it (not below the [`Root`]).
    pub home: PathBuf,
    /// Numbers of all its groups, the primary one included.
    pub groups: Vec<u32>,
}

impl User {
    /// The account of this name. A number is not a name.
    ///
    /// # Errors
    ///
    /// `failed to lookup user 'NAME': ...` when there is none or the name services do not answer.
    pub fn find(root: &Root, name: &str) -> Result<Self> {
        Self::find_within(root, name, DEADLINE)
    }

    fn find_within(root: &Root, name: &str, deadline: Duration) -> Result<Self> {
        let unknown = |why: &str| Error::generic(format!("failed to lookup user '{name}': {why}"));
        if !is_name(name) {
            return Err(unknown("no such user"));
        }
        let local = root.read("/etc/group").unwrap_or_default();
        if let Some(mut user) = find_line(&root.read("/etc/passwd").unwrap_or_default(), name) {
            user.join_groups(local_groups(&local, name));
            return Ok(user);
        }
        let passwd = getent(root, &["passwd", name], deadline).map_err(|error| unknown(&error.desc))?;
        // A lookup by number finds somebody too, but under another name.
        let mut user = find_line(&passwd, name).ok_or_else(|| unknown("no such user"))?;
        user.join_groups(local_groups(&local, name));
        // Nothing depends on their being complete.
        user.join_groups(numbers(&getent(root, &["initgroups", name], deadline).unwrap_or_default(), name));
        Ok(user)
    }

    fn join_groups(&mut self, groups: impl IntoIterator<Item = u32>) {
        for group in groups {
            if !self.groups.contains(&group) {
                self.groups.push(group);
            }
        }
    }
}

/// Whether an account could have this name: nothing that could be taken for an option, for a field or for a line, nor
/// the `+` and `-` entries that older systems merge a network's accounts with.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['-', '+']) && !name.contains([':', '\n', '\0', '/'])
}

/// The line of this name in the form of `/etc/passwd`. Lines that are no accounts are passed over.
fn find_line(table: &[u8], name: &str) -> Option<User> {
    table.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        if fields.next()? != name.as_bytes() {
            return None;
        }
        let mut fields = fields.skip(1);
        let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
        let home = OsString::from_vec(fields.nth(1)?.to_vec());
        Some(User { name: name.to_owned(), uid, gid, home: home.into(), groups: vec![gid] })
    })
}

/// The groups in a table in the form of `/etc/group` that have this member.
fn local_groups(table: &[u8], member: &str) -> Vec<u32> {
    let of_line = |line: &[u8]| {
        let mut fields = line.split(|&b| b == b':').skip(2);
        let (gid, members) = (number(fields.next()?)?, fields.next()?);
        members.split(|&b| b == b',').any(|name| name.trim_ascii() == member.as_bytes()).then_some(gid)
    };
    table.split(|&b| b == b'\n').filter_map(of_line).collect()
}

/// The numbers of `NAME 1000 27 ...`, as `getent initgroups` prints it.
fn numbers(line: &[u8], name: &str) -> Vec<u32> {
    match line.strip_prefix(name.as_bytes()) {
        Some(rest) => rest.split(u8::is_ascii_whitespace).filter_map(number).collect(),
        None => Vec::new(),
    }
}

fn number(text: &[u8]) -> Option<u32> {
    // The highest number is the kernel's "leave it as it is".
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number| *number != u32::MAX)
}

/// What `getent` prints; nothing when it finds nothing or is not there.
fn getent(root: &Root, words: &[&str], deadline: Duration) -> Result<Vec<u8>> {
    let Some(program) = child::find_program(root, DIRS, "getent") else { return Ok(Vec::new()) };
    let args: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    let command = Command { program: &program, args: &args, input: None, deadline, action: "ask the name services" };
    let outcome = command.outcome_clean()?;
    // Exit status 2 is "not found"; whatever else goes wrong leaves nothing of use either.
    Ok(if outcome.end == End::Exited(0) { outcome.output } else { Vec::new() })
}

#[cfg(test)]
mod tests;
