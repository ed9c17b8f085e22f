//! Numbers for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A number of bytes with a unit, three digits or so: `532 B`, `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = count as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // What would be rounded up to 1024 belongs to the next unit.
    while value >= 1023.5 {
        let Some(next) = units.next() else { break };
        value /= 1024.0;
        unit = Some(next);
    }
    let unit = unit.unwrap_or(&"B");
    if *unit == "B" || value >= 99.95 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// A moment, in seconds since 1970, as UTC; just the number when no calendar has it.
pub(crate) fn moment(seconds: f64) -> String {
    let whole = seconds.clamp(0.0, 253_402_300_799.0);
    if (whole - seconds).abs() >= 1.0 || seconds.is_nan() {
        return format!("{seconds}");
    }
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs_f64(whole)).to_string()
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_fits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536 << 20, "1.5 GiB"),
            (102_348, "99.9 KiB"),
            (102_400, "100 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn moments_are_utc_and_nonsense_is_shown_as_it_is() {
        assert_eq!(moment(1_700_000_000.9), "2023-11-14T22:13:20Z");
        assert_eq!(moment(-5.0), "-5");
        assert_eq!(moment(1e300), format!("{}", 1e300));
    }
}
