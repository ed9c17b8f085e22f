use std::fs;
use std::path::Path;

use super::*;
use crate::platform::linux::child::tests::write_program;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    broken\n\
    bad:x:many:0::/:/bin/sh\n\
    +nis::::::\n\
    alice:x:1000:1001:Alice,,,:/home/alice:/bin/bash\n\
    alice:x:1:1::/second:/bin/sh\n\
    nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin";

fn system() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(dir.path().join("etc/passwd"), PASSWD).unwrap();
    fs::write(dir.path().join("etc/group"), "wheel:x:10:root,alice\nalice:x:1001:\nx:x:11:alicex, alice\nodd:x\n")
        .unwrap();
    let root = Root::new(dir.path());
    (dir, root)
}

fn unknown(name: &str) -> Error {
    Error::generic(format!("failed to lookup user '{name}': no such user"))
}

#[test]
fn an_account_has_its_number_home_and_groups() {
    let (_dir, root) = system();
    let alice = User::find(&root, "alice").unwrap();
    let home = PathBuf::from("/home/alice");
    let expected = User { name: "alice".into(), uid: 1000, gid: 1001, home, groups: vec![1001, 10, 11] };
    assert_eq!(alice, expected);
    assert_eq!(User::find(&root, "nobody").unwrap().home, Path::new("/nonexistent"));
}

#[test]
fn numbers_options_and_pieces_of_lines_are_no_names() {
    let (dir, root) = system();
    write_program(&dir.path().join("usr/bin/getent"), "#!/bin/sh\necho called >&2\necho \"$2:x:1:1::/:\"\n");
    for name in ["", "-u", "--help", "+nis", "+", "alice:x", "alice\nroot", "al\0ice", "../etc"] {
        assert_eq!(User::find(&root, name), Err(unknown(name)), "{name:?}");
    }
    for name in ["bad", "broken", "1000", "Alice"] {
        // These are asked for elsewhere, being names.
        assert_eq!(User::find(&root, name).unwrap().uid, 1, "{name}");
    }
}

#[test]
fn what_the_files_do_not_have_is_asked_of_getent() {
    let (dir, root) = system();
    assert_eq!(User::find(&root, "bob"), Err(unknown("bob")));
    let script = "#!/bin/sh
case \"$1 $2\" in
'passwd bob') echo 'bob:*:2000:2000:Bob:/net/bob:/bin/sh' ;;
'initgroups bob') echo 'bob                   2000 3000 10' ;;
'passwd 2000') echo 'bob:*:2000:2000:Bob:/net/bob:/bin/sh' ;;
*) exit 2 ;;
esac
";
    write_program(&dir.path().join("usr/bin/getent"), script);
    let bob = User::find(&root, "bob").unwrap();
    assert_eq!((bob.uid, bob.gid, bob.home.as_path()), (2000, 2000, Path::new("/net/bob")));
    assert_eq!(bob.groups, [2000, 3000, 10]);
    assert_eq!(User::find(&root, "2000"), Err(unknown("2000")));
    assert_eq!(User::find(&root, "carol"), Err(unknown("carol")));
}

#[test]
fn name_services_that_do_not_answer_do_not_hold_us() {
    let (dir, root) = system();
    write_program(&dir.path().join("usr/bin/getent"), "#!/bin/sh\nsleep 1000\n");
    let error = User::find_within(&root, "bob", Duration::from_millis(200)).unwrap_err();
    assert!(error.desc.starts_with("failed to lookup user 'bob': ") && error.desc.contains("did not end"), "{error}");
}
