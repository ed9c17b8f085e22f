//! `virsh guestvcpus`, `vcpucount --guest` and `setvcpus --guest`, against the guest's sysfs.

use vm_tests::libvirt::{DOMAIN, Libvirt};

use crate::Guest;

/// The processors that the guest's kernel runs on.
fn online(libvirt: &mut Libvirt) -> String {
    libvirt.shell.run("cat /sys/devices/system/cpu/online")
}

/// `virsh guestvcpus`: the three lists, without names.
fn told(libvirt: &Libvirt) -> Vec<String> {
    let table = libvirt.virsh(&["guestvcpus", DOMAIN]);
    table.lines().map(|line| line.split(':').nth(1).unwrap_or_default().trim().to_owned()).collect()
}

pub(crate) fn guestvcpus_takes_a_processor_away_and_gives_it_back(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    assert_eq!(told(libvirt), ["0-1", "0-1", "1"]);
    libvirt.virsh(&["guestvcpus", DOMAIN, "--cpulist", "1", "--disable"]);
    assert_eq!(online(libvirt), "0");
    assert_eq!(told(libvirt), ["0-1", "0", "1"]);
    libvirt.virsh(&["guestvcpus", DOMAIN, "--cpulist", "1", "--enable"]);
    assert_eq!(online(libvirt), "0-1");
    // The first cannot go.
    assert!(!libvirt.try_virsh(&["guestvcpus", DOMAIN, "--cpulist", "0", "--disable"]).status.success());
    assert_eq!(online(libvirt), "0-1");
}

pub(crate) fn setvcpus_changes_what_vcpucount_counts(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    for (count, expected) in [("1", "0"), ("2", "0-1")] {
        libvirt.virsh(&["setvcpus", DOMAIN, count, "--guest"]);
        assert_eq!(online(libvirt), expected);
        assert_eq!(libvirt.virsh(&["vcpucount", DOMAIN, "--guest"]), count);
    }
}
