//! The system clock and the hardware clock, beside systemd's own account of them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::Guest;

/// Seconds that may pass on a busy machine between setting a clock and looking at it.
const LATE: u64 = 60;

const RTC: &str = "cat /sys/class/rtc/rtc0/since_epoch";

pub(crate) fn the_host_sets_the_clocks(guest: &mut Guest) {
    let real = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ahead = real() + 90_000;
    for time in [ahead, 0] {
        // The last one is the present.
        let time = if time == 0 { real() } else { time };
        assert_eq!(guest.call("guest-set-time", json!({ "time": time * 1_000_000_000 })), json!({}));
        for clock in ["date +%s", RTC] {
            let seen = guest.machine.shell.number(clock);
            assert!((time - 1..time + LATE).contains(&seen), "{clock} says {seen}, set was {time}");
        }
    }
    // From the hardware clock.
    guest.machine.shell.run("date --set=@1900000000");
    assert_eq!(guest.call("guest-set-time", json!({})), json!({}));
    let seen = guest.machine.shell.number("date +%s");
    assert!((real() - LATE..real() + LATE).contains(&seen), "{seen}");
}
