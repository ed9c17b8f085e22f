//! Passwords and ssh keys, in a mount namespace whose `/etc/passwd` and `chpasswd` are the test's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qga_testkit::{Host, TestAgent, skip};
use serde_json::{Value, json};

use crate::differences::{differs, today_or_7};
use crate::{PROGRAM, setup};

const GET: &str = "guest-ssh-get-authorized-keys";
const ADD: &str = "guest-ssh-add-authorized-keys";
const REMOVE: &str = "guest-ssh-remove-authorized-keys";
const PASSWORD: &str = "guest-set-user-password";

/// An account that this machine does not have.
const UID: u32 = 54_321;

const SCRIPT: &str = "
set -e
mount --bind \"$1/passwd\" /etc/passwd
mount --bind \"$1/chpasswd\" /usr/sbin/chpasswd
shift
exec \"$@\"
";

/// What the test's `chpasswd` does: it notes how it was called, and knows one account.
const CHPASSWD: &str = "#!/bin/sh
{ echo \"$*\"; cat; } >>DIR/called
case $(tail -n 1 DIR/called) in
eve:*) exit 0 ;;
esac
echo 'chpasswd: no such account' >&2
exit 1
";

/// An agent in whose world there is the account `eve` with a home in its directory.
fn world(test: &str) -> Option<(TestAgent, Host)> {
    if !skip::is_root(test) || !skip::has(test, "unshare") || !skip::has(test, "setpriv") {
        return None;
    }
    if !Path::new("/usr/sbin/chpasswd").exists() {
        skip::skipped(test, "needs a chpasswd to put its own in the place of");
        return None;
    }
    let setup = setup().allow(ADD).allow(REMOVE).allow(PASSWORD);
    let dir = setup.dir().to_owned();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(dir.join("home")).unwrap();
    std::os::unix::fs::chown(dir.join("home"), Some(UID), Some(UID)).unwrap();
    let line = |name: &str, home: &str| format!("{name}:x:{UID}:{UID}::{}/{home}:/bin/sh\n", dir.display());
    let passwd = format!("root:x:0:0:root:/root:/bin/sh\n{}{}", line("eve", "home"), line("nohome", "none"));
    fs::write(dir.join("passwd"), passwd).unwrap();
    fs::write(dir.join("chpasswd"), CHPASSWD.replace("DIR", &dir.display().to_string())).unwrap();
    fs::set_permissions(dir.join("chpasswd"), fs::Permissions::from_mode(0o755)).unwrap();
    let argument = dir.display().to_string();
    let inside = ["unshare", "-m", "--propagation", "private", "sh", "-c", SCRIPT, "sh", &argument];
    let agent = setup.inside(inside).start();
    let host = agent.host();
    Some((agent, host))
}

fn file(agent: &TestAgent) -> PathBuf {
    agent.dir().join("home/.ssh/authorized_keys")
}

fn content(agent: &TestAgent) -> String {
    fs::read_to_string(file(agent)).unwrap()
}

#[track_caller]
fn error(host: &mut Host, name: &str, arguments: Value) -> String {
    let error = host.call(name, arguments).unwrap_err();
    assert_eq!(error.class, "GenericError");
    error.desc
}

#[track_caller]
fn add(host: &mut Host, keys: &[&str]) {
    assert_eq!(host.call(ADD, json!({ "username": "eve", "keys": keys })), Ok(json!({})));
}

fn keys(host: &mut Host) -> Value {
    host.call(GET, json!({ "username": "eve" })).unwrap()
}

#[test]
fn keys_go_in_are_listed_last_first_and_go_out_again() {
    let Some((agent, mut host)) = world("keys") else { return };
    add(&mut host, &["ssh-ed25519 AAAA one", "ssh-rsa BBBB two"]);
    let end = differs("ssh-final-newline", "\n", "");
    assert_eq!(content(&agent), format!("ssh-ed25519 AAAA one\nssh-rsa BBBB two{end}"));
    add(&mut host, &["ssh-rsa BBBB two", "ssh-rsa CCCC three", "ssh-rsa CCCC three"]);
    assert_eq!(content(&agent), format!("ssh-ed25519 AAAA one\nssh-rsa BBBB two\nssh-rsa CCCC three{end}"));
    let all = ["ssh-rsa CCCC three", "ssh-rsa BBBB two", "ssh-ed25519 AAAA one"];
    assert_eq!(keys(&mut host), json!({ "keys": all }));
    host.call(REMOVE, json!({ "username": "eve", "keys": ["ssh-rsa BBBB two", "ssh-rsa none"] })).unwrap();
    assert_eq!(content(&agent), format!("ssh-ed25519 AAAA one\nssh-rsa CCCC three{end}"));
    host.call(ADD, json!({ "username": "eve", "keys": ["ssh-rsa DDDD"], "reset": true })).unwrap();
    assert_eq!(content(&agent), format!("ssh-rsa DDDD{end}"));
    host.call(ADD, json!({ "username": "eve", "keys": [], "reset": true })).unwrap();
    assert_eq!(content(&agent), "");
    assert_eq!(keys(&mut host), json!({ "keys": [] }));
}

/// virsh splits its file at newlines, and takes what follows the last one for a key too.
#[test]
fn an_empty_key_neither_adds_nor_removes_a_line() {
    let Some((agent, mut host)) = world("an empty key") else { return };
    add(&mut host, &["ssh-rsa A", "ssh-rsa B", ""]);
    assert_eq!(content(&agent), "ssh-rsa A\nssh-rsa B\n");
    fs::write(file(&agent), "ssh-rsa A\n\nssh-rsa B\n").unwrap();
    host.call(REMOVE, json!({ "username": "eve", "keys": ["ssh-rsa B", ""] })).unwrap();
    assert_eq!(content(&agent), differs("ssh-empty-key", "ssh-rsa A\n\n", "ssh-rsa A"));
}

#[test]
fn what_is_created_is_the_users_with_modes_that_sshd_takes() {
    let Some((agent, mut host)) = world("ownership of keys") else { return };
    add(&mut host, &["ssh-rsa A"]);
    for (path, mode) in [(file(&agent), 0o600), (file(&agent).parent().unwrap().to_owned(), 0o700)] {
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (UID, UID, mode), "{}", path.display());
    }
    let names: Vec<_> = fs::read_dir(file(&agent).parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn lines_of_others_stay_as_they_are() {
    let Some((agent, mut host)) = world("lines of others") else { return };
    add(&mut host, &["x"]);
    for (before, key, ours, c) in [
        ("# c\nssh-rsa A a\n\n  ssh-rsa B b  \n", "ssh-rsa N n", "ssh-rsa N n\n", "\nssh-rsa N n"),
        ("ssh-rsa A a\r\nssh-rsa B b\r\n", "ssh-rsa A a", "ssh-rsa A a\n", "\nssh-rsa A a"),
    ] {
        fs::write(file(&agent), before).unwrap();
        add(&mut host, &[key]);
        assert_eq!(content(&agent), format!("{before}{}", differs("ssh-final-newline", ours, c)));
    }
    let before = "# c\nssh-rsa A a\n\n  ssh-rsa B b  \n";
    fs::write(file(&agent), before).unwrap();
    assert_eq!(keys(&mut host), json!({ "keys": ["ssh-rsa B b", "ssh-rsa A a"] }));
    let inode = fs::metadata(file(&agent)).unwrap().ino();
    host.call(REMOVE, json!({ "username": "eve", "keys": ["ssh-rsa B b"] })).unwrap();
    assert_eq!(content(&agent), before);
    let same = fs::metadata(file(&agent)).unwrap().ino() == inode;
    assert_eq!(same, differs("ssh-no-rewrite", true, false));
}

#[test]
fn bytes_behind_a_nul_are_kept() {
    let Some((agent, mut host)) = world("NUL in a file") else { return };
    add(&mut host, &["x"]);
    fs::write(file(&agent), "x\0y\nz").unwrap();
    add(&mut host, &["q"]);
    assert_eq!(content(&agent), differs("ssh-bytes", "x\0y\nz\nq\n", "x\nq"));
}

#[test]
fn errors_of_the_key_commands_have_the_c_agents_texts() {
    let Some((agent, mut host)) = world("errors of keys") else { return };
    let path = file(&agent).display().to_string();
    let missing =
        format!("failed to read '{path}': Failed to open file \u{201C}{path}\u{201D}: No such file or directory");
    assert_eq!(error(&mut host, GET, json!({ "username": "eve" })), missing);
    assert_eq!(host.call(REMOVE, json!({ "username": "eve", "keys": ["a"] })), Ok(json!({})));
    for name in ["nosuch", "", "54321", "-h", "--help", "eve:x", "eve\nroot"] {
        // The C agent goes on with whatever error there was last.
        let why = differs("ssh-unknown-user", "no such user", "");
        let desc = format!("failed to lookup user '{name}': {why}");
        for told in [
            error(&mut host, GET, json!({ "username": name })),
            error(&mut host, ADD, json!({ "username": name, "keys": ["a"] })),
        ] {
            assert!(told == desc || (!PROGRAM.is_ours() && told.starts_with(&desc)), "{told}");
        }
    }
    for bad in ["# c", "ssh-rsa A\nssh-rsa B"] {
        let desc = format!("invalid OpenSSH public key: '{bad}'");
        assert_eq!(error(&mut host, ADD, json!({ "username": "nosuch", "keys": ["a", bad] })), desc);
        assert_eq!(error(&mut host, REMOVE, json!({ "username": "eve", "keys": [bad] })), desc);
    }
    let homeless =
        format!("failed to create directory '{}/none/.ssh': No such file or directory", agent.dir().display());
    assert_eq!(error(&mut host, ADD, json!({ "username": "nohome", "keys": ["a"] })), homeless);
    fs::create_dir(agent.dir().join("home/.ssh")).unwrap();
    std::os::unix::fs::chown(agent.dir().join("home/.ssh"), Some(UID), Some(UID)).unwrap();
    fs::create_dir(&path).unwrap();
    let directory = format!("failed to read '{path}': Error reading file \u{201C}{path}\u{201D}: Is a directory");
    assert_eq!(error(&mut host, GET, json!({ "username": "eve" })), directory);
    assert_eq!(error(&mut host, REMOVE, json!({ "username": "eve", "keys": ["a"] })), directory);
}

#[test]
fn arguments_of_the_key_commands_are_checked_like_all() {
    let Some((_agent, mut host)) = world("arguments of keys") else { return };
    assert_eq!(error(&mut host, GET, json!({})), "Parameter 'username' is missing");
    assert_eq!(error(&mut host, ADD, json!({ "username": "eve" })), "Parameter 'keys' is missing");
    let number = "Invalid parameter type for 'keys[1]', expected: string";
    assert_eq!(error(&mut host, ADD, json!({ "username": "eve", "keys": ["a", 1] })), number);
    let reset = "Invalid parameter type for 'reset', expected: boolean";
    assert_eq!(error(&mut host, ADD, json!({ "username": "eve", "keys": [], "reset": "yes" })), reset);
    let unexpected = "Parameter 'reset' is unexpected";
    assert_eq!(error(&mut host, REMOVE, json!({ "username": "eve", "keys": [], "reset": true })), unexpected);
}

#[test]
fn a_link_to_a_file_of_roots_gives_nothing_away() {
    let Some((agent, mut host)) = world("link to a secret") else { return };
    let secret = agent.dir().join("secret");
    fs::write(&secret, "topsecret\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let ssh = agent.dir().join("home/.ssh");
    fs::create_dir(&ssh).unwrap();
    std::os::unix::fs::chown(&ssh, Some(UID), Some(UID)).unwrap();
    std::os::unix::fs::symlink(&secret, file(&agent)).unwrap();
    let told = host.call(GET, json!({ "username": "eve" })).map_err(|error| error.desc);
    let refused = |why: &str| {
        let path = file(&agent).display().to_string();
        Err(format!("failed to read '{path}': Failed to open file \u{201C}{path}\u{201D}: {why}"))
    };
    // Releases before 11.1 give it away; since then the user's rights are what refuses.
    let c = today_or_7(refused("Permission denied"), Ok(json!({ "keys": ["topsecret"] })));
    assert_eq!(told, differs("ssh-as-user", refused("Too many levels of symbolic links"), c));
    let added = host.call(ADD, json!({ "username": "eve", "keys": ["a"] }));
    assert_eq!(added.is_err(), differs("ssh-as-user", true, false));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "topsecret\n");
}

#[test]
fn a_password_reaches_chpasswd() {
    let Some((agent, mut host)) = world("password") else { return };
    let mut set = |password: &str, crypted: bool| {
        let _ = fs::remove_file(agent.dir().join("called"));
        let arguments = json!({ "username": "eve", "password": password, "crypted": crypted });
        assert_eq!(host.call(PASSWORD, arguments), Ok(json!({})));
        fs::read(agent.dir().join("called")).unwrap()
    };
    assert_eq!(set("czNjcmV0", false), b"\neve:s3cret\n");
    // Wrapped, as Proxmox does.
    assert_eq!(set("czNj\ncmV0\n", false), b"\neve:s3cret\n");
    assert_eq!(set("JDYkc2FsdCRoYXNo", true), b"-e\neve:$6$salt$hash\n");
    assert_eq!(set("", false), b"\neve:\n");
    assert_eq!(set("Og3/", false), b"\neve::\r\xff\n");
}

#[test]
fn errors_of_passwords_have_the_c_agents_texts() {
    let Some((agent, mut host)) = world("errors of passwords") else { return };
    for (name, password, desc) in [
        ("al:ice", "eA==", "forbidden characters in username"),
        ("alice\nroot", "eA==", "forbidden characters in username"),
        ("alice", "eApyb290OmhhY2tlZA==", "forbidden characters in raw password"),
        ("al:ice", "Cg==", "forbidden characters in raw password"),
        ("al:ice", "*", "Base64 data contains invalid characters"),
    ] {
        let arguments = json!({ "username": name, "password": password, "crypted": false });
        assert_eq!(error(&mut host, PASSWORD, arguments), desc, "{name} {password}");
    }
    assert!(!agent.dir().join("called").exists());
    let unknown = json!({ "username": "nosuch", "password": "eA==", "crypted": true });
    let said = today_or_7(": chpasswd: no such account\n", "");
    let desc = format!("child process has failed to set user password{said}");
    assert_eq!(error(&mut host, PASSWORD, unknown), desc);
    let crypted = json!({ "username": "eve", "password": "eA==" });
    assert_eq!(error(&mut host, PASSWORD, crypted), "Parameter 'crypted' is missing");
}

/// `/etc` with two accounts in it, for a `chpasswd` that is given busybox's name.
const BUSYBOX: &str = "
set -e
mount --bind \"$1\" /usr/sbin/chpasswd
[ ! -e /bin/busybox ] || mount --bind \"$1\" /bin/busybox
mount -t tmpfs -o mode=755 none /etc
echo root:x:0:0::/root:/bin/sh >/etc/passwd
echo eve:x:1:1::/:/bin/sh >>/etc/passwd
( umask 077; echo 'root:*:19000:0:99999:7:::' >/etc/shadow; echo 'eve:!:19000:0:99999:7:::' >>/etc/shadow )
shift
exec \"$@\"
";

fn encoded(text: &str) -> String {
    let mut out = Vec::new();
    qga_proto::base64::encode_into(&mut out, text.as_bytes());
    String::from_utf8(out).unwrap()
}

/// Debian's busybox has no such applet; `QGA_TEST_BUSYBOX` names another one.
#[test]
fn busyboxs_own_chpasswd_sets_a_password_of_any_length() {
    let test = "busybox";
    let named = std::env::var_os("QGA_TEST_BUSYBOX").map(PathBuf::from);
    let busybox = named.unwrap_or_else(|| "/bin/busybox".into());
    let applet = |args: &[&str]| {
        let output = std::process::Command::new(&busybox).args(args).output();
        output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if !applet(&["--list"]).lines().any(|name| name == "chpasswd") {
        return skip::skipped(test, "there is no busybox with chpasswd here");
    }
    if !PROGRAM.is_ours() || !skip::is_root(test) || !Path::new("/usr/sbin/chpasswd").exists() {
        return skip::skipped(test, "only for ours, as root, where there is a chpasswd to put it in the place of");
    }
    let argument = busybox.display().to_string();
    let inside = ["unshare", "-m", "--propagation", "private", "sh", "-c", BUSYBOX, "sh", &argument];
    let agent = setup().allow(PASSWORD).powerful().inside(inside).start();
    let shadow = PathBuf::from(format!("/proc/{}/root/etc/shadow", agent.pid()));
    let hash = || {
        let text = fs::read_to_string(&shadow).unwrap();
        assert!(text.starts_with("root:*:19000:0:99999:7:::\n"), "{text}");
        text.lines().find_map(|line| line.strip_prefix("eve:")?.split(':').next().map(str::to_owned)).unwrap()
    };
    let mut host = agent.host();
    let mut set = |user: &str, password: &str, crypted: bool| {
        let password = encoded(password);
        let arguments = json!({ "username": user, "password": password, "crypted": crypted });
        host.call(PASSWORD, arguments).map(|_| ()).map_err(|error| error.desc)
    };
    for password in ["s3cret", "h\u{fc}te: & \\ -e", "as long as one likes"] {
        assert_eq!(set("eve", password, false), Ok(()));
        let made = hash();
        let salt = made.strip_prefix("$6$").and_then(|rest| rest.split('$').next());
        let salt = salt.unwrap_or_else(|| panic!("no SHA-512: {made}"));
        let crypt = |password: &str| applet(&["mkpasswd", "-m", "sha512", "-S", salt, password]);
        assert_eq!(made, crypt(password));
        assert_ne!(made, crypt(&password[..password.len() - 1]));
    }
    let given = applet(&["mkpasswd", "-m", "sha512", "-S", "saltsalt", "hunter2"]);
    assert_eq!(set("eve", &given, true), Ok(()));
    assert_eq!(hash(), given);
    let unknown = set("nosuch", "x", false).unwrap_err();
    assert!(unknown.starts_with("child process has failed to set user password: "), "{unknown}");
    assert_eq!(hash(), given);
}

#[test]
fn what_would_set_another_password_or_none_is_refused() {
    let Some((agent, mut host)) = world("dangerous passwords") else { return };
    let mut set = |password: &str, crypted: bool| {
        let _ = fs::remove_file(agent.dir().join("called"));
        let arguments = json!({ "username": "eve", "password": password, "crypted": crypted });
        let desc = host.call(PASSWORD, arguments).map(|_| ()).map_err(|error| error.desc);
        (desc, fs::read_to_string(agent.dir().join("called")).unwrap_or_default())
    };
    let refused = |desc: &str| (Err(desc.to_owned()), String::new());
    let done = |line: &str| (Ok(()), line.to_owned());
    // ab\0\nroot:pwned
    let nul = differs("password-nul", refused("forbidden characters in raw password"), done("\neve:ab\n"));
    assert_eq!(set("YWIACnJvb3Q6cHduZWQ=", false), nul);
    let empty = refused("an empty hash would let everybody in without a password");
    assert_eq!(set("", true), differs("password-empty-hash", empty, done("-e\neve:\n")));
    let colon =
        differs("password-colon-hash", refused("forbidden characters in crypted password"), done("-e\neve:a:b\n"));
    assert_eq!(set("YTpi", true), colon);
}
