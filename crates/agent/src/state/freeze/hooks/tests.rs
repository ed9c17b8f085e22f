use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

const LIMITS: Limits = Limits { each: Duration::from_secs(30), all: Duration::from_secs(30) };

/// A directory of hooks that write down what they are told.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        set_mode(&dir.path().join("d"), 0o755);
        Place { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A hook that goes on with `then`, a line of shell.
    fn hook(&self, name: &str, then: &str) -> PathBuf {
        let path = self.path(name);
        let script = format!("#!/bin/sh\necho \"${{0##*/}} $1\" >>{}\n{then}\n", self.path("log").display());
        fs::write(&path, script).unwrap();
        set_mode(&path, 0o755);
        path
    }

    fn hooks(&self, program: Option<&str>) -> Hooks {
        Hooks { program: program.map(|name| self.path(name)), dir: Some(self.path("d")), limits: LIMITS }
    }

    /// Runs the hooks with `freeze`; those that were begun, and what became of it.
    fn freeze(&self, hooks: &Hooks) -> (Vec<PathBuf>, Result<()>, Vec<String>) {
        let (mut ran, mut said) = (Vec::new(), Vec::new());
        let result = hooks.freeze(
            |hook| {
                ran.push(hook.to_owned());
                Ok(())
            },
            |text| said.push(text),
            &|| false,
        );
        (ran, result, said)
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        fs::write(self.path("log"), "").unwrap();
        log.trim_end().replace('\n', ", ")
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn hooks_are_run_in_order_and_thawed_in_reverse() {
    let place = Place::new();
    place.hook("main", "");
    place.hook("d/20-second", "");
    place.hook("d/10-first", "");
    let hooks = place.hooks(Some("main"));
    let (ran, result, said) = place.freeze(&hooks);
    assert_eq!(result, Ok(()));
    assert_eq!(said, ["", "", ""]);
    assert_eq!(place.log(), "main freeze, 10-first freeze, 20-second freeze");
    let mut done = Vec::new();
    thaw(&ran, LIMITS, |hook| done.push(hook.to_owned())).unwrap();
    assert_eq!(place.log(), "20-second thaw, 10-first thaw, main thaw");
    assert_eq!(done, ran.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn leftovers_and_what_others_can_change_are_no_hooks() {
    let place = Place::new();
    for name in ["good", "good~", "x.rpmsave", "x.rpmnew", "x.dpkg-old", "x.dpkg-dist", "x.ucf-dist", "x.pacnew"] {
        place.hook(&format!("d/{name}"), "");
    }
    for name in [".hidden", "x.bak", "x.swp", "x.orig", "x.disabled"] {
        place.hook(&format!("d/{name}"), "");
    }
    set_mode(&place.hook("d/for-group", ""), 0o775);
    set_mode(&place.hook("d/for-all", ""), 0o757);
    set_mode(&place.hook("d/README", ""), 0o644);
    fs::create_dir(place.path("d/directory")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", place.path("d/dangling")).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(place.hook("d/of-another", ""), Some(65534), None).unwrap();
    }
    let list = place.hooks(None).list();
    assert_eq!(list, [place.path("d/good")]);

    set_mode(&place.path("d"), 0o777);
    assert!(place.hooks(None).list().is_empty(), "others can put files there");
}

#[test]
fn no_directory_is_no_hook() {
    let place = Place::new();
    place.hook("main", "");
    let hooks = Hooks { dir: Some(place.path("nowhere")), ..place.hooks(Some("main")) };
    assert_eq!(hooks.list(), [place.path("main")]);
}

#[test]
fn the_first_failure_names_the_hook_and_only_those_that_began_are_thawed() {
    let place = Place::new();
    place.hook("d/10-good", "");
    place.hook("d/20-bad", "echo no room >&2; [ $1 = thaw ]");
    place.hook("d/30-never", "");
    let (ran, result, _) = place.freeze(&place.hooks(None));
    let error = result.unwrap_err();
    assert_eq!(error.desc, "child process has failed to execute fsfreeze hook 20-bad: no room\n");
    assert_eq!(place.log(), "10-good freeze, 20-bad freeze");
    thaw(&ran, LIMITS, |_| ()).unwrap();
    assert_eq!(place.log(), "20-bad thaw, 10-good thaw");
}

#[test]
fn all_are_thawed_although_one_fails() {
    let place = Place::new();
    let ran = [place.hook("d/1", ""), place.hook("d/2", "exit 4"), place.hook("d/3", "exit 5")];
    let error = thaw(&ran, LIMITS, |_| ()).unwrap_err();
    assert_eq!(
        error.desc,
        "child process has failed to execute fsfreeze hook 3: exit status 5; \
         child process has failed to execute fsfreeze hook 2: exit status 4"
    );
    assert_eq!(place.log(), "3 thaw, 2 thaw, 1 thaw");
}

#[test]
fn one_hook_alone_has_the_words_of_the_c_agent() {
    let place = Place::new();
    place.hook("main", "exit 4");
    let hooks = Hooks { dir: None, ..place.hooks(Some("main")) };
    let error = place.freeze(&hooks).1.unwrap_err();
    assert_eq!(error.desc, "child process has failed to execute fsfreeze hook: exit status 4");
}

#[test]
fn a_hook_that_sleeps_is_killed_at_its_limit_and_told_to_thaw() {
    let place = Place::new();
    place.hook("d/10-sleeper", "[ $1 = thaw ] || sleep 600");
    let limits = Limits { each: Duration::from_millis(300), ..LIMITS };
    let (ran, result, _) = place.freeze(&Hooks { limits, ..place.hooks(None) });
    let error = result.unwrap_err();
    assert!(error.desc.contains("10-sleeper' did not end within 0.3 seconds and was killed"), "{error}");
    thaw(&ran, LIMITS, |_| ()).unwrap();
    assert_eq!(place.log(), "10-sleeper freeze, 10-sleeper thaw");
}

#[test]
fn all_hooks_together_have_a_limit_too() {
    let place = Place::new();
    place.hook("d/1", "sleep 0.3");
    place.hook("d/2", "");
    let limits = Limits { all: Duration::from_millis(250), ..LIMITS };
    let (ran, result, _) = place.freeze(&Hooks { limits, ..place.hooks(None) });
    let error = result.unwrap_err();
    assert!(error.desc.contains("did not end within 0.2"), "what is left is the limit: {error}");
    assert_eq!(ran, [place.path("d/1")]);
    place.log();

    let limits = Limits { all: Duration::ZERO, ..LIMITS };
    let (ran, result, _) = place.freeze(&Hooks { limits, ..place.hooks(None) });
    let error = result.unwrap_err().desc;
    assert!(error.starts_with("the fsfreeze hooks took longer than 0 seconds; '"), "{error}");
    assert_eq!((ran, place.log()), (vec![], String::new()));
    // But no hook goes without its thaw for that.
    thaw(&[place.path("d/1"), place.path("d/2")], limits, |_| ()).unwrap();
    assert_eq!(place.log(), "2 thaw, 1 thaw");
}

#[test]
fn what_a_hook_wrote_is_kept_for_the_log() {
    let place = Place::new();
    let path = place.hook("d/talker", "echo one; echo two >&2");
    let (_, _, said) = place.freeze(&place.hooks(None));
    assert_eq!(said, [format!("fsfreeze hook {} said at freeze: one\ntwo", path.display())]);
}
