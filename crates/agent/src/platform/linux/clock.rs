//! The system clock.

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// The time in nanoseconds since 1970, UTC. Good until 2262.
pub fn now() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(SECOND).saturating_add(now.tv_nsec)
}

/// Sets it.
///
/// # Errors
///
/// `EPERM` without the right to; `EINVAL` before 1970, and, since Linux 4.3, for a time at which the machine would
/// have had to start before 1970.
pub fn set(nanoseconds: i64) -> Result<(), Errno> {
    let tv_sec = nanoseconds.div_euclid(SECOND);
    clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec: nanoseconds.rem_euclid(SECOND) })
}
