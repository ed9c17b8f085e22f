//! A command that runs in the guest, from its start to its end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_client::{Client, Ending, Error, Heard, Running};

use super::input::Input;
use super::interrupt::Interrupt;
use super::show::Show;
use crate::exit::Failure;

/// The shortest pause between two looks at a command.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The longest one: how late a line may come, at most.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The pause while the guest cannot be asked.
const PAUSE_TROUBLE: Duration = Duration::from_secs(1);

/// The time a command has to end after it was asked to, and to be gone after it was killed.
const GRACE: Duration = Duration::from_secs(3);

/// So much in one look means that there is more.
const PLENTY: usize = 32 << 10;

/// Drives a command.
#[derive(Debug)]
pub(crate) struct Drive<'a> {
    /// What it reads.
    input: Option<Input>,
    /// Where its output goes.
    pub(super) show: Show<'a>,
    /// The time it has.
    limit: Option<Duration>,
    /// Time without the guest after which there is nothing to go on with.
    keep: Duration,
    /// Whether what it leaves behind on its descriptor 3 is wanted.
    has_state: bool,
}

/// How a command ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Its own exit code.
    pub(crate) code: u8,
    /// Why it was ended from here.
    pub(crate) why: Option<Why>,
    /// Whether output is missing.
    pub(crate) is_cut: bool,
    /// What it wrote to its descriptor 3.
    pub(crate) state: Option<Vec<u8>>,
}

/// Why a command was ended from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its time was over.
    Time,
    /// qga got this signal.
    Interrupt(u8),
    /// Nobody reads its output any more.
    Unread,
}

impl Ended {
    /// The exit code for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.why {
            None => self.code,
            Some(Why::Time) => 124,
            Some(Why::Interrupt(signal)) => 128_u8.saturating_add(signal),
            // As if SIGPIPE had met the command itself.
            Some(Why::Unread) => 141,
        }
    }
}

/// How far a command is on its way to be ended.
#[derive(Debug, Default)]
pub(super) struct Stop {
    start: Option<Instant>,
    signals: usize,
    pub(super) why: Option<Why>,
    asked: Option<Instant>,
    forced: Option<Instant>,
}

impl Stop {
    /// Counts from now on.
    pub(super) fn new() -> Self {
        Stop { start: Some(Instant::now()), signals: Interrupt::seen().0, ..Stop::default() }
    }

    /// What is to be done now.
    pub(super) fn next(&mut self, limit: Option<Duration>, is_unread: bool) -> Option<Ending> {
        let (count, signal) = Interrupt::seen();
        let signals = count - self.signals;
        let is_late = limit.is_some_and(|limit| self.start.is_some_and(|start| start.elapsed() >= limit));
        if self.why.is_none() {
            self.why = if signals > 0 {
                Some(Why::Interrupt(signal))
            } else if is_late {
                Some(Why::Time)
            } else if is_unread {
                Some(Why::Unread)
            } else {
                None
            };
        }
        self.why?;
        match (self.asked, self.forced) {
            (None, _) => Some(Ending::Ask),
            (Some(asked), None) if signals > 1 || asked.elapsed() >= GRACE => Some(Ending::Force),
            _ => None,
        }
    }

    /// That was done.
    pub(super) fn done(&mut self, how: Ending) {
        match how {
            Ending::Ask => self.asked = Some(Instant::now()),
            Ending::Force => self.forced = Some(Instant::now()),
        }
    }

    /// Whether the command should have been gone long ago.
    pub(super) fn is_hopeless(&self) -> bool {
        self.forced.is_some_and(|forced| forced.elapsed() >= GRACE)
    }
}

impl<'a> Drive<'a> {
    /// For a command that has so much time, or any, and is given up after so much without the guest.
    pub(crate) fn new(show: Show<'a>, limit: Option<Duration>, keep: Duration) -> Self {
        Drive { input: None, show, limit, keep, has_state: false }
    }

    /// It reads this.
    pub(super) fn with_input(mut self, input: Option<Input>) -> Self {
        self.input = input;
        self
    }

    /// What it leaves behind on its descriptor 3 is wanted.
    pub(crate) fn with_state(mut self) -> Self {
        self.has_state = true;
        self
    }

    /// Shows what the command prints and sends it what it reads until it has ended, and removes what it leaves behind.
    pub(crate) fn run(&mut self, agent: &mut Client, mut running: Running) -> Result<Ended, Failure> {
        let result = self.attend(agent, &mut running);
        self.show.end()?;
        match result {
            Ok(mut ended) => {
                if let Err(error) = self.tidy_up(agent, running, &mut ended) {
                    // What the program did is known, and the guest does the rest by itself.
                    let keep = self.keep.as_secs_f64();
                    self.show.note(&format!("the guest is left to tidy up by itself, within {keep} s: {error}"));
                }
                Ok(ended)
            }
            // The guest ends it by itself when it cannot be told to.
            Err(failure) => {
                if !matches!(&failure, Failure::Agent(error) if is_gone(error)) {
                    let _ = running.end(agent, Ending::Force);
                    let _ = running.finish(agent);
                }
                Err(failure)
            }
        }
    }

    /// Ends what belongs to the command and is still there, if it was to end, and removes everything.
    fn tidy_up(&self, agent: &mut Client, running: Running, ended: &mut Ended) -> Result<(), Error> {
        if ended.why.is_some() {
            running.end(agent, Ending::Force)?;
        }
        if self.has_state {
            ended.state = running.state(agent).ok();
        }
        running.finish(agent)
    }

    fn attend(&mut self, agent: &mut Client, running: &mut Running) -> Result<Ended, Failure> {
        let mut stop = Stop::new();
        let mut pause = PAUSE_MIN;
        let mut last_answer = Instant::now();
        let mut ended = Ended::default();
        loop {
            let start = Instant::now();
            match running.poll(agent) {
                Ok(heard) => {
                    last_answer = Instant::now();
                    pause = next_pause(pause, start.elapsed(), &heard);
                    self.show.more(&heard.out, &heard.err)?;
                    ended.is_cut |= heard.is_cut;
                    if let Some(code) = heard.code {
                        return Ok(Ended { code, why: stop.why, ..ended });
                    }
                }
                Err(error) if is_passing(&error) && last_answer.elapsed() < self.keep => pause = PAUSE_TROUBLE,
                Err(error) => return Err(error.into()),
            }
            if let Some(how) = stop.next(self.limit, self.show.is_unread()) {
                match running.end(agent, how) {
                    // A command that has only just been started cannot be reached yet.
                    Ok(is_sent) if is_sent || running.has_exited() || how == Ending::Force => stop.done(how),
                    Ok(_) => {}
                    Err(error) if is_passing(&error) && last_answer.elapsed() < self.keep => {}
                    Err(error) => return Err(error.into()),
                }
                pause = PAUSE_MIN;
            }
            if stop.is_hopeless() {
                return Err(Failure::Host("the command cannot be ended in the guest".into()));
            }
            match self.send(agent, running, pause) {
                Ok(true) => pause = PAUSE_MIN,
                Ok(false) => {}
                Err(Failure::Agent(error)) if is_passing(&error) && last_answer.elapsed() < self.keep => {
                    sleep(PAUSE_TROUBLE);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Sends what there is to be read, or waits for it so long; whether something was sent.
    fn send(&mut self, agent: &mut Client, running: &mut Running, pause: Duration) -> Result<bool, Failure> {
        let Some(input) = &mut self.input else {
            sleep(pause);
            return Ok(false);
        };
        if running.has_exited() {
            self.input = None;
            return Ok(false);
        }
        input.wait(pause)?;
        let count = running.write(agent, input.pending())?;
        input.sent(count);
        if input.is_at_end() {
            running.close_input(agent)?;
            self.input = None;
        }
        Ok(count > 0)
    }
}

/// The pause after a look that took so long and gave this.
fn next_pause(pause: Duration, took: Duration, heard: &Heard) -> Duration {
    if heard.out.len().max(heard.err.len()) >= PLENTY {
        return Duration::ZERO;
    }
    // Where asking is expensive, half the time is left to others.
    let shortest = PAUSE_MIN.max(took).min(PAUSE_MAX);
    if heard.has_output() { shortest } else { (pause * 3 / 2).clamp(shortest, PAUSE_MAX) }
}

/// Whether it may go away by itself: the guest is busy, or frozen for a backup. What was allowed at the start is blocked
/// for no other reason, and whether it is still frozen when that is asked says nothing.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Blocked { .. } | Error::Timeout { .. } | Error::Silent(_))
}

/// Whether there is nobody to be asked any more.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Closed | Error::Broken(_) | Error::Silent(_) | Error::Timeout { .. } | Error::NotTaken(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_nothing_comes_and_are_short_while_something_does() {
        let quiet = Heard::default();
        let heard = |count| Heard { out: vec![0; count], ..Heard::default() };
        let mut pause = PAUSE_MIN;
        for _ in 0..20 {
            pause = next_pause(pause, Duration::from_millis(1), &quiet);
        }
        assert_eq!(pause, PAUSE_MAX);
        assert_eq!(next_pause(pause, Duration::from_millis(1), &heard(1)), PAUSE_MIN);
        assert_eq!(next_pause(pause, Duration::from_millis(40), &heard(1)), Duration::from_millis(40));
        assert_eq!(next_pause(pause, Duration::from_secs(9), &quiet), PAUSE_MAX);
        assert_eq!(next_pause(pause, Duration::from_millis(1), &heard(PLENTY)), Duration::ZERO);
    }

    #[test]
    fn a_command_is_asked_to_end_and_then_killed() {
        let mut stop = Stop::new();
        assert_eq!(stop.next(None, false), None);
        assert_eq!(stop.next(Some(Duration::from_secs(3600)), false), None);
        assert_eq!(stop.next(Some(Duration::ZERO), false), Some(Ending::Ask));
        assert_eq!(stop.next(None, false), Some(Ending::Ask));
        stop.done(Ending::Ask);
        assert_eq!(stop.next(None, false), None);
        stop.asked = Instant::now().checked_sub(GRACE);
        assert_eq!(stop.next(None, true), Some(Ending::Force));
        stop.done(Ending::Force);
        assert_eq!((stop.next(None, false), stop.why, stop.is_hopeless()), (None, Some(Why::Time), false));
    }

    #[test]
    fn a_command_that_was_refused_just_before_the_thaw_is_asked_again() {
        for by in [qga_client::Blocker::Frozen, qga_client::Blocker::List] {
            assert!(is_passing(&Error::Blocked { command: "guest-file-read".into(), by }));
        }
        assert!(!is_passing(&Error::Closed));
    }

    #[test]
    fn the_exit_code_says_why_a_command_was_ended() {
        let code = |why| Ended { code: 3, why, ..Ended::default() }.exit_code();
        assert_eq!(code(None), 3);
        assert_eq!(code(Some(Why::Time)), 124);
        assert_eq!(code(Some(Why::Interrupt(2))), 130);
        assert_eq!(code(Some(Why::Unread)), 141);
    }
}
