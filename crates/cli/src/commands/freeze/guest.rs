//! One guest, from before it is frozen until after it is thawed.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use qga_client::freeze::{freeze, is_frozen, thaw, thaw_for_certain};
use qga_client::{Client, Deadline, Error, Layer};

use super::Event;
use super::watchdog::Watchdog;
use crate::exit::{Failure, Special};
use crate::target::Target;

/// How long a guest that cannot be reached is tried to be thawed, before that is left to the watchdog alone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time for each attempt to thaw. An answer that was lost, as with an agent that was started again, is not waited for any
/// longer; an agent that is still busy with the first request answers the second when it is done.
const ATTEMPT: Duration = Duration::from_secs(20);

/// The longest that freezing may take and still come to an end by itself, for requests that have so much time each.
pub(super) fn longest_freeze(timeout: Duration) -> Duration {
    // Connecting, looking, freezing, and undoing that.
    4 * timeout + longest_thaw()
}

/// The same for thawing.
pub(super) fn longest_thaw() -> Duration {
    // The last attempt may begin when the patience is nearly at its end.
    PATIENCE + 4 * ATTEMPT
}

/// One guest.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    /// Its place in the list of targets.
    pub(super) number: usize,
    /// The way to it.
    pub(super) target: &'a Target,
    /// What to freeze; everything if that is not said.
    pub(super) mountpoints: Option<&'a [String]>,
    /// Time for each request.
    pub(super) timeout: Duration,
    /// Who thaws it if we do not.
    pub(super) watchdog: &'a Watchdog,
}

impl Guest<'_> {
    /// Freezes it, waits until the order to thaw comes or nobody is left who might give it, and thaws it.
    pub(super) fn hold(&self, order: &Receiver<()>, tell: impl Fn(Event)) {
        let (mut agent, count) = match self.freeze() {
            Ok(frozen) => frozen,
            Err(failure) => return tell(Event::Failed(failure)),
        };
        let since = Instant::now();
        tell(Event::Frozen(count));
        // An error, too, is an order: nobody is there to give another.
        let _ = order.recv();
        let thawed = self.thaw(&mut agent);
        tell(Event::Thawed(thawed, since.elapsed()));
    }

    fn freeze(&self) -> Result<(Option<Client>, u64), Failure> {
        let mut agent = self.target.connect(self.timeout)?;
        match is_frozen(&mut agent) {
            Ok(false) | Err(Error::Blocked { .. } | Error::NotFound { .. }) => {}
            Ok(true) => {
                return Err(Failure::Special(Special {
                    code: Failure::FROZEN,
                    layer: "policy",
                    message: "the file systems are frozen already, by somebody else".into(),
                    hint: Some("Is a backup going on? If not, 'qga thaw' ends it."),
                }));
            }
            Err(error) => return Err(error.into()),
        }
        self.watchdog.is_frozen(self.number)?;
        let error = match freeze(&mut agent, self.mountpoints) {
            Ok(0) => {
                // Some agents have run their hooks with "freeze", and wait for this to run them with "thaw".
                let _ = thaw(&mut agent);
                self.watchdog.is_thawed(self.number);
                return Err(Failure::Special(Special {
                    code: Failure::GENERAL,
                    layer: "command",
                    message: "nothing was frozen: no such file system can be".into(),
                    hint: Some("'qga df' shows the mount points that there are."),
                }));
            }
            Ok(count) => return Ok((Some(agent), count)),
            Err(error) => error,
        };
        if matches!(error.layer(), Layer::Policy | Layer::Command | Layer::Caller) {
            // The agent has said so itself: nothing is frozen.
            self.watchdog.is_thawed(self.number);
            return Err(error.into());
        }
        match self.thaw(&mut Some(agent)) {
            Ok(_) => Err(error.into()),
            Err(last) => Err(maybe_frozen(format!("{error}; and it could not be thawed: {last}"))),
        }
    }

    fn thaw(&self, agent: &mut Option<Client>) -> Result<qga_client::freeze::Thawed, Error> {
        let timeout = self.timeout.min(ATTEMPT);
        if let Some(agent) = agent {
            agent.set_timeout(timeout);
        }
        let thawed = thaw_for_certain(agent, || self.target.connect(timeout), Deadline::after(PATIENCE));
        if thawed.is_ok() {
            self.watchdog.is_thawed(self.number);
        }
        thawed
    }
}

/// The worst that can happen.
pub(super) fn maybe_frozen(message: String) -> Failure {
    Failure::Special(Special {
        code: Failure::MAYBE_FROZEN,
        layer: "reply",
        message,
        hint: Some("The guest may still be frozen. qga goes on trying in the background; 'qga thaw' does it by hand."),
    })
}
