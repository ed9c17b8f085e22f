//! One trim at a time: a disk takes as long as it takes, and a host that asks again does not make it faster. Without that
//! each attempt at a disk that does not answer would leave one more thread behind.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qga_proto::error::{Error, Result};

/// How long a request waits for another one's end.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct Trimming {
    since: Mutex<Option<Instant>>,
    changed: Condvar,
}

/// The right to trim; given back when dropped, even by a panic.
#[derive(Debug)]
pub struct Turn<'a>(&'a Trimming);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
        self.0.changed.notify_one();
    }
}

impl Trimming {
    /// Waits a little for the one that goes on.
    ///
    /// # Errors
    /// It does not end.
    pub fn begin(&self) -> Result<Turn<'_>> {
        self.begin_within(PATIENCE)
    }

    fn begin_within(&self, patience: Duration) -> Result<Turn<'_>> {
        let (mut since, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, |since| since.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        match *since {
            Some(since) => {
                let seconds = since.elapsed().as_secs();
                Err(Error::generic(format!("trimming file systems has been going on for {seconds} s")))
            }
            None => {
                *since = Some(Instant::now());
                Ok(Turn(self))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_trim_waits_a_little_and_is_told_how_long_the_first_has_been_going_on() {
        let trimming = Trimming::default();
        let turn = trimming.begin().unwrap();
        let error = trimming.begin_within(Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.desc, "trimming file systems has been going on for 0 s");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| trimming.begin_within(Duration::from_secs(60)).map(drop));
            std::thread::sleep(Duration::from_millis(20));
            drop(turn);
            assert_eq!(second.join().unwrap(), Ok(()));
        });
        trimming.begin_within(Duration::ZERO).unwrap();
    }
}
