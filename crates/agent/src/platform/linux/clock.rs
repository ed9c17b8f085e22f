//! The system clock.

use std::time::SystemTime;

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use super::rtc;

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

/// A moment for people: `2025-11-29 17:48:39 UTC`. Local time would take the time zone from a disk.
pub fn utc(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = rtc::date(days);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_reads_as_date_and_time() {
        let at = |seconds| utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(at(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(at(1_700_000_000), "2023-11-14 22:13:20 UTC");
    }
}
