//! `virsh domtime`, against the guest's own clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use vm_tests::libvirt::{DOMAIN, Libvirt};

use crate::Guest;

/// Seconds that may pass on a busy machine between setting a clock and looking at it.
const LATE: u64 = 60;

/// The system clock.
fn clock(libvirt: &mut Libvirt) -> u64 {
    libvirt.shell.number("date +%s")
}

/// The hardware clock, as busybox reads it.
fn hardware_clock(libvirt: &mut Libvirt) -> u64 {
    libvirt.shell.number("date -u -D '%a %b %d %T %Y' -d \"$(hwclock -u | cut -d' ' -f1-6 | tr -s ' ')\" +%s")
}

/// What `virsh domtime` reads.
fn told(libvirt: &Libvirt) -> u64 {
    let text = libvirt.virsh(&["domtime", DOMAIN]);
    let seconds = text.strip_prefix("Time: ").and_then(|seconds| seconds.parse().ok());
    seconds.unwrap_or_else(|| panic!("no time: {text}"))
}

fn real() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[track_caller]
fn is_soon_after(seen: u64, expected: u64) {
    // The hardware clock may be half a second behind.
    assert!((expected.saturating_sub(1)..expected + LATE).contains(&seen), "{seen}, which is not {expected}");
}

pub(crate) fn domtime_reads_the_clock(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    libvirt.shell.run("date -s @1700000000");
    is_soon_after(told(libvirt), 1_700_000_000);
    let pretty = libvirt.virsh(&["domtime", DOMAIN, "--pretty"]);
    assert!(pretty.starts_with("Time: 2023-11-14 22:1"), "{pretty}");
}

pub(crate) fn domtime_sets_the_clock_and_the_hardware_clock(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    libvirt.virsh(&["domtime", DOMAIN, "--time", "1900000000"]);
    is_soon_after(clock(libvirt), 1_900_000_000);
    is_soon_after(hardware_clock(libvirt), 1_900_000_000);
    libvirt.virsh(&["domtime", DOMAIN, "--now"]);
    let now = real() - LATE / 2;
    is_soon_after(clock(libvirt), now);
    is_soon_after(hardware_clock(libvirt), now);

    // From the hardware clock, which this does not change.
    libvirt.shell.run("date -s @1700000000");
    libvirt.virsh(&["domtime", DOMAIN, "--sync"]);
    is_soon_after(clock(libvirt), now);
}
