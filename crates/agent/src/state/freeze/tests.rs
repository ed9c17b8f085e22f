use std::collections::HashMap;
use std::fs::File;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use rustix::io::{self, Errno};

use super::*;
use crate::platform::linux::mountinfo::Device;

/// A world of four file systems, `/d` on top, that writes down what is done to it.
#[derive(Default)]
struct Script {
    seen: Mutex<Vec<String>>,
    freeze: HashMap<&'static str, std::result::Result<bool, Errno>>,
    thaw: Mutex<HashMap<&'static str, io::Result<bool>>>,
    open: Option<Error>,
    guard: Option<Error>,
    arm: Option<Error>,
    /// What the guardian has to say when all is frozen.
    check: Option<Error>,
    freeze_hook: Option<Error>,
    thaw_hook: Option<Error>,
    adopted: Option<Error>,
    /// Freezing this one tells that it has begun, and ends when told to.
    stuck: Option<Stuck>,
}

/// Its mount point, whom to tell, and who ends it.
type Stuck = (&'static str, Mutex<Sender<()>>, Mutex<Receiver<()>>);

const POINTS: [&str; 4] = ["/d", "/c", "/b", "/a"];

impl Script {
    fn note(&self, text: String) {
        self.seen.lock().unwrap().push(text);
    }

    fn take(&self) -> String {
        mem::take(&mut *self.seen.lock().unwrap()).join(", ")
    }

    /// Also gives the end that hears of the beginning and the one that ends it.
    fn stuck(at: &'static str) -> (Self, Receiver<()>, Sender<()>) {
        let (begun, hear) = mpsc::channel();
        let (end, wait) = mpsc::channel();
        (Script { stuck: Some((at, Mutex::new(begun), Mutex::new(wait))), ..Script::default() }, hear, end)
    }
}

impl World for Script {
    fn open(&self, only: Option<&[String]>, _: &dyn Fn() -> bool) -> Result<Vec<Handle>> {
        self.note("open".into());
        if let Some(error) = &self.open {
            return Err(error.clone());
        }
        let meant = |point: &&str| only.is_none_or(|only| only.iter().any(|asked| asked == point));
        let handle = |point: &str| {
            Handle::new(File::open("/dev/null").unwrap().into(), point.into(), Device { major: 7, minor: 0 })
        };
        Ok(POINTS.iter().copied().filter(|point| meant(point)).map(handle).collect())
    }

    fn guard(&self) -> Result<()> {
        self.guard.clone().map_or(Ok(()), Err)
    }

    fn freeze(&self, handle: &Arc<Handle>, _: &dyn Fn() -> bool) -> Result<bool> {
        let point = handle.point().to_str().unwrap();
        self.note(format!("freeze {point}"));
        if let Some((at, begun, end)) = &self.stuck {
            if *at == point {
                begun.lock().unwrap().send(()).unwrap();
                end.lock().unwrap().recv().unwrap();
            }
        }
        let frozen = self.freeze.get(point).copied().unwrap_or(Ok(true));
        frozen.map_err(|errno| Error::generic(format!("failed to freeze {point}: {}", errno.errno_text())))
    }

    fn check(&self) -> Result<()> {
        self.check.clone().map_or(Ok(()), Err)
    }

    fn thaw(&self, handle: &Handle) -> io::Result<bool> {
        let point = handle.point().to_str().unwrap();
        self.note(format!("thaw {point}"));
        self.thaw.lock().unwrap().get(point).copied().unwrap_or(Ok(true))
    }

    fn thaw_adopted(&self) -> Result<i64> {
        self.note("thaw adopted".into());
        self.adopted.clone().map_or(Ok(3), Err)
    }

    fn hooks(&self) -> Vec<PathBuf> {
        vec!["/hook".into()]
    }

    fn hook(&self, phase: HookPhase, ran: &mut Vec<PathBuf>) -> Result<()> {
        let (name, result) = match phase {
            HookPhase::Freeze => {
                ran.push("/hook".into());
                ("freeze", &self.freeze_hook)
            }
            HookPhase::Thaw if ran.is_empty() => return Ok(()),
            HookPhase::Thaw => ("thaw", &self.thaw_hook),
        };
        self.note(format!("hook {name}"));
        result.clone().map_or(Ok(()), Err)
    }

    fn arm(&self, handles: &[Arc<Handle>]) -> Result<()> {
        assert!(!handles.is_empty());
        self.note("arm".into());
        self.arm.clone().map_or(Ok(()), Err)
    }

    fn disarm(&self) {
        self.note("disarm".into());
    }

    fn release(&self) {}
}

fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().desc.into_owned()
}

/// Short waits, for tests in which they run out.
fn hasty() -> Freeze {
    let ms = Duration::from_millis;
    Freeze::with_patience(Patience { status: ms(100), grace: ms(50), thaw: ms(300) })
}

#[test]
fn freezing_goes_from_inner_to_outer_and_thawing_back() {
    let (freeze, world) = (Freeze::default(), Script::default());
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
    assert_eq!(freeze.freeze(&world, None), Ok(4));
    assert_eq!(world.take(), "hook freeze, open, arm, freeze /d, freeze /c, freeze /b, freeze /a");
    assert!(freeze.is_frozen());
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
    assert_eq!(freeze.thaw(&world), Ok(4));
    assert_eq!(world.take(), "thaw /a, thaw /b, thaw /c, thaw /d, disarm, hook thaw");
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
}

#[test]
fn a_second_freeze_is_refused_and_leaves_the_first_alone() {
    let (freeze, world) = (Freeze::default(), Script::default());
    freeze.freeze(&world, None).unwrap();
    world.take();
    let error = freeze.freeze(&world, None).unwrap_err();
    assert_eq!(error.class, qga_proto::ErrorClass::CommandNotFound);
    assert_eq!(world.take(), "");
    assert!(freeze.is_frozen());
}

#[test]
fn only_the_file_systems_asked_for_are_frozen_and_thawed() {
    let (freeze, world) = (Freeze::default(), Script::default());
    assert_eq!(freeze.freeze(&world, Some(&["/b".into(), "/d".into(), "/nope".into()])), Ok(2));
    assert_eq!(world.take(), "hook freeze, open, arm, freeze /d, freeze /b");
    assert_eq!(freeze.thaw(&world), Ok(2));
    assert_eq!(world.take(), "thaw /b, thaw /d, disarm, hook thaw");
}

#[test]
fn a_freeze_of_nothing_tells_the_hook_that_it_is_over() {
    let (freeze, world) = (Freeze::default(), Script::default());
    assert_eq!(freeze.freeze(&world, Some(&[])), Ok(0));
    assert_eq!(world.take(), "hook freeze, open, hook thaw");
    let world = Script { freeze: POINTS.iter().map(|point| (*point, Ok(false))).collect(), ..Script::default() };
    assert_eq!(freeze.freeze(&world, None), Ok(0));
    assert!(world.take().ends_with("freeze /a, disarm, hook thaw"));
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
}

#[test]
fn what_cannot_be_frozen_is_passed_over_and_not_thawed() {
    let (freeze, world) =
        (Freeze::default(), Script { freeze: HashMap::from([("/c", Ok(false))]), ..Script::default() });
    assert_eq!(freeze.freeze(&world, None), Ok(3));
    world.take();
    assert_eq!(freeze.thaw(&world), Ok(3));
    assert_eq!(world.take(), "thaw /a, thaw /b, thaw /d, disarm, hook thaw");
}

#[test]
fn a_failure_in_the_middle_thaws_in_reverse_and_names_the_culprit() {
    let world = Script { freeze: HashMap::from([("/b", Err(Errno::IO))]), ..Script::default() };
    let freeze = Freeze::default();
    assert_eq!(text(freeze.freeze(&world, None)), "failed to freeze /b: Input/output error");
    assert_eq!(
        world.take(),
        "hook freeze, open, arm, freeze /d, freeze /c, freeze /b, thaw /c, thaw /d, disarm, hook thaw"
    );
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
}

#[test]
fn a_failure_before_the_first_freeze_touches_nothing_but_the_hook() {
    let freeze = Freeze::default();
    let world = Script { open: Some(Error::generic("failed to open /b: Permission denied")), ..Script::default() };
    assert_eq!(text(freeze.freeze(&world, None)), "failed to open /b: Permission denied");
    assert_eq!(world.take(), "hook freeze, open, hook thaw");
    let world = Script { freeze_hook: Some(Error::generic("database is busy")), ..Script::default() };
    assert_eq!(text(freeze.freeze(&world, None)), "database is busy");
    assert_eq!(world.take(), "hook freeze, hook thaw");
    assert!(!freeze.is_frozen());
}

#[test]
fn a_hook_that_fails_after_the_thaw_is_told_and_the_state_is_thawed() {
    let (freeze, world) =
        (Freeze::default(), Script { thaw_hook: Some(Error::generic("exit 4")), ..Script::default() });
    freeze.freeze(&world, None).unwrap();
    assert_eq!(text(freeze.thaw(&world)), "exit 4");
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
}

#[test]
fn a_thaw_of_nothing_thaws_no_one_elses_and_runs_the_hook() {
    let (freeze, world) = (Freeze::default(), Script::default());
    assert_eq!(freeze.thaw(&world), Ok(0));
    assert_eq!(world.take(), "hook thaw");
}

#[test]
fn what_somebody_else_has_thawed_is_not_counted() {
    let (freeze, world) = (Freeze::default(), Script::default());
    freeze.freeze(&world, None).unwrap();
    world.thaw.lock().unwrap().insert("/c", Ok(false));
    assert_eq!(freeze.thaw(&world), Ok(3));
    assert!(!freeze.is_frozen());
}

#[test]
fn what_cannot_be_thawed_stays_frozen_for_the_next_try() {
    let (freeze, world) = (Freeze::default(), Script::default());
    freeze.freeze(&world, None).unwrap();
    world.thaw.lock().unwrap().extend([("/c", Err(Errno::IO)), ("/b", Err(Errno::ROFS))]);
    world.take();
    assert_eq!(
        text(freeze.thaw(&world)),
        "failed to thaw /b: Read-only file system; failed to thaw /c: Input/output error"
    );
    assert_eq!(world.take(), "thaw /a, thaw /b, thaw /c, thaw /d, hook thaw");
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
    world.thaw.lock().unwrap().clear();
    assert_eq!(freeze.thaw(&world), Ok(2));
    assert_eq!(world.take(), "thaw /b, thaw /c, disarm, hook thaw");
    assert!(!freeze.is_frozen());
}

#[test]
fn an_agent_that_was_restarted_while_frozen_thaws_what_may_be_left() {
    let (freeze, world) = (Freeze::default(), Script::default());
    freeze.adopt();
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
    assert_eq!(freeze.thaw(&world), Ok(3));
    assert_eq!(world.take(), "thaw adopted, disarm, hook thaw");
    assert_eq!(freeze.thaw(&world), Ok(0));
    assert_eq!(world.take(), "hook thaw");
}

#[test]
fn without_a_mount_table_an_adopted_freeze_stays() {
    let (freeze, world) =
        (Freeze::default(), Script { adopted: Some(Error::generic("no table")), ..Script::default() });
    freeze.adopt();
    assert_eq!(text(freeze.thaw(&world)), "no table");
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
}

#[test]
fn without_a_guardian_no_hook_is_run_and_nothing_is_opened() {
    let world = Script { guard: Some(Error::generic("no guardian")), ..Script::default() };
    let freeze = Freeze::default();
    assert_eq!(text(freeze.freeze(&world, None)), "no guardian");
    assert_eq!(world.take(), "");
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
}

#[test]
fn a_guardian_that_is_lost_before_the_first_freeze_leaves_nothing_frozen() {
    let world = Script { arm: Some(Error::generic("gone")), ..Script::default() };
    let freeze = Freeze::default();
    assert_eq!(text(freeze.freeze(&world, None)), "gone");
    assert_eq!(world.take(), "hook freeze, open, arm, disarm, hook thaw");
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
}

#[test]
fn what_the_guardian_thawed_in_the_middle_of_a_freeze_is_no_success() {
    let world = Script { check: Some(Error::generic("too long")), ..Script::default() };
    let freeze = Freeze::default();
    assert_eq!(text(freeze.freeze(&world, None)), "too long");
    assert!(world.take().ends_with("freeze /a, thaw /a, thaw /b, thaw /c, thaw /d, disarm, hook thaw"));
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
}

#[test]
fn a_window_that_was_exceeded_is_told_to_the_next_thaw_and_forgotten_by_the_next_freeze() {
    let (freeze, world) = (Freeze::default(), Script::default());
    freeze.set_exceeded("too late".into());
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
    assert_eq!(text(freeze.thaw(&world)), "too late");
    assert_eq!(world.take(), "", "the hooks have had their thaw");
    assert_eq!(freeze.thaw(&world), Ok(0));
    freeze.set_exceeded("too late".into());
    assert_eq!(freeze.freeze(&world, None), Ok(4));
    assert_eq!(freeze.thaw(&world), Ok(4));
}

#[test]
fn what_was_taken_over_is_thawed_in_reverse_with_just_the_hooks_that_ran() {
    let (freeze, world) = (Freeze::default(), Script::default());
    let handles = world.open(None, &|| false).unwrap();
    world.take();
    freeze.take_over(handles, Some(vec![]));
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
    assert_eq!(freeze.thaw(&world), Ok(4));
    assert_eq!(world.take(), "thaw /a, thaw /b, thaw /c, thaw /d, disarm");
}

#[test]
fn the_end_of_the_agent_thaws_only_what_is_frozen() {
    let (freeze, world) = (Freeze::default(), Script::default());
    freeze.freeze(&world, None).unwrap();
    world.take();
    assert_eq!(freeze.thaw_for_exit(&world), Ok(true));
    assert_eq!(world.take(), "thaw /a, thaw /b, thaw /c, thaw /d, disarm, hook thaw");
    assert_eq!(freeze.thaw_for_exit(&world), Ok(false));
    assert_eq!(world.take(), "");
}

#[test]
fn an_end_at_which_the_guardian_was_quicker_is_still_one_while_frozen() {
    let (freeze, world) = (Freeze::default(), Script::default());
    freeze.freeze(&world, None).unwrap();
    // A service's stop reaches both at once, and each thaws what it comes to first.
    *world.thaw.lock().unwrap() = POINTS.map(|point| (point, Ok(false))).into();
    assert_eq!(freeze.thaw_for_exit(&world), Ok(true));
}

#[test]
fn no_freeze_begins_once_the_agent_is_about_to_end() {
    let (world, freeze) = (Script::default(), Freeze::default());
    freeze.thaw_for_exit(&world).unwrap();
    assert_eq!(freeze.freeze(&world, None).unwrap_err().desc, "the agent is about to end");
    assert_eq!(world.take(), "");
    assert!(!freeze.is_frozen());
}

#[test]
fn status_and_a_second_freeze_wait_for_a_freeze_that_ends() {
    let freeze = Freeze::with_patience(Patience { status: Duration::from_secs(60), ..Patience::default() });
    let (world, begun, end) = Script::stuck("/b");
    thread::scope(|scope| {
        let freezing = scope.spawn(|| freeze.freeze(&world, None));
        begun.recv().unwrap();
        let status = scope.spawn(|| freeze.status());
        let second = scope.spawn(|| freeze.freeze(&world, None));
        assert!(freeze.is_frozen(), "commands are refused from before the first file system on");
        thread::sleep(Duration::from_millis(50));
        assert!(!status.is_finished());
        end.send(()).unwrap();
        assert_eq!(freezing.join().unwrap(), Ok(4));
        assert_eq!(status.join().unwrap(), Ok(FsfreezeStatus::Frozen));
        assert_eq!(second.join().unwrap().unwrap_err().class, qga_proto::ErrorClass::CommandNotFound);
    });
}

#[test]
fn status_never_says_thawed_in_the_middle_of_a_freeze() {
    let (freeze, (world, begun, end)) = (hasty(), Script::stuck("/b"));
    thread::scope(|scope| {
        let freezing = scope.spawn(|| freeze.freeze(&world, None));
        begun.recv().unwrap();
        assert_eq!(text(freeze.status()), "freezing file systems has been going on for 0 s");
        end.send(()).unwrap();
        assert_eq!(freezing.join().unwrap(), Ok(4));
    });
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
}

#[test]
fn a_thaw_calls_off_a_freeze_that_is_going_on() {
    let freeze = Freeze::with_patience(Patience { grace: Duration::from_secs(60), ..Patience::default() });
    let (world, begun, end) = Script::stuck("/c");
    thread::scope(|scope| {
        let freezing = scope.spawn(|| freeze.freeze(&world, None));
        begun.recv().unwrap();
        let thaw = scope.spawn(|| freeze.thaw(&world));
        while !freeze.lock().cancel {
            thread::yield_now();
        }
        end.send(()).unwrap();
        assert_eq!(text(freezing.join().unwrap()), "freezing was called off by guest-fsfreeze-thaw");
        assert_eq!(thaw.join().unwrap(), Ok(0));
    });
    assert_eq!(
        world.take(),
        "hook freeze, open, arm, freeze /d, freeze /c, thaw /c, thaw /d, disarm, hook thaw, hook thaw"
    );
    assert_eq!(freeze.freeze(&Script::default(), None), Ok(4), "nothing is left of the call");
}

#[test]
fn a_freeze_that_waits_does_not_have_its_turn_before_a_thaw() {
    let minute = Duration::from_secs(60);
    let freeze = Freeze::with_patience(Patience { status: minute, grace: minute, thaw: minute });
    let (world, begun, end) = Script::stuck("/c");
    let (freeze, world) = (&freeze, &world);
    thread::scope(|scope| {
        let freezing = scope.spawn(|| freeze.freeze(world, None));
        begun.recv().unwrap();
        let (comes, there) = mpsc::channel();
        let second = scope.spawn(move || {
            comes.send(()).unwrap();
            freeze.freeze(world, None)
        });
        there.recv().unwrap();
        // It has nothing else to do than to begin to wait.
        thread::sleep(Duration::from_millis(200));
        let thaw = scope.spawn(|| freeze.thaw(world));
        while !freeze.lock().cancel {
            thread::yield_now();
        }
        end.send(()).unwrap();
        for freezing in [freezing, second] {
            assert_eq!(text(freezing.join().unwrap()), "freezing was called off by guest-fsfreeze-thaw");
        }
        assert_eq!(thaw.join().unwrap(), Ok(0));
    });
    assert_eq!(world.take().matches("hook freeze").count(), 1);
    assert_eq!(freeze.freeze(&Script::default(), None), Ok(4), "a later one has its turn");
}

#[test]
fn a_thaw_frees_what_is_frozen_behind_a_freeze_that_is_stuck() {
    let (freeze, (world, begun, end)) = (hasty(), Script::stuck("/b"));
    thread::scope(|scope| {
        let freezing = scope.spawn(|| freeze.freeze(&world, None));
        begun.recv().unwrap();
        let refused = text(freeze.thaw(&world));
        assert!(refused.contains("cannot be interrupted"), "{refused}");
        assert_eq!(world.take(), "hook freeze, open, arm, freeze /d, freeze /c, freeze /b, thaw /c, thaw /d");
        assert!(freeze.is_frozen(), "the last one may still come");
        end.send(()).unwrap();
        assert_eq!(text(freezing.join().unwrap()), "freezing was called off by guest-fsfreeze-thaw");
    });
    assert_eq!(world.take(), "thaw /b, disarm, hook thaw", "what froze late is thawed at once");
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
}

#[test]
fn a_freeze_that_was_stuck_on_another_comes_free_by_the_thaw_itself() {
    // As with an image on a frozen file system: /b goes on when /c is thawed.
    struct OnFrozen(Script, Mutex<Sender<()>>);
    impl World for OnFrozen {
        fn open(&self, only: Option<&[String]>, give_up: &dyn Fn() -> bool) -> Result<Vec<Handle>> {
            self.0.open(only, give_up)
        }
        fn guard(&self) -> Result<()> {
            self.0.guard()
        }
        fn freeze(&self, handle: &Arc<Handle>, give_up: &dyn Fn() -> bool) -> Result<bool> {
            self.0.freeze(handle, give_up)
        }
        fn check(&self) -> Result<()> {
            self.0.check()
        }
        fn thaw(&self, handle: &Handle) -> io::Result<bool> {
            if handle.point().ends_with("c") {
                let _ = self.1.lock().unwrap().send(());
            }
            self.0.thaw(handle)
        }
        fn thaw_adopted(&self) -> Result<i64> {
            self.0.thaw_adopted()
        }
        fn hooks(&self) -> Vec<PathBuf> {
            self.0.hooks()
        }
        fn hook(&self, phase: HookPhase, ran: &mut Vec<PathBuf>) -> Result<()> {
            self.0.hook(phase, ran)
        }
        fn arm(&self, handles: &[Arc<Handle>]) -> Result<()> {
            self.0.arm(handles)
        }
        fn disarm(&self) {
            self.0.disarm();
        }
        fn release(&self) {
            self.0.release();
        }
    }
    let freeze = Freeze::with_patience(Patience { grace: Duration::ZERO, ..Patience::default() });
    let (script, begun, end) = Script::stuck("/b");
    let world = OnFrozen(script, Mutex::new(end));
    thread::scope(|scope| {
        let freezing = scope.spawn(|| freeze.freeze(&world, None));
        begun.recv().unwrap();
        assert_eq!(freeze.thaw(&world), Ok(2));
        assert!(freezing.join().unwrap().is_err());
    });
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
    assert_eq!(world.0.seen.lock().unwrap().iter().filter(|step| step.starts_with("thaw ")).count(), 3);
}

#[test]
fn a_freeze_that_panics_can_still_be_thawed() {
    let (freeze, (world, begun, end)) = (Freeze::default(), Script::stuck("/b"));
    thread::scope(|scope| {
        let freezing = scope.spawn(|| freeze.freeze(&world, None));
        begun.recv().unwrap();
        drop(end);
        assert!(freezing.join().is_err(), "the script panics when nobody can tell it to go on");
    });
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
    assert_eq!(freeze.thaw(&Script::default()), Ok(2));
    assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
}
