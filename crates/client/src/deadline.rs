//! The moment until which an operation may last.

use std::time::{Duration, Instant};

use rustix::event::Timespec;

/// The moment until which an operation may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    start: Instant,
    limit: Duration,
}

impl Deadline {
    /// So much time from now.
    pub fn after(limit: Duration) -> Self {
        Deadline { start: Instant::now(), limit }
    }

    /// What is left of it; zero once it is over.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.start.elapsed())
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// The time given at the start, for messages.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// A deadline that ends with this one at the latest, and after `limit` at the latest.
    pub fn at_most(&self, limit: Duration) -> Self {
        Deadline::after(self.left().min(limit))
    }

    /// A deadline that ends so much later than this one.
    pub(crate) fn extended(&self, by: Duration) -> Self {
        Deadline::after(self.left().saturating_add(by))
    }

    /// What is left, as `poll` wants it. A year stands for every longer time.
    pub(crate) fn timespec(&self) -> Timespec {
        let left = self.left().min(Duration::from_secs(365 * 86_400));
        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_longer_than_the_clock_can_count_is_kept() {
        let deadline = Deadline::after(Duration::MAX);
        assert!(!deadline.is_over());
        assert!(deadline.timespec().tv_sec >= 86_400);
    }

    #[test]
    fn a_part_of_a_deadline_never_outlives_it() {
        let whole = Deadline::after(Duration::ZERO);
        assert!(whole.at_most(Duration::from_secs(9)).is_over());
        assert!(!Deadline::after(Duration::from_secs(60)).at_most(Duration::from_secs(9)).is_over());
    }
}
