//! The whole agent, with a device that does not answer. It runs with the stage for its root directory and sees no file
//! system but those of the stage.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use qga_testkit::host::PATIENCE;
use qga_testkit::{Program, Setup, TestAgent, skip, wait};
use serde_json::json;

use crate::matrix::{AT_ONCE, Bench, Cause, GRACE, SYNCS, everything_works, ping};
use crate::stage::{Stage, make, on_stage};

const AGENT: &str = env!("CARGO_BIN_EXE_qemu-ga");

/// What busybox stands for on the stage.
const APPLETS: [&str; 2] = ["sh", "echo"];

/// Puts a file of the system on the stage, at its own place.
fn bring(stage: &Stage, file: &str) {
    let place = stage.path(file);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(file, place).unwrap();
}

/// Starts the agent with the stage for its root directory.
fn enclosed(stage: &Stage) -> TestAgent {
    let setup = Setup::new(&Program::ours(AGENT)).powerful().allow("guest-fsfreeze-freeze").allow("guest-fstrim");
    let needs = Command::new("ldd").arg(AGENT).output().unwrap().stdout;
    let needs = String::from_utf8(needs).unwrap();
    let libraries = needs.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([AGENT, "/bin/busybox"]) {
        bring(stage, file);
    }
    for name in APPLETS {
        symlink("/bin/busybox", stage.path("/bin").join(name)).unwrap();
    }
    for name in ["/dev", "/sys"] {
        fs::remove_file(stage.path(name)).unwrap();
        fs::create_dir(stage.path(name)).unwrap();
    }
    fs::create_dir(stage.path("/old")).unwrap();
    fs::create_dir_all(stage.path(setup.state_dir().to_str().unwrap())).unwrap();
    // Here is where the test looks for the socket.
    symlink(stage.path(setup.socket().to_str().unwrap()), setup.socket()).unwrap();
    let top = stage.path("/");
    let script = format!(
        "set -e; cd '{0}'; mount --rbind . .; cd '{0}'; mount -t proc proc proc; mount --bind /dev dev
         mount --bind /sys sys; pivot_root . old; /bin/busybox umount -l /old; exec \"$@\"",
        top.display()
    );
    let inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script.as_str(), "sh"];
    let agent = setup.inside(inside).start();
    // Nothing but the stage is in its reach.
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", agent.pid())).unwrap();
    for line in table.lines() {
        let device = line.split(' ').nth(2).unwrap();
        assert!(
            device.starts_with("0:") || device.starts_with("7:"),
            "the agent sees a file system of the host: {line}"
        );
    }
    agent
}

/// Four file systems, one of which lies in an image on another. Gives the number of that other one.
fn build(stage: &mut Stage) -> usize {
    stage.new_mount("below.xfs", "/mnt/below");
    stage.new_mount("a.ext4", "/mnt/a");
    let image = stage.path("/mnt/below/stuck.ext4");
    make(&image);
    stage.mount(&image, "/mnt/stuck", "");
    stage.new_mount("z.ext4", "/mnt/z");
    // For the watchdog.
    stage.root();
    0
}

fn can_enclose(name: &str) -> bool {
    let there = ["/bin/busybox", "/usr/sbin/pivot_root"].iter().find(|program| !Path::new(program).exists());
    if let Some(program) = there {
        skip::skipped(name, &format!("needs {program}"));
    }
    there.is_none()
}

/// From now on the device of `/mnt/stuck` does not answer, until this goes.
struct Suspended<'a>(&'a Stage, usize);

impl<'a> Suspended<'a> {
    fn new(stage: &'a Stage, below: usize) -> Self {
        fs::write(stage.path("/mnt/stuck/dirty"), vec![7; 4 << 20]).unwrap();
        stage.freeze_from_outside(below);
        Suspended(stage, below)
    }
}

impl Drop for Suspended<'_> {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

/// Threads of the agent of this name.
fn threads_called(agent: &TestAgent, name: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let is =
        |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name);
    tasks.filter_map(Result::ok).filter(is).count()
}

#[test]
fn while_a_freeze_waits_for_a_suspended_device_all_else_goes_on_and_a_thaw_gives_it_up() {
    let name = "stuck::while_a_freeze_waits_for_a_suspended_device_all_else_goes_on_and_a_thaw_gives_it_up";
    if !can_enclose(name) {
        return;
    }
    on_stage(name, |stage| {
        let below = build(stage);
        let stage = &*stage;
        let agent = enclosed(stage);
        let mut bench = Bench::new(&agent);
        let hang = |_| {
            wait::until("a freeze", PATIENCE, || (threads_called(&agent, "freeze") == 1).then_some(()));
            thread::sleep(Duration::from_millis(300));
            assert_eq!(threads_called(&agent, "freeze"), 1, "the freeze does not hang");
        };
        let cause = Cause {
            what: "a freeze",
            command: "guest-fsfreeze-freeze",
            arguments: &|_| json!({}),
            hang: &hang,
            thaw: json!(1),
            gives_up: false,
            release: &|| (),
        };
        for round in 0..1 + SYNCS.len() {
            let suspended = Suspended::new(stage, below);
            match round {
                0 => {
                    let took = bench.resync(&cause, 1);
                    eprintln!("a freeze: resynchronised in {} us", took.as_micros());
                    assert!(took < AT_ONCE, "{took:?}");
                }
                _ => {
                    let took = bench.sync(&cause, SYNCS[round - 1], 1);
                    eprintln!("a freeze: {} without 0xFF answered in {} ms", SYNCS[round - 1], took.as_millis());
                }
            }
            ping(&mut bench.other);
            // It is not known yet what will be; nobody is told "thawed".
            let status = bench.other.call("guest-fsfreeze-status", json!({})).unwrap_err();
            assert!(status.desc.starts_with("freezing file systems has been going on for "), "{status}");
            let begin = Instant::now();
            assert_eq!(bench.other.call("guest-fsfreeze-thaw", json!({})), Ok(json!(1)), "/mnt/z");
            eprintln!("a freeze: thawed in {} ms", begin.elapsed().as_millis());
            // The device still does not answer, and the kernel still freezes.
            assert_eq!(threads_called(&agent, "freeze"), 1);
            fs::write(stage.path("/mnt/z/free"), "free").unwrap();
            everything_works(&agent, &mut bench.other);
            everything_works(&agent, &mut bench.host);
            let error = bench.other.call("guest-fsfreeze-freeze", json!({})).unwrap_err();
            assert_eq!(error.desc, "failed to freeze /mnt/stuck: an earlier attempt has not come to an end");
            assert_eq!(bench.other.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
            drop(suspended);
            wait::until("the end of it", PATIENCE, || (threads_called(&agent, "freeze") == 0).then_some(()));
            assert_eq!(stage.frozen(), [false; 4], "what froze late is thawed");
        }
        assert_eq!(bench.other.call("guest-fsfreeze-freeze", json!({})), Ok(json!(4)));
        assert_eq!(bench.other.call("guest-fsfreeze-thaw", json!({})), Ok(json!(4)));
        bench.returns_to_normal();
    });
}

#[test]
fn while_a_trim_waits_for_a_suspended_device_all_else_goes_on() {
    let name = "stuck::while_a_trim_waits_for_a_suspended_device_all_else_goes_on";
    if !can_enclose(name) {
        return;
    }
    on_stage(name, |stage| {
        let below = build(stage);
        let stage = &*stage;
        let agent = enclosed(stage);
        let bench = Bench::new(&agent);
        let suspended = Suspended::new(stage, below);
        bench.run(&Cause {
            what: "a trim",
            command: "guest-fstrim",
            arguments: &|_| json!({}),
            // The second and the following wait for the first, and can only be given a moment to begin.
            hang: &|_| thread::sleep(GRACE / 4),
            thaw: json!(0),
            gives_up: true,
            release: &|| suspended.0.release(below),
        });
        drop(suspended);
        let trimmed = agent.host().call("guest-fstrim", json!({})).unwrap();
        let paths = trimmed["paths"].as_array().unwrap();
        assert_eq!(paths.len(), 4, "{trimmed}");
        assert!(paths.iter().all(|path| path["trimmed"].is_u64()), "{trimmed}");
    });
}
