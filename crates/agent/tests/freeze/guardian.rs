//! What becomes of frozen file systems when the agent cannot thaw.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use qemu_ga::guardian::GRACE;
use qemu_ga::persist::FrozenMarker;
use qemu_ga::platform::linux::root::Root;
use qemu_ga::state::freeze::{Freeze, Settings, System, window};
use qga_proto::types::fsfreeze::FsfreezeStatus;
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Stage, on_stage};
use crate::{hook, hooked, marker, settings, strings, system, wait_until};

/// An agent with a limit on the time that file systems stay frozen, in whole seconds.
fn within(seconds: u64, root: &Root, hook: Option<&Path>, marker: &FrozenMarker) -> (Arc<Freeze>, Arc<System>) {
    let settings = Settings { timeout: Some(Duration::from_secs(seconds)), ..settings(hook, marker) };
    (Arc::default(), Arc::new(System::new(root.clone(), settings, marker.clone())))
}

/// The guardians among our children, as the kernel has them.
pub(crate) fn guardians() -> Vec<Pid> {
    let children = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("children"));
    let children: String = children.map(|file| fs::read_to_string(file).unwrap_or_default()).collect();
    let pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
    // One that has ended keeps its number until it is asked for its status.
    let is_alive = |stat: String| stat.contains("(qga-guardian)") && !stat.contains(") Z ");
    pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(is_alive))
        .map(|pid| Pid::from_raw(pid).unwrap())
        .collect()
}

fn thawed(stage: &Stage) -> bool {
    stage.frozen().iter().all(|frozen| !frozen)
}

#[test]
fn a_guardian_is_there_from_before_the_freeze_until_after_the_thaw() {
    on_stage("guardian::a_guardian_is_there_from_before_the_freeze_until_after_the_thaw", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        let root = stage.root();
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        let freeze = Freeze::default();
        assert_eq!(guardians(), []);
        for _ in 0..3 {
            assert_eq!(freeze.freeze(&system, None), Ok(1));
            let [guardian] = guardians()[..] else { panic!("{:?}", guardians()) };
            let proc = format!("/proc/{}", guardian.as_raw_nonzero());
            let status = fs::read_to_string(format!("{proc}/status")).unwrap();
            assert!(status.contains("\nThreads:\t1\n"), "{status}");
            let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim().to_owned();
            // Not everywhere has root the right to lock memory.
            if rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT).is_ok() {
                rustix::mm::munlockall().unwrap();
                assert_ne!(locked, "0 kB");
            }
            // The frozen file system's descriptor, and nothing that lies on a disk.
            let mut files: Vec<String> = fs::read_dir(format!("{proc}/fd"))
                .unwrap()
                .map(|fd| fs::read_link(fd.unwrap().path()).unwrap().to_str().unwrap().to_owned())
                .filter(|file| !file.starts_with("socket:") && !file.starts_with("/dev/"))
                .collect();
            files.sort();
            assert_eq!(files, [stage.path("/mnt/a").to_str().unwrap(), "anon_inode:[signalfd]"]);
            assert_eq!(freeze.thaw(&system), Ok(1));
            assert_eq!(guardians(), []);
        }
    });
}

#[test]
fn a_guardian_has_all_its_memory_before_anything_is_frozen() {
    on_stage("guardian::a_guardian_has_all_its_memory_before_anything_is_frozen", |stage| {
        if rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT).is_err() {
            eprintln!("SKIPPED a_guardian_has_all_its_memory_before_anything_is_frozen: no right to lock memory");
            return;
        }
        rustix::mm::munlockall().unwrap();
        stage.new_mount("a.ext4", "/mnt/a");
        let root = stage.root();
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        let freeze = Freeze::default();
        assert_eq!(freeze.freeze(&system, None), Ok(1));
        let guardian = guardians()[0];
        let maps = fs::read_to_string(format!("/proc/{}/smaps", guardian.as_raw_nonzero())).unwrap();
        assert_eq!(freeze.thaw(&system), Ok(1));
        // Its program, its libraries, its heap and stack: no page of them has to be read from a disk any more.
        let (mut head, mut size, mut program) = ("", "", 0);
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            match (words.next().unwrap(), words.next().unwrap()) {
                (range, permissions) if range.contains('-') => {
                    head = if permissions.starts_with('r') { line } else { "" }
                }
                ("Size:", value) => size = value,
                ("Rss:", resident) if !head.is_empty() && !head.ends_with(']') => {
                    assert_eq!(resident, size, "{head}");
                    program += usize::from(head.ends_with("qemu-ga"));
                }
                ("Rss:", resident) if head.ends_with("[heap]") || head.ends_with("[stack]") => {
                    assert_eq!(resident, size, "{head}");
                }
                ("VmFlags:", _) if !head.is_empty() && !head.contains("[v") => {
                    assert!(line.split_whitespace().any(|flag| flag == "lo"), "{head} {line}");
                }
                _ => {}
            }
        }
        assert!(program >= 2, "code and constants of the program: {maps}");
    });
}

/// Set where an agent is to come to an end in this way, at this place.
const END: &str = "QGA_TEST_END";

/// Freezes, and panics or aborts.
fn freeze_and_end(how: &str) -> ! {
    let (how, top) = how.split_once(' ').unwrap();
    let top = Path::new(top);
    let marker = FrozenMarker::new(top, &Root::default()).unwrap();
    let system = system(&Root::new(top.join("root")), Some(&top.join("hook")), &marker);
    let freeze = Freeze::default();
    assert_eq!(freeze.freeze(&system, None), Ok(1));
    if how == "abort" {
        std::process::abort();
    }
    panic!("on purpose");
}

#[test]
fn an_agent_that_panics_or_aborts_leaves_nothing_frozen() {
    const NAME: &str = "guardian::an_agent_that_panics_or_aborts_leaves_nothing_frozen";
    if let Some(how) = env::var_os(END) {
        freeze_and_end(how.to_str().unwrap());
    }
    on_stage(NAME, |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        stage.root();
        let (_, marker) = (hook(stage), marker(stage));
        for (how, end) in [("panic", "on purpose"), ("abort", "")] {
            let since = Instant::now();
            let output = Command::new(env::current_exe().unwrap())
                .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
                .env(END, format!("{how} {}", stage.outside("").to_str().unwrap()))
                .output()
                .unwrap();
            assert!(!output.status.success());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(end), "{said}");
            assert_eq!(stage.frozen(), [true], "{how}: {said}");
            wait_until(|| thawed(stage));
            assert!(since.elapsed() >= GRACE, "{:?}", since.elapsed());
            wait_until(|| hooked(stage) == "freeze thaw");
            assert!(!marker.path().exists());
            fs::remove_file(stage.outside("hook.log")).unwrap();
        }
    });
}

#[test]
fn without_a_guardian_nothing_is_frozen() {
    on_stage("guardian::without_a_guardian_nothing_is_frozen", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        let root = stage.root();
        let (hook, marker) = (hook(stage), marker(stage));
        for (program, why) in [("/nonexistent", "No such file or directory"), ("/bin/true", "Broken pipe")] {
            let settings = Settings { guardian: program.into(), ..settings(Some(&hook), &marker) };
            let system = System::new(root.clone(), settings, marker.clone());
            let freeze = Freeze::default();
            let error = freeze.freeze(&system, None).unwrap_err();
            assert!(error.desc.starts_with("failed to start the guardian of the freeze: "), "{error}");
            assert!(program == "/bin/true" || error.desc.ends_with(why), "{error}");
            assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
            assert_eq!(stage.frozen(), [false]);
            assert_eq!(hooked(stage), "", "nobody was told to get ready");
        }
    });
}

#[test]
fn at_the_deadline_all_is_thawed_and_the_next_thaw_says_so_once() {
    on_stage("guardian::at_the_deadline_all_is_thawed_and_the_next_thaw_says_so_once", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        stage.new_mount("b.xfs", "/mnt/b");
        stage.new_mount("other.ext4", "/mnt/other");
        let root = stage.root();
        let (hook, marker) = (hook(stage), marker(stage));
        stage.freeze_from_outside(2);
        let (freeze, system) = within(2, &root, Some(&hook), &marker);
        let since = Instant::now();
        assert_eq!(freeze.freeze(&*system, None), Ok(2));
        window::watch(&freeze, &system).unwrap();
        assert_eq!(stage.frozen(), [true, true, true]);
        wait_until(|| !freeze.is_frozen());
        assert!(since.elapsed() >= Duration::from_secs(2), "{:?}", since.elapsed());
        wait_until(|| guardians().is_empty());
        assert_eq!(stage.frozen(), [false, false, true], "what others have frozen is theirs");
        stage.thaw_from_outside(2);
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        assert_eq!(hooked(stage), "freeze thaw");
        assert!(!marker.path().exists());
        let error = freeze.thaw(&*system).unwrap_err();
        assert_eq!(error.desc, "file systems were thawed before this request, after 2 s: no freeze may last longer");
        assert_eq!(freeze.thaw(&*system), Ok(0));
        // And all goes on as if nothing had been; a later freeze is not held against the host either.
        assert_eq!(freeze.freeze(&*system, None), Ok(3));
        assert_eq!(freeze.thaw(&*system), Ok(3));
    });
}

#[test]
fn a_thaw_in_time_is_the_end_of_the_window() {
    on_stage("guardian::a_thaw_in_time_is_the_end_of_the_window", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        let root = stage.root();
        let marker = marker(stage);
        let (freeze, system) = within(2, &root, None, &marker);
        assert_eq!(freeze.freeze(&*system, None), Ok(1));
        window::watch(&freeze, &system).unwrap();
        assert_eq!(freeze.thaw(&*system), Ok(1));
        // By somebody else, who has no limit.
        stage.freeze_from_outside(0);
        thread::sleep(Duration::from_secs(4));
        assert_eq!(stage.frozen(), [true]);
        stage.thaw_from_outside(0);
        assert_eq!(freeze.thaw(&*system), Ok(0));
    });
}

#[test]
fn a_guardian_that_is_told_to_end_thaws_first() {
    on_stage("guardian::a_guardian_that_is_told_to_end_thaws_first", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        let root = stage.root();
        let (hook, marker) = (hook(stage), marker(stage));
        let (freeze, system) = within(600, &root, Some(&hook), &marker);
        // The last two are what a service manager's watchdog ends all processes of a service with.
        for (round, signal) in [Signal::TERM, Signal::ABORT, Signal::QUIT].into_iter().enumerate() {
            assert_eq!(freeze.freeze(&*system, None), Ok(1));
            window::watch(&freeze, &system).unwrap();
            kill_process(guardians()[0], signal).unwrap();
            wait_until(|| !freeze.is_frozen());
            wait_until(|| guardians().is_empty());
            assert_eq!(stage.frozen(), [false]);
            assert_eq!(hooked(stage), ["freeze thaw"; 3][..=round].join(" "));
            let error = freeze.thaw(&*system).unwrap_err();
            assert!(error.desc.ends_with("because the guardian of the freeze was told to end"), "{error}");
        }
    });
}

#[test]
fn when_the_guardian_is_killed_the_agent_keeps_the_deadline() {
    on_stage("guardian::when_the_guardian_is_killed_the_agent_keeps_the_deadline", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        let root = stage.root();
        let marker = marker(stage);
        let (freeze, system) = within(1, &root, None, &marker);
        assert_eq!(freeze.freeze(&*system, None), Ok(1));
        kill_process(guardians()[0], Signal::KILL).unwrap();
        window::watch(&freeze, &system).unwrap();
        wait_until(|| !freeze.is_frozen());
        assert_eq!(stage.frozen(), [false]);
        assert!(freeze.thaw(&*system).is_err());
    });
}

#[test]
fn when_the_agent_is_gone_and_no_other_comes_all_is_thawed_and_the_hooks_are_run() {
    on_stage("guardian::when_the_agent_is_gone_and_no_other_comes_all_is_thawed_and_the_hooks_are_run", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        stage.new_mount("b.xfs", "/mnt/b");
        stage.new_mount("other.ext4", "/mnt/other");
        let root = stage.root();
        let (hook, marker) = (hook(stage), marker(stage));
        stage.freeze_from_outside(2);
        let system = system(&root, Some(&hook), &marker);
        assert_eq!(Freeze::default().freeze(&system, None), Ok(2));
        let since = Instant::now();
        // With it goes its end of the socket, as with the process.
        drop(system);
        wait_until(|| guardians().is_empty());
        assert!(since.elapsed() >= GRACE, "{:?}", since.elapsed());
        assert_eq!(stage.frozen(), [false, false, true]);
        stage.thaw_from_outside(2);
        assert_eq!(hooked(stage), "freeze thaw");
        assert!(!marker.path().exists());

        let (freeze, system) = within(600, &root, Some(&hook), &marker);
        let notes = window::on_start(&freeze, &system);
        assert!(notes[0].contains("its guardian has thawed them"), "{notes:?}");
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        let error = freeze.thaw(&*system).unwrap_err();
        assert_eq!(error.desc, "the agent ended while file systems were frozen, and they were thawed then");
        assert_eq!(freeze.freeze(&*system, None), Ok(3));
        assert_eq!(freeze.thaw(&*system), Ok(3));
    });
}

#[test]
fn an_agent_that_is_started_again_takes_over_from_the_guardian() {
    on_stage("guardian::an_agent_that_is_started_again_takes_over_from_the_guardian", |stage| {
        stage.new_mount("ground.ext4", "/mnt/ground");
        stage.new_mount("b.xfs", "/mnt/b");
        stage.new_mount("c.ext4", "/mnt/c");
        let root = stage.root();
        let (hook, marker) = (hook(stage), marker(stage));
        let system = system(&root, Some(&hook), &marker);
        assert_eq!(Freeze::default().freeze(&system, Some(&strings(&["/mnt/b", "/mnt/c"]))), Ok(2));
        drop(system);
        stage.freeze_from_outside(0);

        let (freeze, system) = within(600, &root, Some(&hook), &marker);
        assert_eq!(window::on_start(&freeze, &system), [""; 0]);
        window::watch(&freeze, &system).unwrap();
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
        thread::sleep(GRACE + Duration::from_secs(1));
        assert_eq!(stage.frozen(), [true, true, true], "it is no orphan any more");
        assert_eq!(freeze.thaw(&*system), Ok(2));
        assert_eq!(stage.frozen(), [true, false, false], "only what the one before froze");
        stage.thaw_from_outside(0);
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        assert_eq!(hooked(stage), "freeze thaw");
        assert!(!marker.path().exists());
        wait_until(|| guardians().is_empty());
        assert_eq!(freeze.thaw(&*system), Ok(0));
    });
}

#[test]
fn the_deadline_holds_across_a_restart_of_the_agent() {
    on_stage("guardian::the_deadline_holds_across_a_restart_of_the_agent", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        let root = stage.root();
        let marker = marker(stage);
        let (freeze, system) = within(4, &root, None, &marker);
        assert_eq!(freeze.freeze(&*system, None), Ok(1));
        drop((freeze, system));
        let (freeze, system) = within(4, &root, None, &marker);
        window::on_start(&freeze, &system);
        window::watch(&freeze, &system).unwrap();
        assert!(freeze.is_frozen());
        wait_until(|| !freeze.is_frozen());
        assert!(thawed(stage));
        let error = freeze.thaw(&*system).unwrap_err();
        assert!(error.desc.contains("after 4 s"), "{error}");
    });
}

#[test]
fn a_mark_without_a_guardian_is_believed_as_far_as_the_kernel_agrees() {
    on_stage("guardian::a_mark_without_a_guardian_is_believed_as_far_as_the_kernel_agrees", |stage| {
        stage.new_mount("ground.ext4", "/mnt/ground");
        stage.new_mount("b.xfs", "/mnt/b");
        let root = stage.root();
        let (hook, marker) = (hook(stage), marker(stage));
        let left_behind = |stage: &Stage| {
            let system = system(&root, Some(&hook), &marker);
            assert_eq!(Freeze::default().freeze(&system, None), Ok(2));
            kill_process(guardians()[0], Signal::KILL).unwrap();
            wait_until(|| guardians().is_empty());
            assert_eq!(stage.frozen(), [true, true]);
        };
        left_behind(stage);
        let (freeze, system) = within(600, &root, Some(&hook), &marker);
        assert_eq!(window::on_start(&freeze, &system), [""; 0]);
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
        assert_eq!(guardians().len(), 1, "a new one");
        assert_eq!(freeze.thaw(&*system), Ok(2));
        assert_eq!(stage.frozen(), [false, false]);
        assert_eq!(hooked(stage), "freeze thaw");
        assert_eq!(guardians(), []);

        // The new one is as good as the old one.
        left_behind(stage);
        let (freeze, system) = within(2, &root, Some(&hook), &marker);
        window::on_start(&freeze, &system);
        window::watch(&freeze, &system).unwrap();
        wait_until(|| !freeze.is_frozen());
        assert_eq!(stage.frozen(), [false, false]);
        assert!(freeze.thaw(&*system).unwrap_err().desc.contains("after 2 s"));

        left_behind(stage);
        stage.thaw_from_outside(1);
        stage.thaw_from_outside(0);
        let (freeze, system) = within(600, &root, Some(&hook), &marker);
        let notes = window::on_start(&freeze, &system);
        assert!(notes[0].ends_with("none of its file systems is frozen"), "{notes:?}");
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        assert!(!marker.path().exists());
        assert_eq!(freeze.freeze(&*system, None), Ok(2));
        assert_eq!(freeze.thaw(&*system), Ok(2));
    });
}

#[test]
fn after_a_c_agent_everything_is_thawed_and_a_marker_of_another_boot_is_removed() {
    on_stage("guardian::after_a_c_agent_everything_is_thawed_and_a_marker_of_another_boot_is_removed", |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        stage.new_mount("b.ext4", "/mnt/b");
        let root = stage.root();
        let marker = marker(stage);
        let system = system(&root, None, &marker);
        fs::write(marker.path(), "").unwrap();
        stage.freeze_from_outside(1);
        let freeze = Freeze::default();
        window::on_start(&freeze, &system);
        assert_eq!(freeze.thaw(&system), Ok(1));
        assert_eq!(stage.frozen(), [false, false]);

        fs::write(marker.path(), "11111111-2222-3333-4444-555555555555\n7:0\n").unwrap();
        let freeze = Freeze::default();
        window::on_start(&freeze, &system);
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Thawed));
        assert!(!marker.path().exists());
        assert_eq!(freeze.freeze(&system, None), Ok(2));
        assert!(marker.is_current());
        assert_eq!(freeze.thaw(&system), Ok(2));
        assert!(!marker.path().exists());
    });
}
