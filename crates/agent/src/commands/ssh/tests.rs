//! The commands on a system of the test's own, with a user who may be up to something.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use qga_proto::command::Empty;
use qga_proto::types::ssh::{
    GuestSshAddAuthorizedKeys, GuestSshGetAuthorizedKeys, GuestSshRemoveAuthorizedKeys, SshAddAuthorizedKeysArgs,
    SshGetAuthorizedKeysArgs, SshRemoveAuthorizedKeysArgs,
};
use qga_testkit::skip;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::geteuid;

use super::*;
use crate::commands::{Context, Handler};
use crate::platform::linux::authorized_keys::SIZE_MAX;
use crate::platform::linux::root::Root;
use crate::state::State;

/// Nobody on this machine.
const EVE: u32 = 54_321;
const OTHER: u32 = 54_322;

const PATH: &str = "/home/eve/.ssh/authorized_keys";

/// A system with the account `eve`.
struct System {
    dir: tempfile::TempDir,
    state: State,
    uid: u32,
}

impl System {
    /// Where eve is whoever runs the tests.
    fn of_our_own() -> Self {
        Self::with(geteuid().as_raw())
    }

    /// Where eve is somebody else, which takes root to serve.
    fn of_another(test: &str) -> Option<Self> {
        if !skip::is_root(test) {
            return None;
        }
        let system = Self::with(EVE);
        let probe = system.home().join("probe");
        fs::write(&probe, "").unwrap();
        if chown(&probe, Some(OTHER), Some(OTHER)).is_err() {
            skip::skipped(test, "files cannot be given to others here");
            return None;
        }
        fs::remove_file(&probe).unwrap();
        Some(system)
    }

    fn with(uid: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = format!("eve:x:{uid}:{uid}::/home/eve:/bin/sh\nnohome:x:{uid}:{uid}::/home/none:/bin/sh\n");
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        let state = State { root: Root::new(dir.path()), ..State::for_tests(dir.path()) };
        let system = System { dir, state, uid };
        fs::create_dir_all(system.home()).unwrap();
        system.give(&system.home(), uid, 0o700);
        system
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn home(&self) -> PathBuf {
        self.path("home/eve")
    }

    fn file(&self) -> PathBuf {
        self.home().join(".ssh/authorized_keys")
    }

    fn give(&self, path: &Path, uid: u32, mode: u32) {
        if uid != geteuid().as_raw() {
            let _ = chown(path, Some(uid), Some(uid));
        }
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// `.ssh` as the user would have it, with this in the file.
    fn with_file(self, content: &[u8]) -> Self {
        self.make_directory();
        fs::write(self.file(), content).unwrap();
        self.give(&self.file(), self.uid, 0o600);
        self
    }

    fn make_directory(&self) {
        fs::create_dir(self.home().join(".ssh")).unwrap();
        self.give(&self.home().join(".ssh"), self.uid, 0o700);
    }

    /// A file of root's that nobody else may read.
    fn secret(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, "topsecret\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn content(&self) -> String {
        String::from_utf8(fs::read(self.file()).unwrap()).unwrap()
    }

    fn cx(&self) -> Context<'_> {
        Context { state: &self.state, reply_limit: None }
    }

    fn get(&self, username: &str) -> Result<Vec<String>> {
        let args = SshGetAuthorizedKeysArgs { username: username.into() };
        GuestSshGetAuthorizedKeys::run(self.cx(), args).map(|ret| ret.keys)
    }

    fn add(&self, keys: &[&str], reset: Option<bool>) -> Result<Empty> {
        self.add_to("eve", keys, reset)
    }

    fn add_to(&self, username: &str, keys: &[&str], reset: Option<bool>) -> Result<Empty> {
        let keys = keys.iter().map(|key| Cow::Borrowed(*key)).collect();
        GuestSshAddAuthorizedKeys::run(self.cx(), SshAddAuthorizedKeysArgs { username: username.into(), keys, reset })
    }

    fn remove(&self, keys: &[&str]) -> Result<Empty> {
        let keys = keys.iter().map(|key| Cow::Borrowed(*key)).collect();
        GuestSshRemoveAuthorizedKeys::run(self.cx(), SshRemoveAuthorizedKeysArgs { username: "eve".into(), keys })
    }

    /// All three commands fail, and say this.
    #[track_caller]
    fn refuses(&self, why: &str) {
        let desc = |result: Result<Empty>| result.unwrap_err().desc.into_owned();
        let expected = format!("failed to read '{PATH}': {why}");
        assert_eq!(desc(self.get("eve").map(|_| Empty {})), expected);
        assert_eq!(desc(self.add(&["ssh-rsa NEW"], None)), expected);
        assert_eq!(desc(self.remove(&["topsecret"])), expected);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

fn failed(desc: impl Into<String>) -> Error {
    Error::generic(desc.into())
}

#[test]
fn keys_are_added_listed_and_removed() {
    let system = System::of_our_own();
    system.add(&["ssh-ed25519 AAAA one", "ssh-rsa BBBB two"], None).unwrap();
    assert_eq!(system.content(), "ssh-ed25519 AAAA one\nssh-rsa BBBB two\n");
    system.add(&["ssh-rsa BBBB two", "ssh-rsa CCCC three", "ssh-rsa CCCC three"], Some(false)).unwrap();
    assert_eq!(system.content(), "ssh-ed25519 AAAA one\nssh-rsa BBBB two\nssh-rsa CCCC three\n");
    assert_eq!(system.get("eve").unwrap(), ["ssh-rsa CCCC three", "ssh-rsa BBBB two", "ssh-ed25519 AAAA one"]);
    system.remove(&["ssh-rsa BBBB two"]).unwrap();
    assert_eq!(system.content(), "ssh-ed25519 AAAA one\nssh-rsa CCCC three\n");
    system.add(&["ssh-rsa DDDD"], Some(true)).unwrap();
    assert_eq!(system.content(), "ssh-rsa DDDD\n");
    system.add(&[], Some(true)).unwrap();
    assert_eq!(system.content(), "");
    assert_eq!(system.get("eve").unwrap(), [""; 0]);
    assert_eq!(names(&system.home().join(".ssh")), ["authorized_keys"]);
}

#[test]
fn what_is_created_is_the_user_s_and_closed_to_others() {
    let Some(system) = System::of_another("ownership of keys") else { return };
    let ssh = system.home().join(".ssh");
    system.add(&["ssh-rsa A"], None).unwrap();
    assert_eq!((owner(&ssh), mode(&ssh)), ((EVE, EVE), 0o700));
    assert_eq!((owner(&system.file()), mode(&system.file())), ((EVE, EVE), 0o600));
    // A directory that hands its group on does not do so here.
    chown(&ssh, None, Some(OTHER)).unwrap();
    fs::set_permissions(&ssh, Permissions::from_mode(0o2755)).unwrap();
    fs::set_permissions(system.file(), Permissions::from_mode(0o644)).unwrap();
    system.add(&["ssh-rsa B"], None).unwrap();
    assert_eq!((owner(&system.file()), mode(&system.file())), ((EVE, EVE), 0o600));
    assert_eq!(mode(&ssh), 0o2755);
    assert_eq!(system.content(), "ssh-rsa A\nssh-rsa B\n");
    system.remove(&["ssh-rsa A"]).unwrap();
    assert_eq!((owner(&system.file()), system.content().as_str()), ((EVE, EVE), "ssh-rsa B\n"));
}

#[test]
fn a_directory_that_others_can_write_to_is_closed_to_them() {
    let system = System::of_our_own().with_file(b"ssh-rsa A\n");
    let ssh = system.home().join(".ssh");
    fs::set_permissions(&ssh, Permissions::from_mode(0o775)).unwrap();
    system.add(&["ssh-rsa B"], None).unwrap();
    assert_eq!(mode(&ssh), 0o755);
}

#[test]
fn who_reads_meanwhile_has_the_old_file_or_the_new_one_and_nothing_is_left_beside_it() {
    let system = System::of_our_own().with_file(b"# mine\nold\n");
    let mut before = fs::File::open(system.file()).unwrap();
    system.add(&["new"], None).unwrap();
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut before, &mut seen).unwrap();
    assert_eq!((seen.as_str(), system.content().as_str()), ("# mine\nold\n", "# mine\nold\nnew\n"));
    assert_ne!(before.metadata().unwrap().ino(), fs::metadata(system.file()).unwrap().ino());
    let names: Vec<_> = fs::read_dir(system.home().join(".ssh")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(names, ["authorized_keys"]);
}

#[test]
fn what_does_not_change_is_not_written() {
    let system = System::of_our_own().with_file(b"# mine\nssh-rsa A\nssh-rsa B");
    let before = fs::metadata(system.file()).unwrap().ino();
    system.add(&["ssh-rsa B", "ssh-rsa A"], None).unwrap();
    system.add(&[], None).unwrap();
    system.remove(&["ssh-rsa C", "#"]).unwrap_err();
    system.remove(&["ssh-rsa C"]).unwrap();
    system.remove(&[]).unwrap();
    assert_eq!(fs::metadata(system.file()).unwrap().ino(), before);
    assert_eq!(system.content(), "# mine\nssh-rsa A\nssh-rsa B");
    // A file is never changed in place: whoever reads it sees one or the other.
    system.add(&["ssh-rsa C"], None).unwrap();
    let after = fs::metadata(system.file()).unwrap().ino();
    assert_ne!(after, before);
    system.add(&["ssh-rsa X"], Some(true)).unwrap();
    let reset = fs::metadata(system.file()).unwrap().ino();
    system.add(&["ssh-rsa X", "ssh-rsa X"], Some(true)).unwrap();
    assert_eq!(fs::metadata(system.file()).unwrap().ino(), reset);
}

#[test]
fn a_file_that_is_not_there_is_told_and_nothing_to_remove_from() {
    let system = System::of_our_own();
    let missing =
        format!("failed to read '{PATH}': Failed to open file \u{201C}{PATH}\u{201D}: No such file or directory");
    assert_eq!(system.get("eve"), Err(failed(missing.clone())));
    system.remove(&["ssh-rsa A"]).unwrap();
    assert_eq!(names(&system.home()), [""; 0]);
    system.make_directory();
    assert_eq!(system.get("eve"), Err(failed(missing)));
    system.remove(&["ssh-rsa A"]).unwrap();
    assert_eq!(names(&system.home().join(".ssh")), [""; 0]);
    let unknown = "failed to lookup user 'nosuch': no such user";
    assert_eq!(system.get("nosuch"), Err(failed(unknown)));
    assert_eq!(system.add_to("nosuch", &["A"], None), Err(failed(unknown)));
    let homeless = "failed to create directory '/home/none/.ssh': No such file or directory";
    assert_eq!(system.add_to("nohome", &["A"], None), Err(failed(homeless)));
}

#[test]
fn a_key_that_is_more_or_less_than_a_line_is_refused_before_anything_is_done() {
    let system = System::of_our_own();
    for bad in ["# c", "#", "ssh-rsa A\nssh-rsa B", "ssh-rsa A\n", "ssh-rsa A\0"] {
        let error = failed(format!("invalid OpenSSH public key: '{bad}'"));
        assert_eq!(system.add(&["ssh-rsa G", bad], None), Err(error.clone()));
        assert_eq!(system.remove(&[bad]), Err(error.clone()));
        assert_eq!(system.add_to("nosuch", &[bad], None), Err(error));
    }
    assert_eq!(names(&system.home()), [""; 0]);
}

#[test]
fn attack_a_link_instead_of_the_file_gives_nothing_away() {
    let Some(system) = System::of_another("link instead of file") else { return };
    system.make_directory();
    let secret = system.secret("secret");
    let open = system.secret("open");
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    for target in [&secret, &open] {
        symlink(target, system.file()).unwrap();
        system.refuses(&format!("Failed to open file \u{201C}{PATH}\u{201D}: Too many levels of symbolic links"));
        assert!(fs::symlink_metadata(system.file()).unwrap().is_symlink());
        // A reset replaces the link, and not what it points to.
        system.add(&["ssh-rsa NEW"], Some(true)).unwrap();
        assert_eq!((system.content().as_str(), owner(&system.file())), ("ssh-rsa NEW\n", (EVE, EVE)));
        assert_eq!((fs::read_to_string(target).unwrap().as_str(), owner(target)), ("topsecret\n", (0, 0)));
        fs::remove_file(system.file()).unwrap();
    }
    assert_eq!((mode(&secret), mode(&open)), (0o600, 0o644));
}

#[test]
fn attack_a_link_instead_of_the_directory_leads_nowhere() {
    let Some(system) = System::of_another("link instead of directory") else { return };
    // Once a directory that only root may write to, once one that everybody may.
    for directory_mode in [0o755, 0o777] {
        let target = system.path("targetdir");
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, Permissions::from_mode(directory_mode)).unwrap();
        symlink(&target, system.home().join(".ssh")).unwrap();
        let get = format!("failed to read '{PATH}': Failed to open file \u{201C}{PATH}\u{201D}: Not a directory");
        assert_eq!(system.get("eve"), Err(failed(get)));
        for reset in [false, true] {
            let add = "failed to create directory '/home/eve/.ssh': File exists";
            assert_eq!(system.add(&["ssh-rsa NEW"], Some(reset)), Err(failed(add)));
        }
        system.remove(&["x"]).unwrap_err();
        assert_eq!(names(&target), [""; 0]);
        assert_eq!((owner(&target), mode(&target)), ((0, 0), directory_mode));
        fs::remove_dir(&target).unwrap();
        fs::remove_file(system.home().join(".ssh")).unwrap();
    }
}

#[test]
fn attack_swapping_the_directory_for_a_link_meanwhile_gains_nothing() {
    let Some(system) = System::of_another("swap during the call") else { return };
    let system = system.with_file(b"ssh-rsa OWN\n");
    let target = system.path("targetdir");
    fs::create_dir(&target).unwrap();
    // That everybody may write to it leaves only the refusal to follow links.
    fs::set_permissions(&target, Permissions::from_mode(0o777)).unwrap();
    let victim = system.secret("targetdir/authorized_keys");
    let (ssh, decoy) = (system.home().join(".ssh"), system.home().join("decoy"));
    symlink(&target, &decoy).unwrap();
    let stop = AtomicBool::new(false);
    let (mut done, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &ssh, CWD, &decoy, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for round in 0..20_000 {
            let key = format!("ssh-rsa {}", round % 7);
            let result =
                if round % 2 == 0 { system.add(&[&key], Some(round % 3 == 0)) } else { system.remove(&[&key]) };
            match result {
                Ok(_) => done += 1,
                Err(_) => refused += 1,
            }
            if let Ok(keys) = system.get("eve") {
                assert!(!keys.iter().any(|key| key == "topsecret"));
            }
            if done >= 200 && refused >= 200 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused: nothing was swapped in time");
    assert_eq!(names(&target), ["authorized_keys"]);
    assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), owner(&victim)), ("topsecret\n", (0, 0)));
}

#[test]
fn attack_a_fifo_does_not_hold_us() {
    let system = System::of_our_own();
    system.make_directory();
    assert!(std::process::Command::new("mkfifo").arg(system.file()).status().unwrap().success());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        system.refuses("it is not a regular file");
        system.add(&["ssh-rsa A"], Some(true)).unwrap();
        assert_eq!(system.content(), "ssh-rsa A\n");
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(60)).unwrap();
}

#[test]
fn attack_a_hard_link_to_a_file_of_another_is_refused() {
    let system = System::of_our_own();
    system.make_directory();
    let secret = system.secret("secret");
    fs::hard_link(&secret, system.file()).unwrap();
    system.refuses("it has another name (a hard link)");
    system.add(&["ssh-rsa A"], Some(true)).unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "topsecret\n");
}

#[test]
fn attack_what_belongs_to_another_user_is_refused() {
    let Some(system) = System::of_another("foreign owner") else { return };
    let system = system.with_file(b"topsecret\n");
    // Readable for us, so that only the owner is in the way.
    system.give(&system.file(), OTHER, 0o644);
    system.refuses("it belongs to another user");
    // Root's own file, which the user may not read, is no better.
    system.give(&system.file(), 0, 0o600);
    system.refuses(&format!("Failed to open file \u{201C}{PATH}\u{201D}: Permission denied"));
    system.give(&system.file(), EVE, 0o600);
    assert_eq!(system.get("eve").unwrap(), ["topsecret"]);
    system.give(&system.home().join(".ssh"), OTHER, 0o777);
    system.refuses("'/home/eve/.ssh' belongs to another user");
    assert_eq!(mode(&system.home().join(".ssh")), 0o777);
    assert_eq!(names(&system.home().join(".ssh")), ["authorized_keys"]);
}

#[test]
fn attack_a_file_of_a_terabyte_does_not_fill_the_memory() {
    let system = System::of_our_own().with_file(b"");
    fs::File::options().write(true).open(system.file()).unwrap().set_len(1 << 40).unwrap();
    system.refuses(&format!("it has more than {SIZE_MAX} bytes"));
    let long = "x".repeat(SIZE_MAX);
    let too_big = format!("failed to write to '{PATH}': File too large");
    assert_eq!(system.add(&[&long], Some(true)), Err(failed(too_big)));
    assert_eq!(fs::metadata(system.file()).unwrap().len(), 1 << 40);
}

#[test]
fn a_directory_in_the_place_of_the_file_is_told() {
    let system = System::of_our_own();
    fs::create_dir_all(system.file()).unwrap();
    system.refuses(&format!("Error reading file \u{201C}{PATH}\u{201D}: Is a directory"));
    let replaced = format!("failed to write to '{PATH}': Is a directory");
    assert_eq!(system.add(&["A"], Some(true)), Err(failed(replaced)));
    assert_eq!(names(&system.home().join(".ssh")), ["authorized_keys"]);
}

#[test]
fn a_user_who_may_not_write_is_told_so() {
    let Some(system) = System::of_another("directory of root") else { return };
    let ssh = system.home().join(".ssh");
    fs::create_dir(&ssh).unwrap();
    fs::set_permissions(&ssh, Permissions::from_mode(0o755)).unwrap();
    let desc = system.add(&["ssh-rsa A"], None).unwrap_err().desc.into_owned();
    let begin = format!("failed to write to '{PATH}': Failed to create file \u{201C}{PATH}.");
    assert!(desc.starts_with(&begin) && desc.ends_with("\u{201D}: Permission denied"), "{desc}");
    assert_eq!(names(&ssh), [""; 0]);
}
