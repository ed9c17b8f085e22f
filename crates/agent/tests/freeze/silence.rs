//! Nothing is written to what is frozen: the system calls of a whole round, as strace saw them.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use qemu_ga::persist::FrozenMarker;
use qemu_ga::state::freeze::{Freeze, System};
use qga_proto::types::fsfreeze::FsfreezeStatus;

use crate::settings;
use crate::stage::on_stage;

/// Set where the round is done and strace watches.
const TRACED: &str = "QGA_TEST_TRACED";

const NAME: &str = "silence::while_frozen_nothing_is_written_to_what_is_frozen";

/// A round in which state and log would lie on what gets frozen.
fn round() {
    on_stage(NAME, |stage| {
        stage.new_mount("a.ext4", "/mnt/a");
        let root = stage.root();
        let state = stage.path("/mnt/a/state");
        fs::create_dir(&state).unwrap();
        qemu_ga::log::init(qemu_ga::log::Options { verbose: true, logfile: Some(state.join("log")), frozen: false })
            .unwrap();
        let marker = FrozenMarker::new(&state, &root).unwrap();
        let system = System::new(root.clone(), settings(None, &marker), marker.clone());
        let freeze = Freeze::default();
        assert_eq!(freeze.freeze(&system, None), Ok(1));
        log::error!("a line that has to wait");
        assert_eq!(freeze.status(), Ok(FsfreezeStatus::Frozen));
        assert!(freeze.freeze(&system, None).is_err());
        assert_eq!(freeze.thaw(&system), Ok(1));
        let log = fs::read_to_string(state.join("log")).unwrap();
        assert!(log.contains("logging re-enabled due to filesystem unfreeze, 1 line was not written"), "{log}");
        assert!(!marker.path().exists());
    });
}

#[test]
fn while_frozen_nothing_is_written_to_what_is_frozen() {
    if env::var_os(TRACED).is_some() {
        return round();
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {NAME}: it needs root");
        return;
    }
    if !Command::new("strace").args(["-f", "true"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED {NAME}: it needs strace, and the right to use it");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let output = Command::new("strace")
        .args(["-f", "-y", "-s", "0", "-o"])
        .arg(&trace)
        .args(["-e", "trace=%file,%desc,%network"])
        .arg(env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
        .env(TRACED, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = fs::read_to_string(&trace).unwrap();
    // From the beginning of the one call to that of the other: their ends may stand in lines of their own.
    let begins = |line: &&str, call: &str| line.contains(call);
    let frozen: Vec<&str> =
        trace.lines().skip_while(|line| !begins(line, "FIFREEZE")).take_while(|line| !begins(line, "FITHAW")).collect();
    assert!(!frozen.is_empty(), "{trace}");
    assert!(trace.lines().any(|line| begins(&line, "FITHAW")), "{trace}");
    for line in frozen {
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start()).split('(').next().unwrap_or("");
        let touches = line.contains("/root/mnt/a");
        let opens_to_write =
            call.starts_with("open") && ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|f| line.contains(f));
        let changes = [
            "write",
            "pwrite",
            "writev",
            "fsync",
            "fdatasync",
            "ftruncate",
            "truncate",
            "unlink",
            "rename",
            "mkdir",
            "chmod",
            "fchmod",
            "chown",
            "utimens",
            "link",
            "symlink",
        ];
        let changes = changes.iter().any(|name| call.starts_with(name));
        assert!(!(touches && (opens_to_write || changes)), "written while frozen: {line}");
    }
    // Before and after there is something to be seen, so this would be, too.
    let writes = |line: &&str| line.contains("write(") && line.contains("/root/mnt/a/state/");
    assert!(trace.lines().filter(writes).count() >= 2, "{trace}");
}
