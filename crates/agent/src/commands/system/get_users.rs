//! `guest-get-users`: who is logged in, from utmp, and from logind where utmp says nothing.

use qga_proto::command::Empty;
use qga_proto::error::Result;
use qga_proto::types::system::{GuestGetUsers, GuestUser};

use crate::commands::{Context, Handler};
use crate::platform::linux::utmp::Session;
use crate::platform::linux::{logind, utmp};

impl Handler for GuestGetUsers {
    const NEEDS: &'static str = "utmp or systemd-logind; without them the list is empty";

    fn run(cx: Context<'_>, _: Empty) -> Result<Vec<GuestUser>> {
        let mut sessions = utmp::sessions(&cx.state.root);
        if sessions.is_empty() {
            sessions = logind::sessions(&cx.state.root);
        }
        Ok(users(&sessions))
    }
}

/// Each user once, in the order in which they first appear, since the oldest of their sessions.
fn users(sessions: &[Session]) -> Vec<GuestUser> {
    let mut users: Vec<GuestUser> = Vec::new();
    for session in sessions {
        let login_time = session.seconds as f64 + session.microseconds as f64 / 1_000_000.0;
        match users.iter_mut().find(|user| user.user == session.user) {
            Some(user) => user.login_time = user.login_time.min(login_time),
            None => users.push(GuestUser { login_time, user: session.user.clone(), domain: None }),
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::linux::root::Root;
    use crate::state::State;

    #[test]
    fn a_user_is_told_once_with_the_oldest_session() {
        let session = |user: &str, seconds, microseconds| Session { user: user.into(), seconds, microseconds };
        let sessions = [
            session("alice", 1_700_000_100, 500_000),
            session("bob", 1_700_000_200, 1),
            session("alice", 1_700_000_050, 250_000),
        ];
        let mut text = Vec::new();
        qga_proto::json::write(&mut text, &users(&sessions));
        let expected = "[{\"login-time\": 1700000050.25, \"user\": \"alice\"}, \
                        {\"login-time\": 1700000200.000001, \"user\": \"bob\"}]";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn without_utmp_logind_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/debian-13"));
        let state = State { root, ..State::for_tests(dir.path()) };
        let users = GuestGetUsers::run(Context { state: &state, reply_limit: None }, Empty {}).unwrap();
        let told: Vec<_> = users.iter().map(|user| (user.user.as_str(), user.login_time)).collect();
        assert_eq!(told, [("alice", 1_700_000_050.25), ("root", 1_700_000_100.0)]);
    }
}
