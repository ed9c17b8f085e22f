//! What takes too long, what cannot be frozen, and what is not to be.

use std::fs;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use qemu_ga::persist::FrozenMarker;
use qemu_ga::platform::linux::root::Root;
use qemu_ga::state::freeze::{Freeze, Settings, System};
use qga_proto::types::fsfreeze::FsfreezeStatus;
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;

use crate::guardian::guardians;
use crate::stage::{Stage, make, on_stage, run};
use crate::{OuterFirst, hook, hooked, marker, order, settings, strings, wait_until};

fn with(root: &Root, marker: &FrozenMarker, change: impl FnOnce(&mut Settings)) -> System {
    let mut settings = settings(None, marker);
    change(&mut settings);
    System::new(root.clone(), settings, marker.clone())
}

#[test]
fn a_freeze_that_takes_too_long_is_given_up_and_thawed_when_it_comes() {
    on_stage("limits::a_freeze_that_takes_too_long_is_given_up_and_thawed_when_it_comes", |stage| {
        stage.new_mount("outer.xfs", "/mnt/outer");
        let inner = stage.path("/mnt/outer/inner.ext4");
        make(&inner);
        stage.mount(&inner, "/mnt/inner", "");
        let root = stage.root();
        let (hook, marker) = (hook(stage), marker(stage));
        let limit = Duration::from_secs(1);
        let mut settings = settings(Some(&hook), &marker);
        settings.limit = Some(limit);
        // The wrong way round, so that the inner one waits for the outer one.
        let world = OuterFirst(System::new(root.clone(), settings, marker.clone()));
        let freeze = Freeze::default();
        for _ in 0..2 {
            fs::write(stage.path("/mnt/inner/dirty"), vec![7; 4 << 20]).unwrap();
            let since = Instant::now();
            let error = freeze.freeze(&world, None).unwrap_err();
            assert!(since.elapsed() >= limit, "{:?}", since.elapsed());
            assert_eq!(
                error.desc,
                "failed to freeze /mnt/inner: it is not done after 1 seconds; it is thawed as soon as it is"
            );
            assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
            // The thaw of the outer one has let the inner one go on.
            wait_until(|| stage.frozen() == [false, false]);
        }
        assert_eq!(hooked(stage), "freeze thaw freeze thaw");
        // Nothing of it is left: in the right order it goes.
        wait_until(|| threads() <= 2);
        assert_eq!(freeze.freeze(&world.0, None), Ok(2));
        assert_eq!(freeze.thaw(&world.0), Ok(2));
    });
}

/// Threads of this process.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// A file system whose device does not answer: its image lies on one that somebody else has frozen. Mounted behind
/// `/mnt/a` and before `/mnt/z`. Gives the number with which the one below is thawed.
fn stuck(stage: &mut Stage) -> usize {
    stage.new_mount("below.xfs", "/mnt/below");
    stage.new_mount("a.ext4", "/mnt/a");
    let image = stage.path("/mnt/below/stuck.ext4");
    make(&image);
    stage.mount(&image, "/mnt/stuck", "");
    stage.new_mount("z.ext4", "/mnt/z");
    fs::write(stage.path("/mnt/stuck/dirty"), vec![7; 4 << 20]).unwrap();
    stage.freeze_from_outside(0);
    0
}

#[test]
fn with_a_device_that_does_not_answer_the_freeze_fails_in_time_and_names_it() {
    on_stage("limits::with_a_device_that_does_not_answer_the_freeze_fails_in_time_and_names_it", |stage| {
        let below = stuck(stage);
        let root = stage.root();
        let marker = marker(stage);
        let system = with(&root, &marker, |settings| settings.limit = Some(Duration::from_secs(1)));
        let freeze = Freeze::default();
        let error = freeze.freeze(&system, None).unwrap_err();
        assert!(error.desc.starts_with("failed to freeze /mnt/stuck: it is not done after 1 seconds"), "{error}");
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        // Those that answer are free; the next freeze does not hang on the same thing.
        fs::write(stage.path("/mnt/a/free"), "free").unwrap();
        fs::write(stage.path("/mnt/z/free"), "free").unwrap();
        let error = freeze.freeze(&system, None).unwrap_err();
        assert_eq!(error.desc, "failed to freeze /mnt/stuck: an earlier attempt has not come to an end");
        assert_eq!(freeze.freeze(&system, Some(&strings(&["/mnt/a"]))), Ok(1));
        assert_eq!(freeze.thaw(&system), Ok(1));

        assert_ne!(guardians(), [], "one stays as long as something may come");
        stage.thaw_from_outside(below);
        wait_until(|| threads() <= 2);
        assert_eq!(stage.frozen(), [false; 4], "what froze late is thawed");
        assert_eq!(guardians(), []);
        assert_eq!(freeze.freeze(&system, None), Ok(4));
        assert_eq!(freeze.thaw(&system), Ok(4));
    });
}

#[test]
fn a_thaw_gives_up_a_freeze_that_waits_for_a_device() {
    on_stage("limits::a_thaw_gives_up_a_freeze_that_waits_for_a_device", |stage| {
        let below = stuck(stage);
        let root = stage.root();
        let marker = marker(stage);
        let system = with(&root, &marker, |settings| settings.limit = None);
        let freeze = Freeze::default();
        thread::scope(|scope| {
            let freezing = scope.spawn(|| freeze.freeze(&system, None));
            wait_until(|| freeze.is_frozen());
            thread::sleep(Duration::from_millis(500));
            assert_eq!(freeze.thaw(&system), Ok(1), "/mnt/z");
            let error = freezing.join().unwrap().unwrap_err();
            assert!(error.desc.starts_with("failed to freeze /mnt/stuck: it was given up"), "{error}");
        });
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        fs::write(stage.path("/mnt/z/free"), "free").unwrap();
        stage.thaw_from_outside(below);
        wait_until(|| threads() <= 2);
        assert_eq!(stage.frozen(), [false; 4]);
    });
}

#[test]
fn best_effort_passes_over_what_cannot_be_opened() {
    on_stage("limits::best_effort_passes_over_what_cannot_be_opened", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        stage.new_mount("b.ext4", "/mnt/b");
        let root = stage.root_with(|table| table.replace(" /mnt/a ", " /mnt/gone "));
        let marker = marker(stage);
        let freeze = Freeze::default();
        let strict = with(&root, &marker, |_| ());
        assert!(freeze.freeze(&strict, None).is_err());
        let system = with(&root, &marker, |settings| settings.best_effort = true);
        assert_eq!(freeze.freeze(&system, None), Ok(1));
        assert_eq!(stage.frozen(), [false, true]);
        assert_eq!(freeze.thaw(&system), Ok(1));
    });
}

/// An ext4 whose disk is full when it is written to: the image has holes, and there is no room to fill them.
fn weak(stage: &mut Stage) {
    let small = stage.outside("small");
    fs::create_dir_all(&small).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=8m", "none", small.to_str().unwrap()]);
    make(&small.join("weak.ext4"));
    stage.mount(&small.join("weak.ext4"), "/mnt/weak", "");
    assert!(fs::write(small.join("filler"), vec![7; 8 << 20]).is_err(), "it is full now");
    fs::write(stage.path("/mnt/weak/dirty"), vec![7; 4 << 20]).unwrap();
}

#[test]
fn what_fails_to_freeze_fails_the_freeze_and_is_passed_over_in_mode_best_effort() {
    on_stage("limits::what_fails_to_freeze_fails_the_freeze_and_is_passed_over_in_mode_best_effort", |stage| {
        let log = stage.outside("log");
        qemu_ga::log::init(qemu_ga::log::Options { verbose: false, logfile: Some(log.clone()), frozen: false })
            .unwrap();
        stage.new_mount("a.ext4", "/mnt/a");
        weak(stage);
        stage.new_mount("z.ext4", "/mnt/z");
        let marker = marker(stage);
        let freeze = Freeze::default();
        let root = stage.root();
        let strict = with(&root, &marker, |_| ());
        let text = "failed to freeze /mnt/weak: Input/output error";
        assert_eq!(freeze.freeze(&strict, None).unwrap_err().desc, text);
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        for point in ["/mnt/a/free", "/mnt/z/free"] {
            fs::write(stage.path(point), "free").unwrap();
        }
        assert_eq!(guardians(), []);

        // The first failure has made it read-only, as which it can be frozen; so this needs a new one.
        stage.detach("/mnt/weak");
        stage.forget(1);
        run("umount", &["-l", stage.outside("small").to_str().unwrap()]);
        weak(stage);
        let root = stage.root();
        let talker = stage.outside("talker");
        fs::write(&talker, "#!/bin/sh\necho word at $1\n").unwrap();
        run("chmod", &["755", talker.to_str().unwrap()]);
        let system = with(&root, &marker, |settings| {
            settings.best_effort = true;
            settings.hooks.program = Some(talker.clone());
        });
        assert_eq!(freeze.freeze(&system, None), Ok(2));
        assert_eq!(stage.frozen()[..2], [true, true]);
        let early = fs::read_to_string(&log).unwrap();
        assert!(!early.contains("was not frozen") && !early.contains("said at"), "{early}");
        assert_eq!(freeze.thaw(&system), Ok(2));
        let log = fs::read_to_string(&log).unwrap();
        for phase in ["freeze", "thaw"] {
            assert!(log.contains(&format!("said at {phase}: word at {phase}")), "{log}");
        }
        assert_eq!(log.matches(&format!("a file system was not frozen: {text}")).count(), 1, "{log}");
    });
}

#[test]
fn a_mount_that_does_not_answer_fails_the_freeze_in_time_and_is_passed_over_in_mode_best_effort() {
    on_stage(
        "limits::a_mount_that_does_not_answer_fails_the_freeze_in_time_and_is_passed_over_in_mode_best_effort",
        |stage| {
            stage.new_mount("a.ext4", "/mnt/a");
            stage.new_mount("b.ext4", "/mnt/b");
            // A FUSE file system whose server says nothing, as if /mnt/a were mounted somewhere below it.
            let point = stage.path("/mnt/dead");
            fs::create_dir(&point).unwrap();
            let Ok(server) = rustix::fs::open("/dev/fuse", OFlags::RDWR, Mode::empty()) else {
                return eprintln!("SKIPPED a_mount_that_does_not_answer_...: no /dev/fuse");
            };
            let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
            run("mount", &["-i", "-t", "fuse", "-o", &options, "dead", point.to_str().unwrap()]);
            rustix::io::fcntl_setfd(&server, FdFlags::CLOEXEC).unwrap();
            let root = stage.root_with(|table| {
                let others = table.lines().filter(|line| !line.contains(" /mnt/dead "));
                others.map(|line| line.replace(" /mnt/a ", " /mnt/dead/a ") + "\n").collect()
            });
            let (hook, marker) = (hook(stage), marker(stage));
            let freeze = Freeze::default();
            let strict = with(&root, &marker, |settings| {
                settings.limit = Some(Duration::from_secs(1));
                settings.hooks.program = Some(hook.clone());
            });
            let error = freeze.freeze(&strict, None).unwrap_err();
            assert_eq!(error.desc, "failed to open /mnt/dead/a: a mount on the way does not answer");
            assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
            assert_eq!(hooked(stage), "freeze thaw");
            assert_eq!(freeze.freeze(&strict, Some(&strings(&["/mnt/b"]))), Ok(1));
            assert_eq!(freeze.thaw(&strict), Ok(1));

            let lenient = with(&root, &marker, |settings| {
                settings.limit = Some(Duration::from_secs(1));
                settings.best_effort = true;
            });
            assert_eq!(freeze.freeze(&lenient, None), Ok(1));
            assert_eq!(stage.frozen(), [false, true]);
            assert_eq!(freeze.thaw(&lenient), Ok(1));

            // Without any limit a thaw calls it off.
            let patient = with(&root, &marker, |settings| settings.limit = None);
            thread::scope(|scope| {
                let freezing = scope.spawn(|| freeze.freeze(&patient, None));
                wait_until(|| guardians().len() == 1);
                thread::sleep(Duration::from_millis(300));
                assert_eq!(freeze.thaw(&patient), Ok(0));
                assert!(freezing.join().unwrap().is_err());
            });
            drop(server);
            wait_until(|| threads() <= 2);
        },
    );
}

#[test]
fn types_and_mount_points_can_be_excluded() {
    on_stage("limits::types_and_mount_points_can_be_excluded", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        stage.new_mount("b.xfs", "/mnt/b");
        stage.new_mount("c.ext4", "/mnt/scratch/c");
        // A later mount does not take the first one's file system out of the backup.
        stage.bind("/mnt/a", "/mnt/scratch/a");
        let root = stage.root();
        let marker = marker(stage);
        let freeze = Freeze::default();
        let no_xfs = with(&root, &marker, |settings| settings.exclude_types = strings(&["xfs", "vfat"]));
        assert_eq!(order(&no_xfs), ["/mnt/scratch/c", "/mnt/a"]);
        assert_eq!(freeze.freeze(&no_xfs, None), Ok(2));
        assert_eq!(stage.frozen(), [true, false, true, true]);
        assert_eq!(freeze.thaw(&no_xfs), Ok(2));
        let no_scratch = with(&root, &marker, |settings| settings.exclude_paths = strings(&["/mnt/scratch/*"]));
        assert_eq!(order(&no_scratch), ["/mnt/b", "/mnt/a"]);
        // The administrator's word counts more than the host's.
        assert_eq!(freeze.freeze(&no_scratch, Some(&strings(&["/mnt/scratch/c"]))), Ok(0));
    });
}

#[test]
fn with_nothing_to_freeze_every_hook_is_told_that_it_is_over() {
    on_stage("limits::with_nothing_to_freeze_every_hook_is_told_that_it_is_over", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        let root = stage.root();
        let (hook, marker) = (hook(stage), marker(stage));
        let dir = stage.outside("hooks");
        fs::create_dir(&dir).unwrap();
        run("cp", &["-p", hook.to_str().unwrap(), dir.join("10-copy").to_str().unwrap()]);
        let system = with(&root, &marker, |settings| {
            settings.hooks.program = Some(hook.clone());
            settings.hooks.dir = Some(dir.clone());
            settings.exclude_types = strings(&["ext4"]);
        });
        let freeze = Freeze::default();
        assert_eq!(freeze.freeze(&system, None), Ok(0));
        assert_eq!(hooked(stage), "freeze freeze thaw thaw");
        assert_eq!(freeze.thaw(&system), Ok(0));
        assert_eq!(hooked(stage), "freeze freeze thaw thaw thaw thaw");
    });
}
