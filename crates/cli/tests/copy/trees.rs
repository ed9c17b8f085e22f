//! Whole directories.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::agents::{each, mode, mtime, noise, with_each_agent};

/// A small tree with everything in it.
fn plant(root: &Path) {
    fs::create_dir_all(root.join("sub/deeper still")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("a"), "a").unwrap();
    fs::write(root.join("sub/big"), noise(2_500_000)).unwrap();
    fs::write(root.join("sub/deeper still/line\nend"), "x").unwrap();
    symlink("sub/big", root.join("link")).unwrap();
    symlink("/nowhere/at all", root.join("sub/broken")).unwrap();
    symlink("..", root.join("sub/up")).unwrap();
    fs::set_permissions(root.join("sub/big"), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(root.join("empty"), Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(root.join("sub"), Permissions::from_mode(0o511)).unwrap();
}

/// The two trees have the same files, links and modes.
#[track_caller]
fn assert_same_tree(a: &Path, b: &Path) {
    let output = Command::new("diff").args(["-r", "--no-dereference"]).args([a, b]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    for name in ["a", "sub", "sub/big", "empty", "sub/deeper still"] {
        assert_eq!(mode(&a.join(name)), mode(&b.join(name)), "{name}");
    }
}

#[test]
fn a_tree_is_the_same_at_the_other_end_and_back() {
    with_each_agent(|pair| {
        plant(&pair.host.join("tree"));
        let report = pair.copy(&["-r", "-p", "H/tree", "G/tree"]);
        assert_eq!((&report["files"], &report["directories"], &report["links"]), (&3.into(), &4.into(), &3.into()));
        assert_same_tree(&pair.host.join("tree"), &pair.guest.join("tree"));
        let report = pair.copy(&["-r", "-p", "G/tree", "H/back"]);
        assert_eq!((&report["files"], &report["directories"], &report["links"]), (&3.into(), &4.into(), &3.into()));
        assert_same_tree(&pair.host.join("tree"), &pair.host.join("back"));
        for name in ["", "sub", "sub/big", "empty"] {
            let time = mtime(&pair.host.join("tree").join(name));
            assert_eq!(mtime(&pair.guest.join("tree").join(name)), time, "{name}");
            assert_eq!(mtime(&pair.host.join("back").join(name)), time, "{name}");
        }
        // A second time over what is there, into the directory of that name, and what is in it only.
        pair.copy(&["-r", "H/tree", "G/"]);
        pair.copy(&["-r", "H/tree/.", "G/tree"]);
        assert_same_tree(&pair.host.join("tree"), &pair.guest.join("tree"));
        pair.copy(&["-r", "G/tree", "H/back"]);
        assert_same_tree(&pair.host.join("tree"), &pair.host.join("back/tree"));
        pair.assert_tidy();
    });
}

#[test]
fn many_small_files_are_copied_by_few_programs_of_the_guest() {
    each(&["-v"], |pair| {
        let tree = pair.host.join("tree");
        for number in 0..240 {
            let path = tree.join(format!("dir {}/it's a $file {number}", number % 3));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, noise(number * 10)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(if number % 2 == 0 { 0o640 } else { 0o755 })).unwrap();
            symlink("file", path.with_file_name(format!("link {number}"))).unwrap();
        }
        // Some that are not like the others.
        let odd = ["line\nend", "back\\slash", &"n".repeat(150)];
        for name in odd {
            fs::write(tree.join("dir 1").join(name), name).unwrap();
        }
        let same = |other: &Path| {
            let output = Command::new("diff").args(["-r", "--no-dereference"]).args([&tree, other]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            for number in 0..240 {
                let name = format!("dir {}/it's a $file {number}", number % 3);
                assert_eq!(mode(&other.join(&name)), mode(&tree.join(&name)), "{name}");
            }
        };
        for keep in [&[][..], &["-p"]] {
            let report = pair.copy(&[keep, &["-r", "H/tree/.", "G/tree"]].concat());
            assert_eq!(
                (&report["files"], &report["verified"], &report["links"]),
                (&243.into(), &243.into(), &240.into())
            );
            same(&pair.guest.join("tree"));
            let report = pair.copy(&[keep, &["-r", "G/tree/.", "H/back"]].concat());
            assert_eq!((&report["files"], &report["links"]), (&243.into(), &240.into()));
            assert_eq!(&report["verified"], &242);
            same(&pair.host.join("back"));
        }
        let name = "dir 2/it's a $file 200";
        assert_eq!(mtime(&pair.guest.join("tree").join(name)), mtime(&tree.join(name)));
        assert_eq!(mtime(&pair.host.join("back").join(name)), mtime(&tree.join(name)));
        let left = Command::new("find").args([&pair.guest, &pair.host]).args(["-name", "*.qga-part"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "");
        // Two for each file would be 2000.
        assert!(pair.programs() < 100, "{} programs", pair.programs());
    });
}

#[test]
fn what_is_in_the_way_of_a_small_file_does_not_hinder_the_others() {
    with_each_agent(|pair| {
        for (from, to) in [(&pair.host, &pair.guest), (&pair.guest, &pair.host)] {
            for name in ["a", "b", "c", "d"] {
                fs::create_dir_all(from.join("from")).unwrap();
                fs::write(from.join("from").join(name), name.repeat(1000)).unwrap();
            }
            fs::create_dir_all(to.join("to/b/full")).unwrap();
            fs::write(to.join("to/c"), "old").unwrap();
            // What another copy left, and what somebody put there.
            fs::write(to.join("to/.a.qga-part"), "left over").unwrap();
            fs::write(to.join("victim"), "untouched").unwrap();
            symlink("../victim", to.join("to/.d.qga-part")).unwrap();
        }
        for (from, to, root) in [("H/from/.", "G/to", &pair.guest), ("G/from/.", "H/to", &pair.host)] {
            let said = pair.refuse(&["-r", from, to]);
            assert!(said.contains("to/b: is a directory") && said.contains("1 was not copied"), "{said}");
            for name in ["a", "c", "d"] {
                assert_eq!(fs::read_to_string(root.join("to").join(name)).unwrap(), name.repeat(1000));
            }
            assert_eq!(fs::read_to_string(root.join("victim")).unwrap(), "untouched");
            let left: Vec<_> = fs::read_dir(root.join("to")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left.len(), 4, "{left:?}");
        }
    });
}

#[test]
fn a_link_that_an_earlier_tree_left_here_is_replaced_and_not_followed() {
    with_each_agent(|pair| {
        let victim = pair.host.join("victim");
        fs::write(&victim, "untouched").unwrap();
        fs::create_dir(pair.guest.join("tree")).unwrap();
        for size in [10, 3_000_000] {
            let _ = fs::remove_file(pair.guest.join("tree/x"));
            symlink(&victim, pair.guest.join("tree/x")).unwrap();
            pair.copy(&["-r", "G/tree/.", "H/tree"]);
            assert_eq!(fs::read_link(pair.host.join("tree/x")).unwrap(), victim);
            fs::remove_file(pair.guest.join("tree/x")).unwrap();
            fs::write(pair.guest.join("tree/x"), noise(size)).unwrap();
            pair.copy(&["-r", "G/tree/.", "H/tree"]);
            assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
            assert_eq!(fs::symlink_metadata(pair.host.join("tree/x")).unwrap().len(), size as u64);
        }
    });
}

#[test]
fn what_cannot_be_copied_is_named_and_the_rest_is_copied() {
    with_each_agent(|pair| {
        let odd = OsStr::from_bytes(b"odd \xff");
        for root in [pair.host.join("tree"), pair.guest.join("tree")] {
            fs::create_dir(&root).unwrap();
            fs::write(root.join(odd), "x").unwrap();
            fs::write(root.join("good"), "x").unwrap();
            assert!(Command::new("mkfifo").arg(root.join("fifo")).status().unwrap().success());
        }
        let said = pair.refuse(&["-r", "H/tree", "G/new"]);
        assert!(said.contains("UTF-8 only") && said.contains("fifo: is neither"), "{said}");
        assert!(said.contains("2 were not copied"), "{said}");
        assert!(pair.guest.join("new/good").exists());
        let said = pair.refuse(&["-r", "G/tree", "H/new"]);
        assert!(said.contains("UTF-8 only") && said.contains("fifo: is neither"), "{said}");
        assert!(pair.host.join("new/good").exists());
    });
}

#[test]
fn several_files_go_into_a_directory() {
    with_each_agent(|pair| {
        for name in ["a", "b"] {
            fs::write(pair.host.join(name), name).unwrap();
        }
        fs::create_dir(pair.guest.join("in")).unwrap();
        fs::create_dir(pair.host.join("out")).unwrap();
        pair.copy(&["H/a", "H/b", "G/in"]);
        pair.copy(&["G/in/a", "G/in/b", "H/out"]);
        assert_eq!(fs::read(pair.host.join("out/b")).unwrap(), b"b");
        let said = pair.refuse(&["G/in/a", "G/in/none", "G/in/b", "H/out"]);
        assert!(said.contains("in/none: No such file") && said.contains("1 was not copied"), "{said}");
    });
}
