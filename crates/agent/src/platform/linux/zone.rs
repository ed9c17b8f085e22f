//! Local time, as the C library reckons it from `TZ` and `/etc/localtime`. Not asked of the C library itself: musl's
//! reads the file once and never again.

use std::env;
use std::sync::{PoisonError, RwLock, TryLockError};
use std::time::SystemTime;

use tz::timezone::LocalTimeType;
use tz::{DateTime, TimeZone};

/// A moment in local time, as syslog lines carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// 0 to 11.
    pub month: usize,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

/// The zone as it was last read.
static ZONE: RwLock<Option<TimeZone>> = RwLock::new(None);

/// The local time of a moment in the zone as it was last read; None if it cannot be told, or not without waiting for
/// somebody who reads the zone from a disk just now.
pub fn local_time(at: SystemTime) -> Option<LocalTime> {
    let known = match ZONE.try_read() {
        Ok(known) => known,
        Err(TryLockError::Poisoned(known)) => known.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    if known.is_some() {
        return parts(known.as_ref()?, at);
    }
    drop(known);
    let mut known = match ZONE.try_write() {
        Ok(known) => known,
        Err(TryLockError::Poisoned(known)) => known.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    parts(known.insert(configured()), at)
}

/// Seconds east of UTC and the abbreviation of the zone, as they are at `at` (seconds since 1970). A changed
/// `/etc/localtime` is noticed.
pub fn local_zone(at: i64) -> (i64, String) {
    let mut known = ZONE.write().unwrap_or_else(PoisonError::into_inner);
    let kind = kind(known.insert(configured()), at);
    (i64::from(kind.ut_offset()), kind.time_zone_designation().to_owned())
}

fn configured() -> TimeZone {
    let named = env::var_os("TZ").map(|name| name.to_string_lossy().into_owned());
    read(named.as_deref())
}

/// The zone that `TZ` names, or else the system's; UTC where neither can be made out.
fn read(named: Option<&str>) -> TimeZone {
    let zone = match named {
        None => TimeZone::local(),
        Some("") => return TimeZone::utc(),
        // A file, or else a rule; with a colon a file only.
        Some(name) => TimeZone::from_posix_tz(name),
    };
    zone.unwrap_or_else(|_| TimeZone::utc())
}

/// What holds at a moment. A file that says nothing of the time after its last change means that nothing changes.
fn kind(zone: &TimeZone, at: i64) -> LocalTimeType {
    if let Ok(kind) = zone.find_local_time_type(at) {
        return *kind;
    }
    let zone = zone.as_ref();
    let last = zone.transitions().last().map_or(0, |transition| transition.local_time_type_index());
    zone.local_time_types().get(last).copied().unwrap_or(LocalTimeType::utc())
}

fn parts(zone: &TimeZone, at: SystemTime) -> Option<LocalTime> {
    let seconds = i64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let time = DateTime::from_timespec_and_local(seconds, 0, kind(zone, seconds)).ok()?;
    Some(LocalTime {
        month: usize::from(time.month().checked_sub(1)?),
        day: time.month_day(),
        hour: time.hour(),
        minute: time.minute(),
        second: time.second(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    fn at(zone: &TimeZone, at: i64) -> (i32, String) {
        let kind = kind(zone, at);
        (kind.ut_offset(), kind.time_zone_designation().to_owned())
    }

    /// A file of the oldest form, with one change at `change`, and no rule for what comes after.
    fn file(change: i32) -> Vec<u8> {
        let mut file = b"TZif".to_vec();
        file.extend([0; 16]);
        // Counts: of UT marks, standard marks, leap seconds, changes, kinds, bytes of names.
        for count in [0_u32, 0, 0, 1, 2, 8] {
            file.extend(count.to_be_bytes());
        }
        file.extend(change.to_be_bytes());
        file.push(1);
        for (offset, is_summer, name) in [(3600_i32, 0, 0), (7200, 1, 4)] {
            file.extend(offset.to_be_bytes());
            file.extend([is_summer, name]);
        }
        file.extend(b"AAA\0BBB\0");
        file
    }

    #[test]
    fn a_rule_says_when_the_clocks_change() {
        let zone = read(Some("CET-1CEST,M3.5.0,M10.5.0/3"));
        // 2025-03-30 01:00 UTC and 2025-10-26 01:00 UTC.
        for (moment, offset, name) in [
            (1_743_296_399, 3600, "CET"),
            (1_743_296_400, 7200, "CEST"),
            (1_761_440_399, 7200, "CEST"),
            (1_761_440_400, 3600, "CET"),
        ] {
            assert_eq!(at(&zone, moment), (offset, name.to_owned()), "{moment}");
        }
        let summer = SystemTime::UNIX_EPOCH + Duration::from_secs(1_751_327_999);
        let time = LocalTime { month: 6, day: 1, hour: 1, minute: 59, second: 59 };
        assert_eq!(parts(&zone, summer), Some(time));
    }

    #[test]
    fn after_the_last_change_of_a_file_nothing_changes_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zone");
        fs::write(&path, file(1_000_000)).unwrap();
        for name in [path.to_str().unwrap().to_owned(), format!(":{}", path.display())] {
            let zone = read(Some(&name));
            assert_eq!(at(&zone, 999_999), (3600, "AAA".to_owned()));
            assert_eq!(at(&zone, 1_000_000), (7200, "BBB".to_owned()));
            assert_eq!(at(&zone, 4_000_000_000), (7200, "BBB".to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_made_out_is_utc() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zone");
        fs::write(&path, b"TZif2 and no more").unwrap();
        for name in ["", ":", ":/nonexistent", "no zone at all", path.to_str().unwrap()] {
            assert_eq!(at(&read(Some(name)), 1_750_000_000).0, 0, "{name}");
        }
    }

    #[test]
    fn every_zone_that_is_installed_is_read_as_the_c_library_reads_it() {
        // Both halves of each year, far into the past and the future.
        let moments: Vec<i64> = (-130..200).map(|half| half * 15_778_800 + 3_000_000).collect();
        let input = tempfile::NamedTempFile::new().unwrap();
        let lines: Vec<String> = moments.iter().map(|moment| format!("@{moment}\n")).collect();
        fs::write(input.path(), lines.concat()).unwrap();

        let (mut directories, mut seen) = (vec![PathBuf::from("/usr/share/zoneinfo")], 0);
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    directories.push(entry.path());
                    continue;
                }
                let path = entry.path();
                if !fs::read(&path).unwrap_or_default().starts_with(b"TZif") {
                    continue;
                }
                let mut date = Command::new("date");
                date.env("TZ", format!(":{}", path.display())).arg("-f").arg(input.path()).arg("+%::z %Z");
                let Ok(output) = date.output() else { continue };
                let zone = read(path.to_str());
                let ours: String = moments.iter().map(|moment| line(&at(&zone, *moment))).collect();
                // (It tells no time zone at all by a minus before the zero.)
                let theirs = String::from_utf8_lossy(&output.stdout).replace("-00:00:00", "+00:00:00");
                assert!(theirs == ours, "{}", path.display());
                seen += 1;
            }
        }
        eprintln!("{seen} zones");
    }

    /// `+01:00:00 CET`
    fn line((offset, name): &(i32, String)) -> String {
        let (sign, size) = (if *offset < 0 { '-' } else { '+' }, offset.abs());
        format!("{sign}{:02}:{:02}:{:02} {name}\n", size / 3600, size / 60 % 60, size % 60)
    }
}
