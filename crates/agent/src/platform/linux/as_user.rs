//! Work done as another user, in a thread of its own.
//!
//! Credentials belong to threads on Linux; only the C library makes them the process's. So a thread takes on those of
//! the user, does the work and ends, and nothing has to be given back: neither the daemon nor any child of it is ever
//! seen with the groups of somebody else.
//!
//! Only the effective ids change. With the real one the user could send the thread, and with it the daemon, a signal;
//! and a file system that a user mounts through FUSE stays closed to us, as it is to every process but his own.

use std::panic::resume_unwind;
use std::thread;

use qga_proto::error::{Error, Result};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::errno::{Context, ErrnoText};
use super::passwd::User;

/// The work needs little: a few system calls.
const STACK: usize = 256 << 10;

/// Does `work` with the rights of `user`, and with nothing beyond them. Where we are that user already it is done
/// right here.
///
/// # Errors
///
/// Those of `work`; `failed to set ... for user 'NAME': <errno>`.
pub fn run<T: Send>(user: &User, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if geteuid().as_raw() == user.uid {
        return work();
    }
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("as user".to_owned()).stack_size(STACK);
        let started = builder.spawn_scoped(scope, || {
            become_user(user)?;
            work()
        });
        let thread =
            started.map_err(|error| Error::generic(format!("cannot start a thread: {}", error.errno_text())))?;
        // A panic is caught and told where all others are.
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn become_user(user: &User) -> Result<()> {
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let failed = |what: &str| format!("failed to set {what} for user '{}'", user.name);
    set_thread_groups(&groups).context(|| failed("group"))?;
    set_thread_res_gid(None, Gid::from_raw(user.gid), None).context(|| failed("effective group ID"))?;
    set_thread_res_uid(None, Uid::from_raw(user.uid), None).context(|| failed("effective user ID"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn user(uid: u32) -> User {
        User { name: "eve".into(), uid, gid: uid, home: "/".into(), groups: vec![uid, 7777] }
    }

    fn lines(status: &str) -> Vec<String> {
        let wanted = |line: &&str| ["Uid:", "Gid:", "Groups:", "CapEff:"].iter().any(|name| line.starts_with(name));
        status.lines().filter(wanted).map(str::to_owned).collect()
    }

    fn own_status() -> Result<Vec<String>> {
        Ok(lines(&fs::read_to_string("/proc/thread-self/status").unwrap()))
    }

    #[test]
    fn the_user_s_rights_are_taken_on_and_leave_no_trace() {
        if !qga_testkit::skip::is_root("work as another user") {
            return;
        }
        let before = lines(&fs::read_to_string("/proc/self/status").unwrap());
        let during = match run(&user(54321), own_status) {
            Ok(during) => during,
            Err(error) => return qga_testkit::skip::skipped("work as another user", &error.desc),
        };
        assert_eq!(during[0], "Uid:\t0\t54321\t0\t54321");
        assert_eq!(during[1], "Gid:\t0\t54321\t0\t54321");
        assert_eq!(during[2].trim_end(), "Groups:\t7777 54321");
        assert_eq!(during[3], "CapEff:\t0000000000000000");
        // Neither the process, nor this thread, nor one that starts later has anything of it.
        assert_eq!(lines(&fs::read_to_string("/proc/self/status").unwrap()), before);
        assert_eq!(own_status().unwrap(), before);
        assert_eq!(thread::spawn(own_status).join().unwrap().unwrap(), before);
    }

    #[test]
    fn our_own_account_needs_no_change() {
        let us = geteuid().as_raw();
        assert_eq!(run(&user(us), own_status), own_status());
    }
}
