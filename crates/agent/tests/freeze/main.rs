//! Freezing, thawing and trimming real ext4, xfs and btrfs in images, as root in a mount namespace of its own.

mod databases;
mod guardian;
mod limits;
#[path = "../stuck/matrix.rs"]
mod matrix;
mod silence;
mod stacks;
mod stage;
mod stuck;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use qemu_ga::commands::fsfreeze::trim::trim_all;
use qemu_ga::config::Config;
use qemu_ga::persist::FrozenMarker;
use qemu_ga::platform::linux::fsfreeze::{Handle, Hanging};
use qemu_ga::platform::linux::root::Root;
use qemu_ga::state::freeze::{Freeze, HookPhase, Settings, System, World};
use qga_proto::error::Result;
use qga_proto::types::fsfreeze::{FsfreezeStatus, FstrimPath};
use rustix::io;
use stage::{Stage, make, on_stage, run};

fn marker(stage: &Stage) -> FrozenMarker {
    FrozenMarker::new(&stage.outside(""), &Root::default()).unwrap()
}

/// How to freeze on a stage, with a guardian made of the agent's program.
fn settings(hook: Option<&Path>, marker: &FrozenMarker) -> Settings {
    let statedir = marker.path().parent().unwrap().to_owned();
    let config = Config { fsfreeze_hook: hook.map(Path::to_owned), statedir, ..Config::default() };
    Settings { guardian: env!("CARGO_BIN_EXE_qemu-ga").into(), ..Settings::of(&config) }
}

fn system(root: &Root, hook: Option<&PathBuf>, marker: &FrozenMarker) -> System {
    System::new(root.clone(), settings(hook.map(PathBuf::as_path), marker), marker.clone())
}

/// A hook that writes down what it is told.
fn hook(stage: &Stage) -> PathBuf {
    let (hook, log) = (stage.outside("hook"), stage.outside("hook.log"));
    fs::write(&hook, format!("#!/bin/sh\necho $1 >> {}\n", log.display())).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    hook
}

fn hooked(stage: &Stage) -> String {
    fs::read_to_string(stage.outside("hook.log")).unwrap_or_default().replace('\n', " ").trim().to_owned()
}

fn order(system: &System) -> Vec<String> {
    system.open(None, &|| false).unwrap().iter().map(|handle| handle.point().to_str().unwrap().to_owned()).collect()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

/// The mounts of the reference: two that are seen twice, one read-only, one tmpfs.
fn reference(stage: &mut Stage) -> Root {
    stage.new_mount("a.ext4", "/mnt/a");
    stage.new_mount("b.xfs", "/mnt/b");
    stage.new_mount("c.btrfs", "/mnt/c");
    fs::create_dir(stage.path("/mnt/a/dir")).unwrap();
    stage.bind("/mnt/a/dir", "/mnt/abind");
    run("btrfs", &["subvolume", "create", stage.path("/mnt/c/sub").to_str().unwrap()]);
    stage.bind("/mnt/c/sub", "/mnt/cs");
    let image = stage.image("d.ext4");
    stage.mount(&image, "/mnt/with space", "ro");
    stage.tmpfs("/mnt/t");
    stage.root()
}

#[test]
fn each_file_system_is_frozen_once_and_thawed_however_often_it_is_mounted() {
    on_stage("each_file_system_is_frozen_once_and_thawed_however_often_it_is_mounted", |stage| {
        let root = reference(stage);
        let (hook, marker) = (hook(stage), marker(stage));
        let system = system(&root, Some(&hook), &marker);
        assert_eq!(order(&system), ["/mnt/with space", "/mnt/c", "/mnt/b", "/mnt/a"]);

        let freeze = Freeze::default();
        assert_eq!(freeze.freeze(&system, None), Ok(4));
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
        assert_eq!(stage.frozen(), [true, true, true, true, true, true, false]);
        assert!(freeze.freeze(&system, None).is_err());
        assert_eq!(hooked(stage), "freeze");

        assert_eq!(freeze.thaw(&system), Ok(4));
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        assert_eq!(stage.frozen(), [false; 7]);
        assert_eq!(freeze.thaw(&system), Ok(0));
        assert_eq!(hooked(stage), "freeze thaw thaw");
    });
}

#[test]
fn any_mount_point_of_a_file_system_names_it() {
    on_stage("any_mount_point_of_a_file_system_names_it", |stage| {
        let root = reference(stage);
        let (hook, marker) = (hook(stage), marker(stage));
        let system = system(&root, Some(&hook), &marker);
        let freeze = Freeze::default();
        for (list, count, frozen) in [
            (strings(&["/mnt/a"]), 1, [true, false, false, true, false, false, false]),
            (strings(&["/mnt/abind"]), 1, [true, false, false, true, false, false, false]),
            (strings(&["/mnt/cs/", "/mnt/c"]), 1, [false, false, true, false, true, false, false]),
            (strings(&["/mnt/b", "/mnt/a", "/mnt/a"]), 2, [true, true, false, true, false, false, false]),
            (strings(&["/mnt/nope", "/mnt/t", ""]), 0, [false; 7]),
            (vec![], 0, [false; 7]),
        ] {
            assert_eq!(freeze.freeze(&system, Some(&list)), Ok(count), "{list:?}");
            assert_eq!(stage.frozen(), frozen, "{list:?}");
            if count > 0 {
                assert_eq!(freeze.thaw(&system), Ok(count));
            }
            assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        }
        assert_eq!(stage.frozen(), [false; 7]);
        assert_eq!(
            hooked(stage),
            "freeze thaw ".repeat(6).trim(),
            "a hook that was told of a freeze is told of its end"
        );
    });
}

#[test]
fn a_writer_waits_while_frozen_and_goes_on_with_nothing_lost() {
    on_stage("a_writer_waits_while_frozen_and_goes_on_with_nothing_lost", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        let root = stage.root();
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        let freeze = Freeze::default();
        let path = stage.path("/mnt/a/log");
        let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let settled = || {
            thread::sleep(Duration::from_millis(300));
            written.load(Ordering::SeqCst)
        };
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut file = File::create(&path).unwrap();
                while !stop.load(Ordering::SeqCst) {
                    writeln!(file, "{}", written.load(Ordering::SeqCst)).unwrap();
                    written.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            for _ in 0..3 {
                let before = written.load(Ordering::SeqCst);
                wait_until(|| written.load(Ordering::SeqCst) > before + 10);
                assert_eq!(freeze.freeze(&system, None), Ok(1));
                let (first, second) = (settled(), settled());
                assert_eq!(freeze.thaw(&system), Ok(1));
                assert_eq!(first, second, "nothing is written while frozen");
            }
            stop.store(true, Ordering::SeqCst);
            writer.join().unwrap();
        });
        let expected: String = (0..written.load(Ordering::SeqCst)).map(|i| format!("{i}\n")).collect();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    });
}

fn wait_until(done: impl Fn() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(30), "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Freezes from a thread; when that hangs, the stage is torn down, which thaws.
fn freeze_in_time(freeze: &Freeze, system: &System, stage: &Stage) -> i64 {
    thread::scope(|scope| {
        let freezing = scope.spawn(|| freeze.freeze(system, None).unwrap());
        let since = Instant::now();
        while !freezing.is_finished() {
            if since.elapsed() > Duration::from_secs(20) {
                let _ = freeze.thaw(system);
                panic!("freezing hangs; frozen: {:?}", stage.frozen());
            }
            thread::sleep(Duration::from_millis(5));
        }
        freezing.join().unwrap()
    })
}

#[test]
fn an_image_is_frozen_before_the_file_system_that_holds_it_wherever_that_is_mounted() {
    on_stage("an_image_is_frozen_before_the_file_system_that_holds_it_wherever_that_is_mounted", |stage| {
        stage.new_mount("ground.btrfs", "/mnt/ground");
        run("btrfs", &["subvolume", "create", stage.path("/mnt/ground/sub").to_str().unwrap()]);
        let outer = stage.path("/mnt/ground/sub/outer.ext4");
        make(&outer);
        OpenOptions::new().write(true).open(&outer).unwrap().set_len(64 << 20).unwrap();
        run("resize2fs", &[outer.to_str().unwrap()]);
        stage.mount(&outer, "/mnt/outer", "");
        let inner = stage.path("/mnt/outer/inner.ext4");
        make(&inner);
        stage.mount(&inner, "/mnt/inner", "");
        // Now those below are mounted again, and their first mounts, by which the images were opened, vanish.
        stage.bind("/mnt/outer", "/mnt/y");
        stage.detach("/mnt/outer");
        stage.bind("/mnt/ground/sub", "/mnt/z");
        stage.detach("/mnt/ground");
        let root = stage.root();
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        assert_eq!(order(&system), ["/mnt/inner", "/mnt/y", "/mnt/z"]);
        let freeze = Freeze::default();
        for _ in 0..3 {
            // Dirty pages of the innermost have to go through all of them.
            fs::write(stage.path("/mnt/inner/dirty"), vec![7; 4 << 20]).unwrap();
            assert_eq!(freeze_in_time(&freeze, &system, stage), 3);
            assert_eq!(freeze.thaw(&system), Ok(3));
        }
        assert!(stage.frozen().iter().all(|frozen| !frozen));
    });
}

/// This machine, with the order of freezing turned round: what an agent without knowledge of the order would do.
struct OuterFirst(System);

impl World for OuterFirst {
    fn open(&self, only: Option<&[String]>, give_up: &dyn Fn() -> bool) -> Result<Vec<Handle>> {
        let mut handles = self.0.open(only, give_up)?;
        handles.reverse();
        Ok(handles)
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

#[test]
fn a_freeze_that_hangs_in_the_kernel_is_freed_by_a_thaw() {
    on_stage("a_freeze_that_hangs_in_the_kernel_is_freed_by_a_thaw", |stage| {
        stage.new_mount("outer.xfs", "/mnt/outer");
        let inner = stage.path("/mnt/outer/inner.ext4");
        make(&inner);
        stage.mount(&inner, "/mnt/inner", "");
        let root = stage.root();
        let marker = marker(stage);
        let world = OuterFirst(system(&root, None, &marker));
        let freeze = Freeze::default();
        fs::write(stage.path("/mnt/inner/dirty"), vec![7; 4 << 20]).unwrap();
        thread::scope(|scope| {
            let freezing = scope.spawn(|| freeze.freeze(&world, None));
            wait_until(|| freeze.is_frozen());
            thread::sleep(Duration::from_secs(1));
            assert!(!freezing.is_finished(), "the inner one waits for the outer one");
            assert_eq!(freeze.thaw(&world), Ok(1));
            let error = freezing.join().unwrap().unwrap_err();
            assert_eq!(error.desc, "freezing was called off by guest-fsfreeze-thaw");
        });
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        assert_eq!(stage.frozen(), [false, false]);
    });
}

#[test]
fn covered_file_systems_that_no_path_leads_to_are_left_out() {
    on_stage("covered_file_systems_that_no_path_leads_to_are_left_out", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        stage.new_mount("q.ext4", "/mnt/p/q");
        stage.tmpfs("/mnt/p");
        stage.new_mount("m1.ext4", "/mnt/m");
        stage.new_mount("m2.ext4", "/mnt/m");
        let root = stage.root();
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        let freeze = Freeze::default();
        assert_eq!(order(&system), ["/mnt/m", "/mnt/a"]);
        assert_eq!(freeze.freeze(&system, None), Ok(2));
        assert_eq!(stage.frozen(), [true, false, false, false, true]);
        assert_eq!(freeze.thaw(&system), Ok(2));
        let trimmed = trim_all(&root, &Hanging::default(), 0).unwrap().paths;
        let seen: Vec<(&str, bool)> = trimmed.iter().map(|p| (p.path.as_str(), p.error.is_some())).collect();
        assert_eq!(seen, [("/mnt/m", false), ("/mnt/m", true), ("/mnt/p/q", true), ("/mnt/a", false)]);
        assert!(trimmed[1].error.as_ref().unwrap().starts_with("failed to open: no path leads to it"));
    });
}

#[test]
fn covered_file_systems_are_reached_by_another_mount() {
    on_stage("covered_file_systems_are_reached_by_another_mount", |stage| {
        stage.new_mount("q.ext4", "/mnt/p/q");
        stage.bind("/mnt/p/q", "/mnt/elsewhere");
        stage.tmpfs("/mnt/p");
        stage.new_mount("m1.ext4", "/mnt/m");
        stage.bind("/mnt/m", "/mnt/m1");
        stage.new_mount("m2.ext4", "/mnt/m");
        let root = stage.root();
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        let freeze = Freeze::default();
        assert_eq!(order(&system), ["/mnt/m", "/mnt/m1", "/mnt/elsewhere"]);
        assert_eq!(freeze.freeze(&system, None), Ok(3));
        assert_eq!(stage.frozen(), [true, true, false, true, true, true]);
        assert_eq!(freeze.thaw(&system), Ok(3));
        assert_eq!(stage.frozen(), [false; 6]);
    });
}

#[test]
fn what_others_have_frozen_is_neither_counted_nor_thawed() {
    on_stage("what_others_have_frozen_is_neither_counted_nor_thawed", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        stage.new_mount("b.ext4", "/mnt/b");
        let root = stage.root();
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        stage.freeze_from_outside(0);
        let freeze = Freeze::default();
        assert_eq!(freeze.freeze(&system, None), Ok(1));
        assert_eq!(freeze.thaw(&system), Ok(1));
        assert_eq!(stage.frozen(), [true, false]);
        assert_eq!(freeze.thaw(&system), Ok(0));
        assert_eq!(stage.frozen(), [true, false], "no thaw of what we did not freeze");
        stage.thaw_from_outside(0);
        assert_eq!(stage.frozen(), [false, false]);
        // And the other way round: somebody thaws what we froze.
        assert_eq!(freeze.freeze(&system, None), Ok(2));
        stage.thaw_from_outside(1);
        assert_eq!(freeze.thaw(&system), Ok(1));
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
    });
}

/// Gives the tmpfs at `point` a device number, so that it passes for a file system on a disk.
fn as_disk(table: String, point: &str) -> String {
    let line = |line: &str| {
        let mut fields: Vec<&str> = line.split(' ').collect();
        if fields[4] == point {
            fields[2] = "7:999";
        }
        fields.join(" ") + "\n"
    };
    table.lines().map(line).collect()
}

#[test]
fn a_file_system_without_support_is_passed_over() {
    on_stage("a_file_system_without_support_is_passed_over", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        stage.tmpfs("/mnt/t");
        let root = stage.root_with(|table| as_disk(table, "/mnt/t"));
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        assert_eq!(order(&system), ["/mnt/t", "/mnt/a"]);
        let freeze = Freeze::default();
        assert_eq!(freeze.freeze(&system, None), Ok(1));
        assert_eq!(freeze.thaw(&system), Ok(1));
        assert_eq!(freeze.freeze(&system, Some(&strings(&["/mnt/t"]))), Ok(0));
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        let paths = trim_all(&root, &Hanging::default(), 0).unwrap().paths;
        assert_eq!(paths[0].error.as_deref(), Some("trim not supported"));
        assert_eq!(paths[1].error, None);
    });
}

#[test]
fn a_file_system_that_cannot_be_opened_is_named_and_nothing_is_frozen() {
    on_stage("a_file_system_that_cannot_be_opened_is_named_and_nothing_is_frozen", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        stage.new_mount("b.ext4", "/mnt/b");
        let root = stage.root_with(|table| table.replace(" /mnt/a ", " /mnt/gone ").replace(" /mnt/b ", " /mnt/off "));
        let (hook, marker) = (hook(stage), marker(stage));
        let system = system(&root, Some(&hook), &marker);
        let freeze = Freeze::default();
        let error = freeze.freeze(&system, None).unwrap_err();
        let all =
            "failed to open /mnt/off: No such file or directory; failed to open /mnt/gone: No such file or directory";
        assert_eq!(error.desc, all);
        let error = freeze.freeze(&system, Some(&strings(&["/mnt/gone"]))).unwrap_err();
        assert_eq!(error.desc, "failed to open /mnt/gone: No such file or directory");
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        assert_eq!(stage.frozen(), [false, false]);
        assert_eq!(hooked(stage), "freeze thaw freeze thaw");
        let paths = trim_all(&root, &Hanging::default(), 0).unwrap().paths;
        assert_eq!(paths[1].path, "/mnt/gone");
        assert_eq!(paths[1].error.as_deref(), Some("failed to open: No such file or directory"));
    });
}

#[test]
fn a_mounted_file_stands_for_its_file_system_only_if_no_directory_can() {
    on_stage("a_mounted_file_stands_for_its_file_system_only_if_no_directory_can", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        fs::write(stage.path("/mnt/a/hosts"), "127.0.0.1\n").unwrap();
        run("mkfifo", &[stage.path("/mnt/a/fifo").to_str().unwrap()]);
        stage.bind("/mnt/a/fifo", "/mnt/fifo");
        stage.bind("/mnt/a/hosts", "/mnt/hosts");
        stage.bind("/mnt/a", "/mnt/z");
        stage.detach("/mnt/a");
        let marker = marker(stage);
        let freeze = Freeze::default();
        for (expected, next) in [(vec!["/mnt/z"], "/mnt/z"), (vec!["/mnt/hosts"], "/mnt/hosts"), (vec![], "/mnt/fifo")]
        {
            let root = stage.root();
            let system = system(&root, None, &marker);
            assert_eq!(order(&system), expected);
            let count = expected.len() as i64;
            assert_eq!(freeze.freeze(&system, None), Ok(count));
            if count > 0 {
                assert_eq!(stage.frozen(), [true, true]);
                assert_eq!(freeze.thaw(&system), Ok(count));
            }
            stage.detach(next);
        }
    });
}

#[test]
fn two_hundred_bind_mounts_are_one_file_system() {
    on_stage("two_hundred_bind_mounts_are_one_file_system", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        for i in 0..200 {
            let point = stage.path(&format!("/mnt/many{i}"));
            fs::create_dir(&point).unwrap();
            run("mount", &["--bind", stage.path("/mnt/a").to_str().unwrap(), point.to_str().unwrap()]);
        }
        let root = stage.root();
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        let freeze = Freeze::default();
        for _ in 0..20 {
            assert_eq!(freeze.freeze(&system, None), Ok(1));
            assert_eq!(freeze.thaw(&system), Ok(1));
        }
        assert_eq!(trim_all(&root, &Hanging::default(), 0).unwrap().paths.len(), 1);
    });
}

#[test]
fn trimming_gives_blocks_of_the_image_back() {
    on_stage("trimming_gives_blocks_of_the_image_back", |stage| {
        let image = stage.image("a.ext4");
        stage.mount(&image, "/mnt/a", "");
        stage.new_mount("b.xfs", "/mnt/b");
        let root = stage.root();
        let blocks = |image: &Path| fs::metadata(image).unwrap().blocks();
        trim_all(&root, &Hanging::default(), 0).unwrap();
        let (file, empty) = (stage.path("/mnt/a/big"), blocks(&image));
        fs::write(&file, vec![7; 16 << 20]).unwrap();
        run("sync", &["-f", file.to_str().unwrap()]);
        let full = blocks(&image);
        assert!(full > empty + (15 << 20) / 512, "{empty} {full}");
        fs::remove_file(&file).unwrap();
        run("sync", &["-f", stage.path("/mnt/a").to_str().unwrap()]);

        let paths = trim_all(&root, &Hanging::default(), 0).unwrap().paths;
        assert_eq!(paths.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["/mnt/b", "/mnt/a"]);
        assert!(paths[1].trimmed.unwrap() >= 16 << 20, "{:?}", paths[1]);
        assert_eq!(paths[1].minimum, Some(0));
        assert!(paths[0].minimum.unwrap() >= 4096, "xfs rounds up: {:?}", paths[0]);
        assert!(blocks(&image) < full - (15 << 20) / 512, "{full} {}", blocks(&image));

        // A negative minimum is a huge one, which these two refuse.
        let refused = |p: &FstrimPath| p.error.as_deref() == Some("failed to trim: Invalid argument");
        assert!(trim_all(&root, &Hanging::default(), -1).unwrap().paths.iter().all(refused));
    });
}
