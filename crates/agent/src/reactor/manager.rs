//! What the service manager hears of the loop: that it turns, and how things stand.

use std::time::{Duration, Instant};

use crate::notify::Notifier;
use crate::platform::linux::clock;
use crate::state::freeze::Standing;

/// See the module's description. Without a manager that listens it does nothing, and costs no wake-up.
#[derive(Debug)]
pub(super) struct Manager {
    notifier: Notifier,
    /// Where hosts come from; empty where the manager has made the socket itself.
    channel: String,
    /// None when nobody watches.
    watchdog: Option<Watchdog>,
    /// What was told last.
    told: Option<Condition>,
}

#[derive(Debug)]
struct Watchdog {
    /// Half of the time that the manager gives us.
    every: Duration,
    /// When the next sign of life is due.
    next: Instant,
}

/// How the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// As far as file systems go; anything else but [`Standing::Thawed`] comes before all others.
    Files(Standing),
    /// The port is open.
    AtPort,
    /// The port is not there.
    Waiting,
    /// Clients can come.
    Listening,
}

impl Manager {
    pub(super) fn new(notifier: Notifier, channel: String) -> Self {
        Manager { notifier, channel, watchdog: None, told: None }
    }

    /// Whether anybody wants to know.
    pub(super) fn is_heard(&self) -> bool {
        self.notifier.is_heard()
    }

    /// The loop is about to begin. The manager's time runs from now.
    pub(super) fn ready(&mut self, condition: Condition) {
        self.notifier.ready(&text(condition, &self.channel));
        self.told = Some(condition);
        self.watchdog = self.notifier.watchdog().map(|limit| {
            let every = limit / 2;
            Watchdog { every, next: Instant::now() + every }
        });
    }

    /// Tells how things stand, if that is news.
    pub(super) fn tell(&mut self, condition: Condition) {
        if self.told.replace(condition) != Some(condition) {
            self.notifier.status(&text(condition, &self.channel));
        }
    }

    /// The loop is about to end.
    pub(super) fn stopping(&self) {
        self.notifier.stopping();
    }

    /// When a sign of life is due; none if nobody waits for one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.next)
    }

    /// Gives the sign of life if it is due. To be called in every turn of the loop, and nowhere else: it is the turn
    /// that it stands for.
    pub(super) fn turned(&mut self, now: Instant) {
        let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.next <= now) else { return };
        // A manager that is too busy to take it will look at what it has taken before it looks at the time; it must be
        // in there by then.
        let pause = if self.notifier.alive().is_ok() { watchdog.every } else { watchdog.every / 8 };
        watchdog.next = now + pause;
    }
}

/// One line for people.
fn text(condition: Condition, channel: &str) -> String {
    match condition {
        Condition::Files(Standing::Freezing) => "file systems are being frozen".into(),
        Condition::Files(Standing::Thawing) => "file systems are being thawed".into(),
        Condition::Files(Standing::Frozen { count, since }) => {
            let since = since.map_or_else(|| "before this process was started".into(), clock::utc);
            match count {
                Some(1) => format!("frozen since {since}: one file system"),
                Some(count) => format!("frozen since {since}: {count} file systems"),
                None => format!("frozen since {since}"),
            }
        }
        Condition::AtPort => format!("at channel '{channel}'"),
        Condition::Waiting => format!("waiting for channel '{channel}'"),
        Condition::Listening if channel.is_empty() => "listening".into(),
        Condition::Listening => format!("listening at '{channel}'"),
        Condition::Files(Standing::Thawed) => "nothing is frozen".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_people_read_says_what_is_frozen_and_since_when() {
        let since = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        for (standing, expected) in [
            (Standing::Frozen { count: Some(3), since }, "frozen since 2023-11-14 22:13:20 UTC: 3 file systems"),
            (Standing::Frozen { count: Some(1), since }, "frozen since 2023-11-14 22:13:20 UTC: one file system"),
            (Standing::Frozen { count: None, since: None }, "frozen since before this process was started"),
            (Standing::Freezing, "file systems are being frozen"),
            (Standing::Thawing, "file systems are being thawed"),
        ] {
            assert_eq!(text(Condition::Files(standing), "/dev/port"), expected);
        }
        assert_eq!(text(Condition::Waiting, "/dev/port"), "waiting for channel '/dev/port'");
    }

    #[test]
    fn a_sign_of_life_that_did_not_get_through_is_given_again_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let mut manager = Manager::new(Notifier::to(&path, Some(Duration::from_secs(80))), "x".into());
        manager.ready(Condition::Waiting);
        let begin = manager.deadline().unwrap() - Duration::from_secs(40);
        // Nobody is there.
        manager.turned(begin + Duration::from_secs(40));
        assert_eq!(manager.deadline(), Some(begin + Duration::from_secs(45)));
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_nonblocking(true).unwrap();
        let mut buf = [0; 64];
        manager.turned(begin + Duration::from_secs(44));
        heard.recv(&mut buf).unwrap_err();
        manager.turned(begin + Duration::from_secs(45));
        assert_eq!(heard.recv(&mut buf).map(|n| buf[..n].to_vec()).unwrap(), b"WATCHDOG=1");
        assert_eq!(manager.deadline(), Some(begin + Duration::from_secs(85)));
    }
}
