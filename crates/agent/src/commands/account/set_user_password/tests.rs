use std::fs;
use std::path::Path;

use super::*;
use crate::platform::linux::child::tests::write_program;
use crate::platform::linux::root::Root;
use crate::state::State;

/// Never the machine that the tests run on: its tools are in `dir`.
fn state(dir: &Path) -> State {
    State { root: Root::new(dir), ..State::for_tests(dir) }
}

/// A `chpasswd` that notes what it was called with.
fn with_chpasswd() -> (tempfile::TempDir, State) {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let script = format!(
        "#!/bin/sh\necho \"$0 $*\" >>{0}/called\ncat >>{0}/called\nenv >{0}/environment\n",
        dir.path().display()
    );
    write_program(&dir.path().join("usr/sbin/chpasswd"), &script);
    (dir, state)
}

fn run(state: &State, username: &str, password: &str, crypted: bool) -> Result<Empty> {
    let args = SetUserPasswordArgs { username: username.into(), password: password.into(), crypted };
    GuestSetUserPassword::run(Context { state, reply_limit: None }, args)
}

fn called(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("called")).unwrap_or_default();
    text.replace(&format!("{}/", dir.display()), "/")
}

#[test]
fn a_password_is_given_to_chpasswd_on_its_standard_input_only() {
    let (dir, state) = with_chpasswd();
    // "s3cret", wrapped as Proxmox does.
    assert_eq!(run(&state, "alice", "czNj\ncmV0\n", false), Ok(Empty {}));
    assert_eq!(called(dir.path()), "/usr/sbin/chpasswd \nalice:s3cret\n");
}

#[test]
fn a_hash_is_given_to_chpasswd_as_one() {
    let (dir, state) = with_chpasswd();
    assert_eq!(run(&state, "alice", "JDYkc2FsdCRoYXNo", true), Ok(Empty {}));
    assert_eq!(called(dir.path()), "/usr/sbin/chpasswd -e\nalice:$6$salt$hash\n");
}

#[test]
fn the_program_gets_no_environment_of_ours() {
    let (dir, state) = with_chpasswd();
    assert_eq!(run(&state, "alice", "eA==", false), Ok(Empty {}));
    let environment = fs::read_to_string(dir.path().join("environment")).unwrap();
    assert!(environment.contains("PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"), "{environment}");
    assert!(!environment.contains("CARGO"), "{environment}");
}

#[test]
fn everything_else_that_chpasswd_takes_is_passed_on() {
    let (dir, state) = with_chpasswd();
    // "", ":\r\xff", and a name that is no option on a standard input.
    for (name, password) in [("alice", ""), ("-alice", "Og3/")] {
        assert_eq!(run(&state, name, password, false), Ok(Empty {}));
    }
    let calls = fs::read(dir.path().join("called")).unwrap();
    assert!(calls.ends_with(b"\n-alice::\r\xff\n"), "{}", String::from_utf8_lossy(&calls));
    assert!(called_has(&calls, b"\nalice:\n"));
}

fn called_has(calls: &[u8], line: &[u8]) -> bool {
    calls.windows(line.len()).any(|window| window == line)
}

#[test]
fn nothing_is_run_for_a_password_or_a_name_that_is_more_than_one() {
    let (dir, state) = with_chpasswd();
    for (name, password, crypted, desc) in [
        ("alice", "eApyb290OmhhY2tlZA==", false, "forbidden characters in raw password"),
        ("alice", "YWIACg==", false, "forbidden characters in raw password"),
        ("alice", "YWIA", false, "forbidden characters in raw password"),
        ("alice", "YTpi", true, "forbidden characters in crypted password"),
        ("alice", "", true, "an empty hash would let everybody in without a password"),
        ("al:ice", "eA==", false, "forbidden characters in username"),
        ("alice\nroot", "eA==", false, "forbidden characters in username"),
        ("root\0x", "eA==", false, "forbidden characters in username"),
        // The password is looked at first, its base64 before everything.
        ("al:ice", "Cg==", false, "forbidden characters in raw password"),
        ("al:ice", "*", false, "Base64 data contains invalid characters"),
        ("alice", "czNj cmV0", false, "Base64 data contains invalid characters"),
    ] {
        assert_eq!(run(&state, name, password, crypted), Err(Error::generic(desc)), "{name:?} {password}");
    }
    assert_eq!(called(dir.path()), "");
}

#[test]
fn what_chpasswd_says_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let said = "chpasswd: line 1: user 'nosuch' does not exist\n";
    write_program(
        &dir.path().join("sbin/chpasswd"),
        &format!("#!/bin/sh\ncat >/dev/null\necho \"{}\" >&2\nexit 1\n", said.trim()),
    );
    let desc = format!("child process has failed to set user password: {said}");
    assert_eq!(run(&state, "nosuch", "eA==", true), Err(Error::generic(desc)));
}

#[test]
fn without_chpasswd_busybox_is_asked_and_without_both_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let absent =
        "child process has failed to set user password: failed to exec 'chpasswd': No such file or directory\n";
    assert_eq!(run(&state, "alice", "eA==", false), Err(Error::generic(absent)));
    let script = format!("#!/bin/sh\necho \"busybox $*\" >>{0}/called\ncat >>{0}/called\n", dir.path().display());
    write_program(&dir.path().join("bin/busybox"), &script);
    assert_eq!(run(&state, "alice", "eA==", true), Ok(Empty {}));
    assert_eq!(called(dir.path()), "busybox chpasswd -e\nalice:x\n");
}

/// A busybox that notes how it is called and fails when it is called with `bad`.
fn with_busybox(bad: &str) -> (tempfile::TempDir, State) {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let script = format!(
        "#!/bin/sh\necho \"${{0##*/}} $*\" >>{0}/called\ncat >/dev/null\ncase \"$*\" in *{bad}*) exit 1 ;; esac\n",
        dir.path().display()
    );
    write_program(&dir.path().join("bin/busybox"), &script);
    (dir, state)
}

#[test]
fn busybox_is_told_to_make_a_hash_in_which_all_characters_count() {
    let (dir, state) = with_busybox("none");
    assert_eq!(run(&state, "alice", "eA==", false), Ok(Empty {}));
    assert_eq!(called(dir.path()), "busybox chpasswd -c sha512\n");
    // A `chpasswd` that is a name of busybox, as a symbolic link and as another name of the same file.
    fs::create_dir_all(dir.path().join("usr/sbin")).unwrap();
    let link = dir.path().join("usr/sbin/chpasswd");
    for symbolic in [true, false] {
        fs::remove_file(dir.path().join("called")).unwrap();
        let _ = fs::remove_file(&link);
        if symbolic {
            std::os::unix::fs::symlink("../../bin/busybox", &link).unwrap();
        } else {
            fs::hard_link(dir.path().join("bin/busybox"), &link).unwrap();
        }
        assert_eq!(run(&state, "alice", "eA==", false), Ok(Empty {}));
        assert_eq!(run(&state, "alice", "eA==", true), Ok(Empty {}));
        assert_eq!(called(dir.path()), "chpasswd -c sha512\nchpasswd -e\n");
    }
}

#[test]
fn a_busybox_that_knows_no_such_hash_is_asked_for_its_own() {
    let (dir, state) = with_busybox("sha512");
    assert_eq!(run(&state, "alice", "eA==", false), Ok(Empty {}));
    assert_eq!(called(dir.path()), "busybox chpasswd -c sha512\nbusybox chpasswd\n");
}
