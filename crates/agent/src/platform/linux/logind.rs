//! The sessions of systemd-logind (and elogind), from the files it keeps: asking it would take a message bus.

use std::fs;

use super::root::Root;
use super::utmp::{Session, is_alive};

const DIRECTORY: &str = "/run/systemd/sessions";

/// Most bytes of a session's file; real ones have a few hundred.
const SIZE_MAX: u64 = 64 << 10;

/// The sessions of users, oldest first; none when there is no logind.
pub fn sessions(root: &Root) -> Vec<Session> {
    let files = fs::read_dir(root.path(DIRECTORY)).into_iter().flatten().filter_map(|entry| {
        let path = entry.ok()?.path();
        // Next to each file there is a FIFO.
        let meta = fs::symlink_metadata(&path).ok()?;
        if !meta.is_file() || meta.len() > SIZE_MAX {
            return None;
        }
        fs::read(path).ok()
    });
    let mut sessions: Vec<Session> = files.filter_map(|file| session(root, &String::from_utf8_lossy(&file))).collect();
    sessions.sort_by(|a, b| (a.seconds, a.microseconds, &a.user).cmp(&(b.seconds, b.microseconds, &b.user)));
    sessions
}

fn session(root: &Root, file: &str) -> Option<Session> {
    let value = |name: &str| file.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    // Not the login screen, the user's service manager, or jobs of cron.
    if !matches!(value("CLASS"), None | Some("user" | "user-early" | "user-light" | "user-early-light")) {
        return None;
    }
    if value("STATE") == Some("closing") {
        return None;
    }
    let leader = value("LEADER").and_then(|pid| pid.parse().ok()).unwrap_or(0);
    let realtime: i64 = value("REALTIME")?.parse().ok()?;
    let user = value("USER").filter(|user| !user.is_empty())?.to_owned();
    is_alive(root, leader).then_some(Session {
        user,
        seconds: realtime / 1_000_000,
        microseconds: realtime % 1_000_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_users_that_live_are_told_oldest_first() {
        let root = Root::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/debian-13"));
        let session = |user: &str, seconds, microseconds| Session { user: user.to_owned(), seconds, microseconds };
        let expected = [
            session("alice", 1_700_000_050, 250_000),
            session("root", 1_700_000_100, 0),
            session("alice", 1_700_000_200, 1),
        ];
        assert_eq!(sessions(&root), expected);
        assert_eq!(sessions(&Root::new("/nonexistent")), []);
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let sessions_dir = dir.path().join("run/systemd/sessions");
        fs::create_dir_all(&sessions_dir).unwrap();
        let made = std::process::Command::new("mkfifo").arg(sessions_dir.join("1.ref")).status().unwrap();
        assert!(made.success());
        fs::write(sessions_dir.join("1"), "USER=alice\nREALTIME=5000001\n").unwrap();
        let found = sessions(&Root::new(dir.path()));
        assert_eq!(found, [Session { user: "alice".into(), seconds: 5, microseconds: 1 }]);
    }
}
