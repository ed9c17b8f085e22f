use super::*;

fn system() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("sys/devices/system/memory")).unwrap();
    let root = Root::new(dir.path());
    (dir, root)
}

fn write(root: &Root, file: &str, text: &str) {
    let path = root.path(format!("{BASE}/{file}"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().desc.into_owned()
}

#[test]
fn blocks_are_listed_by_number_with_what_their_files_say() {
    let (_dir, root) = system();
    for (index, state, removable) in
        [(100, "offline\n", "1\n"), (9, "online\n", "0\n"), (32, "going-offline\n", "1\n"), (0, "online\n", "1\n")]
    {
        write(&root, &format!("memory{index}/state"), state);
        write(&root, &format!("memory{index}/removable"), removable);
    }
    write(&root, "memory5/state", "online\n");
    write(&root, "memory6/phys_index", "6\n");
    let all: Vec<_> = all(&root).unwrap().iter().map(|b| (b.index, b.online, b.can_offline)).collect();
    let expected =
        [(0, true, true), (5, true, false), (6, true, false), (9, true, false), (32, false, true), (100, false, true)];
    assert_eq!(all, expected);
}

#[test]
fn where_the_kernel_says_the_same_of_all_blocks_it_is_asked_once() {
    let (_dir, root) = system();
    fs::create_dir_all(root.path("/proc/sys/kernel")).unwrap();
    for index in 1..4 {
        write(&root, &format!("memory{index}/state"), "online\n");
    }
    write(&root, "memory1/removable", "1\n");
    for (release, seen) in [
        ("6.1.0-13-amd64", [true, true, true]),
        ("5.10.0", [true, true, true]),
        ("5.9.16", [true, false, false]),
        ("4.18.0-553.el8", [true, false, false]),
        ("", [true, false, false]),
    ] {
        fs::write(root.path("/proc/sys/kernel/osrelease"), format!("{release}\n")).unwrap();
        let all: Vec<_> = all(&root).unwrap().iter().map(|block| block.can_offline).collect();
        assert_eq!(all, seen, "{release}");
    }
}

#[test]
fn blocks_are_not_looked_at_where_too_few_pages_are_missing_for_one_to_be_off() {
    let (_dir, root) = system();
    fs::create_dir_all(root.path("/proc/sys/kernel")).unwrap();
    let zones = |pages: [u64; 2]| {
        let [first, second] = pages;
        let text = format!(
            "Node 0, zone      DMA\n  pages free     2\n        spanned  4095\n        present  {first}\n        managed  3\n\
             Node 0, zone   Normal\n        present  {second}\n"
        );
        fs::write(root.path("/proc/zoneinfo"), text).unwrap();
    };
    let seen = || all(&root).unwrap().iter().map(|block| (block.online, block.can_offline)).collect::<Vec<_>>();
    for index in 0..3 {
        // What they say differs from what follows from the pages, so that it is seen which was believed.
        write(&root, &format!("memory{index}/state"), "offline\n");
    }
    let page = u64::try_from(rustix::param::page_size()).unwrap();
    write(&root, "block_size_bytes", &format!("{:x}\n", 100 * page));
    fs::write(root.path("/proc/sys/kernel/osrelease"), "6.1.0\n").unwrap();
    let (looked, not) = ([(false, true); 3], [(true, true); 3]);

    zones([100, 101]);
    assert_eq!(seen(), [(false, false); 3], "nobody says whether they can be switched off");
    write(&root, "memory0/removable", "1\n");
    assert_eq!(seen(), not);
    zones([0, 300]);
    assert_eq!(seen(), not);
    zones([100, 100]);
    assert_eq!(seen(), looked, "one may be off");
    zones([200, 101]);
    assert_eq!(seen(), looked, "more than there is");
    fs::write(root.path("/proc/zoneinfo"), "        present  many\n").unwrap();
    assert_eq!(seen(), looked);
    zones([100, 101]);
    write(&root, "memory0/removable", "0\n");
    assert_eq!(seen(), [(true, false); 3]);
    fs::write(root.path("/proc/sys/kernel/osrelease"), "5.9.0\n").unwrap();
    assert!(seen().iter().all(|(online, _)| !online), "blocks may differ");
    fs::remove_file(root.path("/proc/zoneinfo")).unwrap();
    fs::write(root.path("/proc/sys/kernel/osrelease"), "6.1.0\n").unwrap();
    assert!(seen().iter().all(|(online, _)| !online));
}

#[test]
fn what_only_starts_like_a_block_is_none_and_no_block_is_no_error() {
    let (dir, root) = system();
    assert_eq!(all(&root).unwrap(), []);
    for name in ["memory", "memory_x", "memoryx", "memory-1", "power"] {
        fs::create_dir(dir.path().join("sys/devices/system/memory").join(name)).unwrap();
    }
    assert_eq!(all(&root).unwrap(), []);
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(all(&Root::new(nothing.path())).unwrap(), []);
}

#[test]
fn a_block_that_has_gone_is_left_out() {
    let (_dir, root) = system();
    let base = File::open(root.path(BASE)).unwrap();
    let mut eye = Eye { base, reader: Reader::default(), removable: None, all_alike: false };
    assert_eq!(eye.look(7).unwrap(), None);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let (dir, root) = system();
    write(&root, "memory1/state", "online\n");
    write(&root, "memory1/removable", "");
    assert_eq!(text(all(&root)), "pread sysfs file \"removable\": unexpected EOF");
    let state = dir.path().join("sys/devices/system/memory/memory1/state");
    fs::remove_file(&state).unwrap();
    fs::create_dir(&state).unwrap();
    assert_eq!(text(all(&root)), "pread sysfs file \"state\": Is a directory");
}

#[test]
fn the_size_of_a_block_is_hexadecimal_and_has_no_sign() {
    let (_dir, root) = system();
    assert_eq!(text(block_size(&root)), "open sysfs file \"block_size_bytes\": No such file or directory");
    write(&root, "block_size_bytes", "8000000\n");
    assert_eq!(block_size(&root), Ok(134_217_728));
    write(&root, "block_size_bytes", "ffffffffffffffff\n");
    assert_eq!(block_size(&root), Ok(u64::MAX));
    write(&root, "block_size_bytes", "");
    assert_eq!(text(block_size(&root)), "pread sysfs file \"block_size_bytes\": unexpected EOF");
    write(&root, "block_size_bytes", "large\n");
    assert_eq!(text(block_size(&root)), "sysfs file \"block_size_bytes\" holds no size: large");
    let nothing = tempfile::tempdir().unwrap();
    let expected = "open(\"/sys/devices/system/memory/\"): No such file or directory";
    assert_eq!(text(block_size(&Root::new(nothing.path()))), expected);
}
