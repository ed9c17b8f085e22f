use super::*;

const GUEST: &str = "\
1 1 0:2 / / rw - rootfs rootfs rw
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:21 / /proc rw - proc proc rw
24 22 8:1 / /mnt/a rw shared:2 master:1 - ext4 /dev/sda1 rw
25 22 8:2 / /mnt/b rw - xfs /dev/sda2 rw
26 22 0:40 / /mnt/c rw - btrfs /dev/root rw,subvolid=5
27 22 8:1 /dir /mnt/abind rw - ext4 /dev/sda1 rw
28 22 0:40 /sub /mnt/cs rw - btrfs /dev/root rw,subvolid=256
29 22 7:0 / /mnt/with\\040space ro - ext4 /dev/loop0 ro
30 22 0:33 / /mnt/t rw - tmpfs tmpfs rw
31 22 0:34 / /mnt/nfs rw - nfs4 server:/export rw
32 22 8:17 / /mnt/ntfs rw - fuseblk /dev/sdb1 rw
";

fn points(text: &str) -> Vec<String> {
    let table = Table::parse(text.as_bytes());
    table.file_systems(&Root::new("/nonexistent")).iter().map(|fs| super::text(fs.point())).collect()
}

#[test]
fn a_file_system_is_listed_once_in_the_order_of_its_first_mount() {
    assert_eq!(points(GUEST), ["/", "/mnt/a", "/mnt/b", "/mnt/c", "/mnt/with space", "/mnt/ntfs"]);
}

#[test]
fn all_mounts_of_a_file_system_are_known() {
    let table = Table::parse(GUEST.as_bytes());
    let systems = table.file_systems(&Root::new("/nonexistent"));
    let mounts = |i: usize| systems[i].mounts.iter().map(|mount| super::text(&mount.point)).collect::<Vec<_>>();
    assert_eq!(mounts(1), ["/mnt/a", "/mnt/abind"]);
    assert_eq!(mounts(3), ["/mnt/c", "/mnt/cs"]);
    assert_eq!(systems[1].block, Some(Device { major: 8, minor: 1 }));
    assert_eq!(systems[3].block, None, "/dev/root is no device node");
    assert!(systems[1].has_mount(27));
    assert!(!systems[1].has_mount(25));
}

#[test]
fn escapes_become_bytes_and_odd_backslashes_stay() {
    assert_eq!(unescape(br"/mnt/missing\040x\134y\011z"), b"/mnt/missing x\\y\tz");
    assert_eq!(unescape(br"a\\b"), br"a\b");
    assert_eq!(unescape(br"a\b\04\400\09"), br"a\b\04\400\09");
    assert_eq!(unescape(br"\377\"), b"\xff\\");
    assert_eq!(unescape(b""), b"");
}

#[test]
fn names_that_are_no_utf8_are_kept_as_bytes_and_shown_replaced() {
    let table = Table::parse(b"5 1 8:1 / /mnt/\xff\\012x rw - ext4 /dev/\xfe rw\n");
    let mount = &table.mounts()[0];
    assert_eq!(mount.point.as_os_str().as_bytes(), b"/mnt/\xff\nx");
    assert_eq!(mount.what.source.as_bytes(), b"/dev/\xfe");
    assert_eq!(super::text(&mount.point), "/mnt/\u{fffd}\nx");
}

#[test]
fn lines_that_do_not_fit_are_left_out() {
    for line in [
        "",
        "x 1 8:1 / /a rw - ext4 /dev/sda1 rw",
        "5 1 8 / /a rw - ext4 /dev/sda1 rw",
        "5 1 8:x / /a rw - ext4 /dev/sda1 rw",
        "5 1 8:1 / /a rw ext4 /dev/sda1 rw",
        "5 1 8:1 / /a rw - ext4  rw",
        "5 1 8:1 / /a rw - ext4",
        "5 1 8:1 /  rw - ext4 /dev/sda1 rw",
        "5 1 8:1 - ext4 /dev/sda1 rw",
    ] {
        assert!(Table::parse(line.as_bytes()).mounts().is_empty(), "{line}");
    }
    // Nothing is missing but what nobody reads.
    assert_eq!(Table::parse(b"5 1 8:1 / /a rw - ext4 /dev/sda1").mounts().len(), 1);
}

#[test]
fn a_path_leads_to_the_mount_on_top() {
    let table = Table::parse(
        b"20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 8:2 / /mnt/p/q rw - ext4 /dev/sda2 rw
22 20 0:5 / /mnt/p rw - tmpfs none rw
23 20 8:3 / /mnt/m rw - ext4 /dev/sda3 rw
24 23 8:4 / /mnt/m rw - ext4 /dev/sda4 rw
25 24 8:5 / /mnt/m/deep rw - ext4 /dev/sda5 rw
26 23 8:6 / /mnt/m/deep rw - ext4 /dev/sda6 rw
",
    );
    let id = |path: &str| table.lookup(Path::new(path)).map(|mount| mount.id);
    assert_eq!(id("/"), Some(20));
    assert_eq!(id("/etc/fstab"), Some(20));
    assert_eq!(id("/mnt/p/q"), Some(22));
    assert_eq!(id("/mnt/m"), Some(24));
    assert_eq!(id("/mnt/m/deep/er"), Some(25));
    assert_eq!(id("/mnt/mm"), Some(20));
    let hidden: Vec<u64> = table.mounts().iter().filter(|m| !table.is_reachable(m)).map(|m| m.id).collect();
    assert_eq!(hidden, [21, 23, 26]);
}

#[test]
fn rootfs_below_the_root_is_covered_by_it() {
    let table = Table::parse(GUEST.as_bytes());
    assert_eq!(table.lookup(Path::new("/mnt/x")).map(|m| m.id), Some(22));
    assert!(!table.is_reachable(&table.mounts()[0]));
}

#[test]
fn mounts_below_a_chroot_are_reached_though_their_parent_is_not_listed() {
    let table = Table::parse(b"40 7 8:1 / /data rw - ext4 /dev/sda1 rw\n41 40 8:2 / /data/x rw - ext4 /dev/sda2 rw\n");
    assert!(table.mounts().iter().all(|mount| table.is_reachable(mount)));
    assert!(table.lookup(Path::new("/etc")).is_none());
}

#[test]
fn a_table_that_is_no_tree_ends() {
    let table =
        Table::parse(b"2 3 8:1 / / rw - ext4 /dev/a rw\n3 2 8:2 / / rw - ext4 /dev/b rw\n1 9 8:3 / / rw - x y z\n");
    assert_eq!(table.mounts().len(), 3);
    assert_eq!(table.lookup(Path::new("/x")).map(|mount| mount.id), Some(1));
    let ring = Table::parse(
        b"1 9 8:3 / / rw - x y z\n1 1 8:3 / / rw - x y z\n2 1 8:1 / / rw - a b c\n1 2 8:1 / / rw - a b c\n",
    );
    assert!(ring.lookup(Path::new("/x")).is_none());
}

#[test]
fn a_missing_table_is_told_in_the_c_agents_words() {
    let error = Table::read(&Root::new("/nonexistent")).unwrap_err();
    assert_eq!(error.desc, "failed to open mtab file: '/proc/self/mounts': No such file or directory");
}

#[test]
fn device_numbers_are_read_and_written() {
    assert_eq!(Device::parse(b"254:17\n"), Some(Device { major: 254, minor: 17 }));
    assert_eq!(Device::parse(b"254"), None);
    assert_eq!(Device::from_raw(rustix::fs::makedev(259, 70000)).to_string(), "259:70000");
}

proptest::proptest! {
    #[test]
    fn any_table_can_be_read_and_any_path_looked_up(
        text in "([0-4] [0-4] [0-9]:[0-9] / /(a|b|a/b|a/b/c|\\\\040)? rw (x )?- (btrfs|ext4) [a-z]{0,3} rw\n|.*\n){0,12}",
    ) {
        let table = Table::parse(text.as_bytes());
        for path in ["/", "/a", "/a/b/c/d", "relative", ""] {
            table.lookup(Path::new(path));
        }
        for system in table.file_systems(&Root::new("/nonexistent")) {
            assert!(!system.mounts.is_empty());
        }
    }
}
