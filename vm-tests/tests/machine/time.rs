//! The clocks: the system's as the shell tells it, the hardware's as QEMU does.

use std::time::{SystemTime, UNIX_EPOCH};

use qga_testkit::Host;
use serde_json::{Value, json};
use vm_tests::Machine;

use crate::Guest;

/// Seconds that may pass on a busy machine between setting a clock and looking at it.
const LATE: u64 = 60;

const DAY: u64 = 86_400;

const NO_RTC: &str = "mkdir -p /dev/away && for rtc in /dev/rtc*; do mv $rtc /dev/away; done";
const RTC_AGAIN: &str = "mv /dev/away/* /dev && rmdir /dev/away";

/// The system clock.
fn clock(machine: &mut Machine) -> u64 {
    machine.shell.number("date +%s")
}

/// The hardware clock, in seconds since 1970.
fn rtc(machine: &mut Machine) -> u64 {
    let shown = machine.qmp.execute("qom-get", json!({ "path": "/machine", "property": "rtc-time" }));
    let part = |name: &str| shown[name].as_u64().unwrap_or_else(|| panic!("no {name} in {shown}"));
    let (year, month, day) = (part("tm_year") + 1900, part("tm_mon"), part("tm_mday"));
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let before: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = before + lengths[..usize::try_from(month).unwrap()].iter().sum::<u64>() + day - 1;
    days * DAY + part("tm_hour") * 3600 + part("tm_min") * 60 + part("tm_sec")
}

#[track_caller]
fn is_soon_after(seen: u64, expected: u64) {
    // The hardware clock may be half a second behind.
    assert!((expected.saturating_sub(1)..expected + LATE).contains(&seen), "{seen}, which is not {expected}");
}

fn real() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn set(agent: &mut Host, arguments: Value) -> Result<Value, String> {
    agent.call("guest-set-time", arguments).map_err(|error| error.desc)
}

fn nanoseconds(seconds: u64) -> Value {
    json!({ "time": seconds * 1_000_000_000 + 123_456_789 })
}

/// The other cases go on in the present.
fn put_right(machine: &mut Machine, agent: &mut Host) {
    assert_eq!(set(agent, nanoseconds(real())), Ok(json!({})));
    is_soon_after(clock(machine), real() - LATE / 2);
}

pub(crate) fn the_host_sets_the_clock_and_the_hardware_clock(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    // Into the future, over a leap day, and back.
    for time in [real() + 100 * DAY, 1_835_481_599, 3_155_759_000, real() + DAY] {
        assert_eq!(set(&mut agent, nanoseconds(time)), Ok(json!({})));
        is_soon_after(clock(machine), time);
        is_soon_after(rtc(machine), time);
        let told = agent.call("guest-get-time", json!({})).unwrap().as_u64().unwrap();
        is_soon_after(told / 1_000_000_000, time);
    }
    let before = clock(machine);
    for bad in [json!(-1_000_000_001_i64), json!(3_155_760_000_000_000_000_u64)] {
        let desc = set(&mut agent, json!({ "time": bad })).unwrap_err();
        assert!(desc.starts_with("Invalid time"), "{desc}");
    }
    is_soon_after(clock(machine), before);
    put_right(machine, &mut agent);
}

pub(crate) fn the_clock_is_set_from_the_hardware_clock(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    put_right(machine, &mut agent);
    machine.shell.run("date -s @1700000000");
    assert_eq!(set(&mut agent, json!({})), Ok(json!({})));
    let expected = rtc(machine);
    let seen = clock(machine);
    is_soon_after(seen, expected);
    is_soon_after(seen, real() - LATE / 2);
}

pub(crate) fn a_guest_without_a_hardware_clock_has_its_clock_set(guest: &mut Guest) {
    let machine = &mut guest.machine;
    if machine.image().agent.is_c {
        return;
    }
    let mut agent = machine.agent();
    machine.shell.run(NO_RTC);
    let time = real() + 10 * DAY;
    assert_eq!(set(&mut agent, nanoseconds(time)), Ok(json!({})));
    is_soon_after(clock(machine), time);
    let shown = rtc(machine);
    assert!(shown < time - DAY, "{shown}: the hardware clock was set");
    let desc = "failed to read the hardware clock: No such file or directory";
    assert_eq!(set(&mut agent, json!({})), Err(desc.to_owned()));
    is_soon_after(clock(machine), time);
    machine.shell.run(RTC_AGAIN);
    put_right(machine, &mut agent);
}
