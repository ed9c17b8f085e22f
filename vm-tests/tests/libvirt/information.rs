//! `virsh guestinfo`, `domfsinfo` and `domhostname`, against what the guest's own tools and files say.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vm_tests::libvirt::{DOMAIN, Libvirt};
use vm_tests::machine::MAC;
use vm_tests::process;

use crate::Guest;

/// The disks, in the order of their mounts: mount point, name in the guest, type, target in the machine's definition.
const DISKS: [[&str; 4]; 2] = [["/mnt/ext4", "vda", "ext4", "vda"], ["/mnt/xfs", "sda", "xfs", "sda"]];

/// What `virsh guestinfo` prints, by name.
fn info(libvirt: &Libvirt, selectors: &[&str]) -> BTreeMap<String, String> {
    let text = libvirt.virsh(&[&["guestinfo", DOMAIN], selectors].concat());
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

/// The pairs whose names begin like this, sorted.
fn part<'a>(info: &'a BTreeMap<String, String>, prefix: &str) -> Vec<(&'a str, &'a str)> {
    let named = info.iter().filter(|(name, _)| name.starts_with(prefix));
    named.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[track_caller]
fn is(info: &BTreeMap<String, String>, name: &str, value: &str) {
    assert_eq!(info.get(name).map(String::as_str), Some(value), "{name} in {info:#?}");
}

/// Puts bytes into a file of the guest.
fn put(libvirt: &mut Libvirt, path: &str, bytes: &[u8]) {
    libvirt.shell.run(&format!("echo {} | base64 -d >{path}", STANDARD.encode(bytes)));
}

pub(crate) fn domfsinfo_shows_each_mounted_disk_with_its_target(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    let table = libvirt.virsh(&["domfsinfo", DOMAIN]);
    let rows: Vec<Vec<_>> = table.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, DISKS);
    let mounts = libvirt.shell.run("grep ^/dev/ /proc/mounts | cut -d' ' -f2");
    assert_eq!(mounts.lines().collect::<Vec<_>>(), DISKS.map(|disk| disk[0]));
}

pub(crate) fn domhostname_is_the_guests(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    libvirt.shell.run("hostname machine.example.org");
    assert_eq!(libvirt.virsh(&["domhostname", DOMAIN, "--source", "agent"]), "machine.example.org");
    is(&info(libvirt, &["--hostname"]), "hostname", "machine.example.org");
}

pub(crate) fn guestinfo_os_is_os_release_and_uname(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    libvirt.shell.run(
        "cat >/etc/os-release <<'END'
ID=example
NAME='Example System'
PRETTY_NAME=\"Example System 7 \\\"Seven\\\"\"
VERSION=\"7 (seven)\"
VERSION_ID=7
VARIANT=Server
VARIANT_ID=server
END",
    );
    let told = info(libvirt, &["--os"]);
    libvirt.shell.run("rm /etc/os-release");
    is(&told, "os.id", "example");
    is(&told, "os.name", "Example System");
    is(&told, "os.pretty-name", "Example System 7 \"Seven\"");
    is(&told, "os.version", "7 (seven)");
    is(&told, "os.version-id", "7");
    is(&told, "os.variant", "Server");
    is(&told, "os.variant-id", "server");
    for (name, option) in [("os.kernel-release", "-r"), ("os.kernel-version", "-v"), ("os.machine", "-m")] {
        is(&told, name, &libvirt.shell.run(&format!("uname {option}")));
    }
    assert_eq!(told.len(), 10, "{told:#?}");
}

pub(crate) fn guestinfo_timezone_is_that_of_etc_localtime(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    is(&info(libvirt, &["--timezone"]), "timezone.name", "UTC");
    // Newfoundland: three and a half hours behind, for good. One kind of time, four letters of names.
    let mut zone = b"TZif".to_vec();
    zone.extend([0; 16]);
    for count in [0u32, 0, 0, 0, 1, 4] {
        zone.extend(count.to_be_bytes());
    }
    zone.extend((-12_600i32).to_be_bytes());
    zone.extend(b"\0\0NST\0");
    put(libvirt, "/etc/localtime", &zone);
    let told = info(libvirt, &["--timezone"]);
    let own = libvirt.shell.run("date +%z");
    libvirt.shell.run("rm /etc/localtime");
    assert_eq!(part(&told, "timezone."), [("timezone.name", "NST"), ("timezone.offset", "-12600")]);
    assert_eq!(own, "-0330");
}

pub(crate) fn guestinfo_user_is_who_is_logged_in(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    is(&info(libvirt, &["--user"]), "user.count", "0");
    // A record of utmp: the shell of this very test is a login of alice on ttyS1.
    let pid = libvirt.shell.run("echo $$").parse::<u32>().unwrap();
    let mut record = vec![0; 384];
    let mut write = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
    write(0, &7u32.to_le_bytes());
    write(4, &pid.to_le_bytes());
    write(8, b"ttyS1");
    write(44, b"alice");
    write(340, &1_700_000_000u32.to_le_bytes());
    write(344, &250_000u32.to_le_bytes());
    put(libvirt, "/run/utmp", &record);
    let told = info(libvirt, &["--user"]);
    libvirt.shell.run("rm /run/utmp");
    let expected = [("user.0.login-time", "1700000000250"), ("user.0.name", "alice"), ("user.count", "1")];
    assert_eq!(part(&told, "user."), expected);
}

pub(crate) fn guestinfo_filesystem_has_the_sizes_that_df_has(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    libvirt.shell.run("dd if=/dev/zero of=/mnt/ext4/filled bs=1M count=7 2>/dev/null; sync");
    let told = info(libvirt, &["--filesystem"]);
    is(&told, "fs.count", "2");
    for (number, [path, name, kind, target]) in DISKS.iter().enumerate() {
        let of = |what: &str| format!("fs.{number}.{what}");
        is(&told, &of("mountpoint"), path);
        is(&told, &of("name"), name);
        is(&told, &of("fstype"), kind);
        is(&told, &of("disk.count"), "1");
        is(&told, &of("disk.0.alias"), target);
        is(&told, &of("disk.0.device"), &format!("/dev/{name}"));
        // Size of a block, blocks, free ones, and free ones that are not kept for root.
        let figures = libvirt.shell.run(&format!("stat -f -c '%S %b %f %a' {path}"));
        let figures: Vec<u64> = figures.split(' ').map(|figure| figure.parse().unwrap()).collect();
        let [block, all, free, available] = figures[..] else { panic!("{figures:?}") };
        is(&told, &of("used-bytes"), &(block * (all - free)).to_string());
        // Space that is kept for root is nobody's: used and available make up the whole.
        is(&told, &of("total-bytes"), &(block * (all - free + available)).to_string());
    }
    libvirt.shell.run("rm /mnt/ext4/filled; sync");
}

pub(crate) fn guestinfo_disk_finds_each_disk_of_the_definition(guest: &mut Guest) {
    let told = info(&guest.libvirt, &["--disk"]);
    is(&told, "disk.count", "2");
    let mut found = Vec::new();
    for number in 0..2 {
        let of = |what: &str| told.get(&format!("disk.{number}.{what}")).map_or("", String::as_str);
        assert_eq!(of("partition"), "no");
        found.push((of("name"), of("alias")));
    }
    found.sort_unstable();
    assert_eq!(found, [("/dev/sda", "sda"), ("/dev/vda", "vda")]);
}

pub(crate) fn guestinfo_interface_has_the_addresses_that_ip_has(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    let own = |libvirt: &mut Libvirt| {
        let shown = libvirt.shell.run("ip address show | grep -o ' inet6* [^ ]* .*'");
        let mut lines: Vec<String> = shown
            .lines()
            .map(|line| {
                let mut words = line.split_whitespace();
                let kind = if words.next() == Some("inet6") { "ipv6" } else { "ipv4" };
                format!("{kind} {}", words.next().unwrap_or_default())
            })
            .collect();
        lines.sort();
        lines
    };
    // The router's address comes when it likes: ask until nothing came in between.
    let (told, expected) = loop {
        let before = own(libvirt);
        let told = info(libvirt, &["--interface"]);
        if own(libvirt) == before {
            break (told, before);
        }
    };
    is(&told, "if.count", "2");
    is(&told, "if.0.name", "lo");
    is(&told, "if.0.hwaddr", "00:00:00:00:00:00");
    is(&told, "if.1.name", "eth0");
    is(&told, "if.1.hwaddr", MAC);
    is(&told, "if.1.addr.0.addr", "10.0.2.15");
    let of = |name: &str, what: &str| told.get(&name.replace(".type", what)).cloned().unwrap_or_default();
    let types = told.keys().filter(|name| name.ends_with(".type"));
    let mut addresses: Vec<String> =
        types.map(|name| format!("{} {}/{}", told[name], of(name, ".addr"), of(name, ".prefix"))).collect();
    addresses.sort();
    assert_eq!(addresses, expected);
}

pub(crate) fn guestinfo_without_a_selector_passes_over_blocked_commands(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    let all = info(libvirt, &[]);
    for name in ["user.count", "os.machine", "timezone.offset", "hostname", "fs.count", "disk.count", "if.count"] {
        assert!(all.contains_key(name), "no {name} in {all:#?}");
    }
    libvirt.restart_agent("-b guest-get-users,guest-get-timezone,guest-get-disks");
    let rest = info(libvirt, &[]);
    for name in ["user.count", "timezone.offset", "disk.count"] {
        assert!(!rest.contains_key(name), "{name} in {rest:#?}");
    }
    for name in ["os.machine", "hostname", "fs.count", "if.count"] {
        assert_eq!(rest.get(name), all.get(name), "{name}");
    }
    let output = libvirt.try_virsh(&["guestinfo", DOMAIN, "--user"]);
    assert!(!output.status.success(), "{}", process::text(&output));
    libvirt.restart_agent("");
    assert_eq!(info(libvirt, &["--user"]).get("user.count"), all.get("user.count"));
}
