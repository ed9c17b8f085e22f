//! What the agent may cost in a guest, in numbers.
//!
//! Size and memory are those of the static release build, which `QEMU_GA` names; without it those tests say that they
//! did not run. They are promised of the build with musl, which is the one that is shipped; one with glibc, for machines
//! that have no musl, may take more. The rest holds for any build.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::host::PATIENCE;
use qga_testkit::{Program, Setup, TestAgent, skip, wait};
use serde_json::json;

const MIB: u64 = 1 << 20;

/// What a build may take.
struct Limits {
    size: u64,
    idle: u64,
}

const WITH_MUSL: Limits = Limits { size: 1_600_000, idle: 1_500_000 };
const WITH_GLIBC: Limits = Limits { size: 2_500_000, idle: 2 * MIB + MIB / 4 };

/// The static agent, if it is there, and what it may take.
fn shipped(test: &str) -> Option<(PathBuf, Limits)> {
    let Some(path) = std::env::var_os("QEMU_GA").filter(|path| !path.is_empty()).map(PathBuf::from) else {
        skip::skipped(test, "QEMU_GA does not name the static release build");
        return None;
    };
    // A variable that glibc looks at when it starts.
    let word = b"GLIBC_TUNABLES";
    let is_glibc = fs::read(&path).unwrap().windows(word.len()).any(|bytes| bytes == word);
    println!("{} is built with {}", path.display(), if is_glibc { "glibc" } else { "musl" });
    Some((path, if is_glibc { WITH_GLIBC } else { WITH_MUSL }))
}

fn start(program: PathBuf) -> TestAgent {
    Setup::new(&Program::ours(program)).start()
}

fn this_build() -> PathBuf {
    env!("CARGO_BIN_EXE_qemu-ga").into()
}

#[test]
fn the_program_is_smaller_than_1_6_megabytes_and_needs_no_other() {
    let Some((program, limits)) = shipped("size") else { return };
    let size = fs::metadata(&program).unwrap().len();
    assert!(size < limits.size, "{size} bytes");
    let headers = Command::new("readelf").arg("-lW").arg(&program).output().unwrap();
    let headers = String::from_utf8_lossy(&headers.stdout).into_owned();
    assert!(headers.contains("LOAD"), "{headers}");
    assert!(!headers.contains("INTERP"), "it wants a loader:\n{headers}");
    // Where it lies in memory is nobody's to know.
    assert!(headers.contains("Elf file type is DYN"), "{headers}");
}

#[test]
fn idle_it_takes_less_than_one_and_a_half_megabytes() {
    let Some((program, limits)) = shipped("idle memory") else { return };
    let agent = start(program);
    let mut host = agent.host();
    host.call("guest-ping", json!({})).unwrap();
    host.call("guest-info", json!({})).unwrap();
    drop(host);
    sleep(Duration::from_millis(500));
    assert!(agent.rss() < limits.idle, "{} KiB", agent.rss() >> 10);
}

/// What a file of 40 MiB may take at most while it goes through: its text on the wire is 53 MiB.
const LARGE: usize = 40 << 20;
const AT_MOST: u64 = 64 * MIB;

/// What is left half a second later, and much later.
fn given_back(agent: &TestAgent) {
    let peak = agent.peak_rss();
    assert!(peak < AT_MOST, "{} KiB at the peak", peak >> 10);
    let begin = Instant::now();
    let small = || (agent.rss() < 3 * MIB).then_some(());
    assert!(wait::poll(PATIENCE, small).is_some(), "{} KiB are kept", agent.rss() >> 10);
    println!("given back after {:?}", begin.elapsed());
}

#[test]
fn a_write_of_40_mebibytes_takes_64_and_gives_them_back() {
    let Some((program, _)) = shipped("memory of a large write") else { return };
    let agent = start(program);
    let path = agent.dir().join("large");
    let mut host = agent.host();
    let handle = host.call("guest-file-open", json!({ "path": path, "mode": "w" })).unwrap();
    let text = "QUJD".repeat(LARGE.div_ceil(3));
    let wrote = host.call("guest-file-write", json!({ "handle": handle, "buf-b64": text })).unwrap();
    assert_eq!(wrote["count"], LARGE.div_ceil(3) * 3);
    assert_eq!(fs::metadata(&path).unwrap().len(), LARGE.div_ceil(3) as u64 * 3);
    given_back(&agent);
    host.call("guest-file-close", json!({ "handle": handle })).unwrap();
}

#[test]
fn a_read_of_40_mebibytes_takes_64_and_gives_them_back() {
    let Some((program, _)) = shipped("memory of a large read") else { return };
    let agent = start(program);
    let path = agent.dir().join("large");
    fs::write(&path, vec![b'x'; LARGE]).unwrap();
    let mut host = agent.host();
    let handle = host.call("guest-file-open", json!({ "path": path })).unwrap();
    let read = host.call("guest-file-read", json!({ "handle": handle, "count": LARGE })).unwrap();
    assert_eq!(read["count"], LARGE);
    given_back(&agent);
    host.call("guest-file-close", json!({ "handle": handle })).unwrap();
}

#[test]
fn idle_it_is_never_woken() {
    let agent = start(this_build());
    let mut host = agent.host();
    host.call("guest-ping", json!({})).unwrap();
    // Not with a client that is silent, and not without one.
    for _ in 0..2 {
        sleep(Duration::from_millis(300));
        let before = agent.wake_ups();
        sleep(Duration::from_secs(2));
        assert_eq!(agent.wake_ups(), before);
        host = agent.host();
    }
    drop(host);
}

#[test]
fn a_service_manager_without_a_watchdog_costs_no_wake_up() {
    let (agent, _manager) = managed(None);
    agent.host().call("guest-ping", json!({})).unwrap();
    sleep(Duration::from_millis(300));
    let before = agent.wake_ups();
    sleep(Duration::from_secs(2));
    assert_eq!(agent.wake_ups(), before);
}

#[test]
fn a_watchdog_costs_one_wake_up_in_half_its_time() {
    let limit = Duration::from_secs(2);
    let (agent, _manager) = managed(Some(limit));
    agent.host().call("guest-ping", json!({})).unwrap();
    sleep(Duration::from_millis(300));
    let (before, begin) = (agent.wake_ups(), Instant::now());
    sleep(limit * 2);
    let woken = agent.wake_ups() - before;
    let halves = begin.elapsed().as_millis() / (limit / 2).as_millis();
    assert!((1..=halves + 1).contains(&u128::from(woken)), "{woken} times in {:?}", begin.elapsed());
}

/// An agent of a service manager.
fn managed(watchdog: Option<Duration>) -> (TestAgent, UnixDatagram) {
    let mut setup = Setup::new(&Program::ours(this_build()));
    let path = setup.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    if let Some(limit) = watchdog {
        setup = setup.env("WATCHDOG_USEC", limit.as_micros().to_string());
    }
    (setup.env("NOTIFY_SOCKET", &path).start(), manager)
}

#[test]
fn a_thread_comes_with_work_and_goes_with_it() {
    let agent = start(this_build());
    let mut host = agent.host();
    host.call("guest-ping", json!({})).unwrap();
    host.call("guest-info", json!({})).unwrap();
    assert_eq!(agent.threads(), 1, "the core commands need no thread");
    let missing = host.call("guest-file-open", json!({ "path": "/nonexistent" }));
    assert!(missing.is_err());
    // One for the command, and one for the log, which is a file on a disk here.
    assert!(agent.threads() <= 3);
    wait::until("an idle thread's end", PATIENCE, || (agent.threads() == 1).then_some(()));
}

#[test]
fn descriptors_stay_the_same_over_a_thousand_calls_and_a_hundred_clients() {
    let agent = start(this_build());
    let path = agent.dir().join("file");
    fs::write(&path, "content").unwrap();
    agent.host().call("guest-network-get-interfaces", json!({})).unwrap();
    let settled = || (agent.threads() == 1).then_some(());
    wait::until("an idle agent", PATIENCE, settled);
    let before = agent.fds();
    for _ in 0..100 {
        let mut host = agent.host();
        host.sync(PATIENCE).unwrap();
        for _ in 0..2 {
            host.call("guest-info", json!({})).unwrap();
            let handle = host.call("guest-file-open", json!({ "path": path })).unwrap();
            host.call("guest-file-read", json!({ "handle": handle })).unwrap();
            host.call("guest-file-close", json!({ "handle": handle })).unwrap();
            host.call("guest-network-get-interfaces", json!({})).unwrap();
        }
    }
    let same = || (agent.fds() == before).then_some(());
    assert!(wait::poll(PATIENCE, same).is_some(), "{} descriptors, {before} before", agent.fds());
}

#[test]
fn memory_stays_the_same_over_ten_thousand_calls() {
    let agent = start(this_build());
    let mut host = agent.host();
    let mut calls = |count: usize| {
        for id in 0..count {
            assert_eq!(host.call("guest-sync", json!({ "id": id })).unwrap(), id);
            host.call("guest-info", json!({})).unwrap();
        }
    };
    calls(500);
    let before = agent.rss();
    calls(4500);
    let grown = agent.rss().saturating_sub(before);
    assert!(grown < MIB, "grown by {} KiB", grown >> 10);
}

/// All there is in the daemon. One more is a decision: somebody has to read it and its updates, and every guest carries it.
const CRATES: &str = "base64 bitflags cfg-if dlmalloc lexopt libc linux-raw-sys log memchr qemu-ga qga-proto rustix serde serde_core tz-rs";

#[test]
fn it_is_made_of_these_crates_and_no_other() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--package", "qemu-ga", "--edges", "normal,no-proc-macro", "--prefix", "none"])
        .args(["--no-dedupe", "--target", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(crates, CRATES.split(' ').collect());
}
