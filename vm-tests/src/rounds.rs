//! The same fault again and again: how often, for how long, and how soon the agent is heard afterwards.

use std::env;
use std::time::{Duration, Instant};

/// Rounds of each kind of fault where `QGA_ROUNDS` says nothing.
const ROUNDS: usize = 10;

/// Seconds that a host does not read for where `QGA_SILENCE` says nothing.
const SILENCE: u64 = 30;

/// The promise: an agent that can be reached again answers within this.
const PROMISED: Duration = Duration::from_secs(5);

/// A single round may take this much on a machine that has better things to do than this test.
const LIMIT: Duration = Duration::from_secs(30);

/// How often each fault is repeated: the value of `QGA_ROUNDS`, or a few.
///
/// # Panics
/// When that is no number.
pub fn count() -> usize {
    number("QGA_ROUNDS").map_or(ROUNDS, |count| usize::try_from(count).unwrap_or(usize::MAX))
}

/// How long a host does not read: the value of `QGA_SILENCE` in seconds, or half a minute.
///
/// # Panics
/// When that is no number.
pub fn silence() -> Duration {
    Duration::from_secs(number("QGA_SILENCE").unwrap_or(SILENCE))
}

/// Whether this is the long form, which is run where nothing else is.
pub fn is_long() -> bool {
    number("QGA_ROUNDS").is_some() || number("QGA_SILENCE").is_some()
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// The times of all rounds of one fault.
#[derive(Debug)]
pub struct Pace {
    fault: &'static str,
    /// With the number of the round.
    times: Vec<(Duration, usize)>,
}

impl Pace {
    /// None so far.
    pub fn new(fault: &'static str) -> Self {
        Self { fault, times: Vec::new() }
    }

    /// Runs what shows that the agent answers, and notes how long that took. It is to begin at the moment from which
    /// the agent can be reached.
    ///
    /// # Panics
    /// When it took too long for any machine.
    #[track_caller]
    pub fn answered<T>(&mut self, answer: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let value = answer();
        let took = begin.elapsed();
        assert!(took < LIMIT, "round {} of {}: an answer after {took:?}", self.times.len(), self.fault);
        self.times.push((took, self.times.len()));
        value
    }

    /// Shows the times and holds them against the promise. In the short form, which runs beside much else, one round in
    /// ten may be late, for a machine that stands still now and then.
    ///
    /// # Panics
    /// When more of them are.
    #[track_caller]
    pub fn finish(mut self) {
        self.times.sort();
        let (count, late) = (self.times.len(), self.times.iter().filter(|&&(took, _)| took > PROMISED).count());
        let (Some((median, _)), Some((longest, round))) = (self.times.get(count / 2), self.times.last()) else {
            return;
        };
        println!(
            "     {count} rounds of {}: an answer after {:.2} s (median), {:.2} s (longest, round {round}), \
             {late} after more than {} s",
            self.fault,
            median.as_secs_f32(),
            longest.as_secs_f32(),
            PROMISED.as_secs()
        );
        let tolerated = if is_long() { 0 } else { count / 10 };
        assert!(late <= tolerated, "{late} of {count} rounds of {} took longer than {PROMISED:?}", self.fault);
    }
}
