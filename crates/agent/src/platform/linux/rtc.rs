//! The hardware clock, which goes on while the machine is off. It knows no time zone: whether it shows UTC or local
//! time is noted in `/etc/adjtime`.

use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::ffi::{self, RtcTime};
use super::root::Root;
use super::zone;

/// Its device, where udev, the kernel alone, and old systems put it.
const DEVICES: [&str; 3] = ["/dev/rtc0", "/dev/rtc", "/dev/misc/rtc"];

const DAY: i64 = 86_400;

/// How long its next tick is waited for, and how often it is looked at meanwhile.
const TICK: Duration = Duration::from_millis(1100);
const LOOK: Duration = Duration::from_millis(2);

/// A hardware clock.
#[derive(Debug)]
pub struct Rtc {
    fd: OwnedFd,
    local: bool,
}

impl Rtc {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is none; `EBUSY` while another program has it open.
    pub fn open(root: &Root) -> Result<Self, Errno> {
        let local = shows_local_time(&root.read("/etc/adjtime").unwrap_or_default());
        let mut failed = Errno::NOENT;
        for device in DEVICES {
            match open(root.path(device), OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()) {
                Ok(fd) => return Ok(Rtc { fd, local }),
                Err(Errno::NOENT) => {}
                Err(errno) => failed = errno,
            }
        }
        Err(failed)
    }

    /// The seconds since 1970 that begin at the moment this returns: it waits for the next tick, so that the answer is
    /// good to some milliseconds.
    ///
    /// # Errors
    ///
    /// The kernel's; `EINVAL` when the clock shows no valid time, its battery being empty.
    pub fn read(&self) -> Result<i64, Errno> {
        let first = ffi::rtc_read(self.fd.as_fd())?;
        let end = Instant::now() + TICK;
        let mut shown = first;
        while shown == first && Instant::now() < end {
            thread::sleep(LOOK);
            shown = ffi::rtc_read(self.fd.as_fd())?;
        }
        seconds_of(&shown, self.local.then_some(&local_offset)).ok_or(Errno::INVAL)
    }

    /// Sets it to so many seconds since 1970.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set(&self, seconds: i64) -> Result<(), Errno> {
        let shown = shown_at(seconds, self.local.then_some(&local_offset)).ok_or(Errno::INVAL)?;
        ffi::rtc_set(self.fd.as_fd(), shown)
    }
}

/// Seconds east of UTC at a moment.
type Offset<'a> = &'a dyn Fn(i64) -> i64;

fn local_offset(at: i64) -> i64 {
    zone::local_zone(at).0
}

/// The third line of `/etc/adjtime` says it; UTC where there is none.
fn shows_local_time(adjtime: &[u8]) -> bool {
    adjtime.split(|&b| b == b'\n').nth(2).is_some_and(|line| line.trim_ascii() == b"LOCAL")
}

/// What the clock shows at so many seconds since 1970; none for what it cannot show.
fn shown_at(seconds: i64, offset: Option<Offset<'_>>) -> Option<RtcTime> {
    let shown = seconds.checked_add(offset.map_or(0, |offset| offset(seconds)))?;
    let (days, second) = (shown.div_euclid(DAY), shown.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let small = |n: i64| i32::try_from(n).ok();
    Some(RtcTime {
        sec: small(second % 60)?,
        min: small(second / 60 % 60)?,
        hour: small(second / 3600)?,
        mday: small(day)?,
        mon: small(month - 1)?,
        year: small(year - 1900)?,
        // The first day of 1970 was a Thursday.
        wday: small((days + 4).rem_euclid(7))?,
        ..RtcTime::default()
    })
}

/// The seconds since 1970 at which the clock shows this.
fn seconds_of(shown: &RtcTime, offset: Option<Offset<'_>>) -> Option<i64> {
    let valid = (0..60).contains(&shown.sec)
        && (0..60).contains(&shown.min)
        && (0..24).contains(&shown.hour)
        && (1..=31).contains(&shown.mday)
        && (0..12).contains(&shown.mon)
        && shown.year >= 70;
    if !valid {
        return None;
    }
    let days = days(i64::from(shown.year) + 1900, i64::from(shown.mon) + 1, i64::from(shown.mday));
    let local = days * DAY + i64::from(shown.hour) * 3600 + i64::from(shown.min) * 60 + i64::from(shown.sec);
    let Some(offset) = offset else { return Some(local) };
    // The offset is asked for at a moment that it is needed to find; near a change the second guess is right.
    let guess = local - offset(local);
    Some(local - offset(guess))
}

/// Days since 1970 of a date in the Gregorian calendar. The year is taken to begin in March, so that the leap day is
/// its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of so many days since 1970.
pub(super) fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(year: i32, mon: i32, mday: i32, hour: i32, min: i32, sec: i32, wday: i32) -> RtcTime {
        RtcTime { sec, min, hour, mday, mon: mon - 1, year: year - 1900, wday, yday: 0, isdst: 0 }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, shown(1970, 1, 1, 0, 0, 0, 4)),
            (951_782_400, shown(2000, 2, 29, 0, 0, 0, 2)),
            (1_700_000_000, shown(2023, 11, 14, 22, 13, 20, 2)),
            (1_709_251_199, shown(2024, 2, 29, 23, 59, 59, 4)),
            (3_155_759_999, shown(2069, 12, 31, 23, 59, 59, 2)),
            (4_107_542_400, shown(2100, 3, 1, 0, 0, 0, 1)),
        ] {
            assert_eq!(shown_at(seconds, None), Some(expected), "{seconds}");
            assert_eq!(seconds_of(&expected, None), Some(seconds), "{expected:?}");
        }
    }

    #[test]
    fn every_day_of_two_centuries_is_found_again() {
        for day in -1..80_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn local_time_is_what_it_was_at_that_moment() {
        // Winter time +1 h until 1,000,000 s, then summer time +2 h.
        let zone = |at: i64| if at < 1_000_000 { 3600 } else { 7200 };
        for at in [0, 990_000, 999_999, 1_000_000, 1_000_001, 1_003_599, 1_003_600, 1_010_000] {
            let shown = shown_at(at, Some(&zone)).unwrap();
            assert_eq!(seconds_of(&shown, None), Some(at + zone(at)));
            assert_eq!(seconds_of(&shown, Some(&zone)), Some(at), "{at}");
        }
    }

    #[test]
    fn a_clock_without_a_valid_time_is_told() {
        for bad in [RtcTime::default(), shown(1969, 12, 31, 0, 0, 0, 0), shown(2024, 13, 1, 0, 0, 0, 0)] {
            assert_eq!(seconds_of(&bad, None), None, "{bad:?}");
        }
    }

    #[test]
    fn the_third_line_of_adjtime_says_what_the_clock_shows() {
        assert!(shows_local_time(b"0.0 0 0.0\n0\nLOCAL\n"));
        assert!(shows_local_time(b"0.0 0 0.0\n0\nLOCAL"));
        for utc in [&b""[..], b"0.0 0 0.0\n0\nUTC\n", b"LOCAL\n", b"0.0 0 0.0\n0\n"] {
            assert!(!shows_local_time(utc));
        }
    }

    #[test]
    fn a_machine_without_one_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Rtc::open(&Root::new(dir.path())).err(), Some(Errno::NOENT));
    }
}
