//! Whole directories.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::agents::{mode, mtime, noise, with_each_agent};

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
