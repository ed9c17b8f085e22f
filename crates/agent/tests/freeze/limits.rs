//! What takes too long, what cannot be frozen, and what is not to be.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use qemu_ga::persist::FrozenMarker;
use qemu_ga::platform::linux::root::Root;
use qemu_ga::state::freeze::{Freeze, Settings, System};
use qga_proto::types::fsfreeze::FsfreezeStatus;

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
