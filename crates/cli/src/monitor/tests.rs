//! Samples of guests that answer, do not, or answer nonsense.

use std::time::{Duration, Instant};

use qga_testkit::fake::Agent;
use serde_json::json;

use super::*;
use crate::target::Target;

/// Every command that a sample is made of, each with an answer.
pub(crate) const HEALTHY: &[(&str, &str)] = &[
    ("guest-ping", "{}"),
    ("guest-fsfreeze-status", r#""thawed""#),
    ("guest-get-load", r#"{"load1m": 0.5, "load5m": 0.25, "load15m": 0.125}"#),
    ("guest-file-open", "1000"),
    // MemTotal: 1000 kB, MemAvailable: 250 kB, SwapTotal: 100 kB, SwapFree: 90 kB.
    (
        "guest-file-read",
        r#"{"count": 75, "buf-b64": "TWVtVG90YWw6IDEwMDAga0IKTWVtQXZhaWxhYmxlOiAyNTAga0IKU3dhcFRvdGFsOiAxMDAga0IKU3dhcEZyZWU6IDkwIGtCCg==", "eof": true}"#,
    ),
    ("guest-file-close", "{}"),
    (
        "guest-get-cpustats",
        r#"[{"type": "linux", "cpu": 0, "user": 1000, "nice": 0, "system": 500, "idle": 8000, "iowait": 500, "irq": 0, "softirq": 0, "steal": 0}]"#,
    ),
    (
        "guest-get-vcpus",
        r#"[{"logical-id": 0, "online": true, "can-offline": false}, {"logical-id": 1, "online": false, "can-offline": true}]"#,
    ),
    ("guest-get-memory-blocks", r#"[{"phys-index": 0, "online": true}, {"phys-index": 1, "online": false}]"#),
    ("guest-get-memory-block-info", r#"{"size": 134217728}"#),
    (
        "guest-get-diskstats",
        r#"[{"name": "vda", "major": 252, "minor": 0, "stats": {"read-ios": 10, "read-sectors": 100, "write-ios": 5, "write-sectors": 8, "read-ticks": 20, "write-ticks": 30, "total-ticks": 40, "ios-pgr": 0}},
            {"name": "loop0", "major": 7, "minor": 0, "stats": {"read-ios": 0, "write-ios": 0}}]"#,
    ),
    (
        "guest-network-get-interfaces",
        r#"[{"name": "eth0", "statistics": {"rx-bytes": 1000, "rx-packets": 10, "rx-errs": 1, "rx-dropped": 2, "tx-bytes": 2000, "tx-packets": 20, "tx-errs": 3, "tx-dropped": 4}},
            {"name": "odd"}]"#,
    ),
    (
        "guest-get-fsinfo",
        r#"[{"name": "vda1", "mountpoint": "/", "type": "ext4", "disk": [], "total-bytes": 1000, "used-bytes": 900},
            {"name": "vda1", "mountpoint": "/bind", "type": "ext4", "disk": [], "total-bytes": 1000, "used-bytes": 900},
            {"name": "tmpfs", "mountpoint": "/none", "type": "tmpfs", "disk": []}]"#,
    ),
];

/// A guest that gives these answers, and those of a healthy one to everything else; it has no others than `commands`.
pub(crate) fn guest(answers: &[(&str, &str)], missing: &[&str]) -> Agent {
    let is_special = |name: &str| answers.iter().any(|(special, _)| *special == name);
    let known: Vec<&str> = HEALTHY.iter().map(|(name, _)| *name).filter(|name| !missing.contains(name)).collect();
    let commands: Vec<_> =
        known.iter().map(|name| json!({"name": name, "enabled": true, "success-response": true})).collect();
    let info = json!({"version": "9.9.9", "supported_commands": commands}).to_string();
    let healthy = HEALTHY.iter().filter(|(name, _)| known.contains(name) && !is_special(name));
    let all: Vec<(&str, &str)> = healthy.chain(answers).copied().chain([("guest-info", info.as_str())]).collect();
    Agent::start(&all)
}

/// A target that leads to it.
pub(crate) fn target(agent: &Agent) -> Target {
    format!("unix:{}", agent.path().display()).parse().unwrap()
}

/// What a healthy guest says.
pub(crate) fn healthy() -> Sample {
    take(&guest(&[], &[]), true)
}

fn take(agent: &Agent, reads_files: bool) -> Sample {
    Probe::new(target(agent), Duration::from_secs(30), reads_files).take().unwrap()
}

fn names(agent: &Agent) -> Vec<String> {
    agent.requests().iter().map(|request| request["execute"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_healthy_guest_tells_everything() {
    let sample = healthy();
    assert_eq!(sample.failures, []);
    assert_eq!((sample.version.as_str(), sample.is_frozen), ("9.9.9", Some(false)));
    assert_eq!(sample.load.unwrap().load5m, 0.25);
    assert_eq!(sample.processors, Some((1, 2)));
    let memory = sample.memory.unwrap();
    assert_eq!((memory.total, memory.available, memory.swap_free), (1_024_000, 256_000, 92_160));
    let blocks = sample.blocks.unwrap();
    assert_eq!((blocks.online, blocks.offline, blocks.size), (1, 1, Some(128 << 20)));
    assert_eq!(sample.disks.unwrap().len(), 2);
    assert_eq!(sample.interfaces.unwrap().len(), 2);
    assert_eq!(sample.filesystems.unwrap().len(), 3);
}

#[test]
fn an_agent_without_the_command_tells_the_load_with_a_file() {
    // 0.50 0.25 0.10 1/100 1
    let loadavg = r#"{"count": 23, "buf-b64": "MC41MCAwLjI1IDAuMTAgMS8xMDAgMQo=", "eof": true}"#;
    let agent = guest(&[("guest-file-read", loadavg)], &["guest-get-load"]);
    let sample = take(&agent, true);
    assert_eq!(sample.load.unwrap().load15m, 0.1);
    // That file is no meminfo.
    assert_eq!(sample.memory, None);
    let opened: Vec<_> =
        agent.requests().into_iter().filter(|request| request["execute"] == "guest-file-open").collect();
    assert_eq!(opened[0]["arguments"]["path"], "/proc/loadavg");
    assert_eq!(opened[1]["arguments"]["path"], "/proc/meminfo");
    assert_eq!(names(&agent).iter().filter(|name| *name == "guest-file-close").count(), 2);
}

#[test]
fn no_file_is_read_where_that_is_not_wanted_or_not_allowed() {
    let agent = guest(&[], &["guest-get-load"]);
    let sample = take(&agent, false);
    assert!(sample.load.is_none() && sample.memory.is_none());
    assert!(!names(&agent).iter().any(|name| name.starts_with("guest-file")));

    let agent = guest(&[], &["guest-file-read"]);
    assert_eq!(take(&agent, true).memory, None);
    assert!(!names(&agent).iter().any(|name| name.starts_with("guest-file")));
}

#[test]
fn what_an_agent_does_not_have_it_is_not_asked() {
    let missing = ["guest-get-cpustats", "guest-get-diskstats", "guest-get-memory-blocks", "guest-get-fsinfo"];
    let agent = guest(&[], &missing);
    let sample = take(&agent, true);
    assert_eq!(sample.failures, []);
    assert!(sample.cpus.is_none() && sample.disks.is_none() && sample.blocks.is_none());
    assert!(!names(&agent).iter().any(|name| missing.contains(&name.as_str())));
}

#[test]
fn a_command_that_fails_or_talks_nonsense_costs_only_its_own_answer() {
    let error = r#"{"error": {"class": "GenericError", "desc": "no \u001b[31mdisk"}}"#;
    let sample = take(&guest(&[("guest-get-diskstats", error), ("guest-get-cpustats", r#""nonsense""#)], &[]), true);
    let failed: Vec<&str> = sample.failures.iter().map(|(command, _)| *command).collect();
    assert_eq!(failed, ["guest-get-cpustats", "guest-get-diskstats"]);
    assert!(sample.load.is_some() && sample.interfaces.is_some() && sample.filesystems.is_some());
}

#[test]
fn a_command_that_hangs_costs_the_rest_of_the_time_and_not_the_sample() {
    let agent = guest(&[("guest-get-fsinfo", "")], &[]);
    let start = Instant::now();
    let sample = Probe::new(target(&agent), Duration::from_secs(2), true).take().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(sample.failures.len(), 1);
    assert!(sample.filesystems.is_none() && sample.memory.is_some() && sample.cpus.is_some());
}

#[test]
fn a_dead_guest_counts_as_silent_and_delays_nobody() {
    let dead = tempfile::tempdir().unwrap();
    let path = dead.path().join("sock");
    // It accepts, because the kernel does, and never answers.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (limit, interval) = (Duration::from_secs(3), Duration::from_millis(100));
    let watch = |target: &Target| {
        Guest::watch(target, Probe::new(target.clone(), limit, true), interval, Duration::from_secs(60))
    };
    let dead = watch(&path.to_str().unwrap().parse().unwrap());
    let agent = guest(&[], &[]);
    let alive = watch(&target(&agent));
    assert!(alive.wait(3, Duration::from_secs(30)));
    let state = alive.state();
    assert_eq!((alive.standing(&state), state.failed), (Standing::Fresh, 0));
    assert!(dead.wait(1, Duration::from_secs(30)));
    let state = dead.state();
    assert!(matches!(dead.standing(&state), Standing::Silent(_)));
    assert!(state.failure.is_some() && state.sample.is_none());
    // Nothing is taken of a guest that is watched no more.
    alive.unwatch();
    let waited = qga_testkit::wait::poll(Duration::from_secs(30), || {
        let before = alive.state().polls;
        (!alive.wait(before + 1, Duration::from_millis(500))).then_some(())
    });
    assert!(waited.is_some());
}

#[test]
fn a_sample_that_is_too_old_is_not_fresh_although_nothing_failed() {
    let agent = guest(&[("guest-ping", "{}"), ("guest-ping", "")], &[]);
    let probe = Probe::new(target(&agent), Duration::from_secs(60), true);
    let guest = Guest::watch(&target(&agent), probe, Duration::from_millis(100), Duration::from_millis(400));
    assert!(guest.wait(1, Duration::from_secs(30)));
    let old = qga_testkit::wait::poll(Duration::from_secs(30), || {
        let state = guest.state();
        matches!(guest.standing(&state), Standing::Silent(_)).then_some(state)
    });
    let state = old.unwrap();
    assert!(state.failure.is_none() && state.sample.is_some());
}
