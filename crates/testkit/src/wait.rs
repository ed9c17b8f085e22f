//! Waiting for something that happens elsewhere, never for ever.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` again and again until it gives a value; `None` when `within` is over.
///
/// The probe is asked at least once, and once more after the limit, so a machine that stood still does not fail a test.
pub fn poll<T>(within: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + within;
    loop {
        let last = Instant::now() >= end;
        if let Some(value) = probe() {
            return Some(value);
        }
        if last {
            return None;
        }
        sleep(PAUSE);
    }
}

/// Like [`poll`], but gives up with a panic that names what did not happen.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, probe: impl FnMut() -> Option<T>) -> T {
    match poll(within, probe) {
        Some(value) => value,
        None => panic!("{what}: did not happen within {} s", within.as_secs_f32()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut left = 3;
        let seen = poll(Duration::from_secs(10), || {
            left -= 1;
            (left == 0).then_some("there")
        });
        assert_eq!(seen, Some("there"));
    }

    #[test]
    fn a_condition_that_never_comes_true_ends_at_the_limit() {
        assert_eq!(poll(Duration::from_millis(50), || None::<()>), None);
    }
}
