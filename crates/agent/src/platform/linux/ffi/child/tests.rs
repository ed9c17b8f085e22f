use super::*;

#[test]
fn a_child_started_afresh_has_no_signal_blocked_or_ignored() {
    // SAFETY: plain calls on values of this thread's stack; the signal that Rust ignores anyway.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGHUP);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()), 0);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
    let masks = |status: &str| -> Vec<u64> {
        ["SigBlk:", "SigIgn:"]
            .iter()
            .map(|name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim())
            .map(|mask| u64::from_str_radix(mask, 16).unwrap())
            .collect()
    };
    let ours = masks(&std::fs::read_to_string("/proc/thread-self/status").unwrap());
    assert_eq!(ours[0] & 0x4001, 0x4001);
    assert_eq!(ours[1] & 0x1000, 0x1000);

    let mut command = process::Command::new("/bin/cat");
    command.arg("/proc/self/status");
    start_afresh(&mut command);
    let status = command.output().unwrap().stdout;
    let childs = masks(&String::from_utf8(status).unwrap());
    // (32 and 33 belong to the C library, which leaves them ignored in what its posix_spawn starts.)
    let foreign = 3_u64 << 31;
    assert_eq!([childs[0], childs[1] & !foreign], [0, 0]);
}

#[test]
fn a_child_is_not_spared_as_we_are_when_memory_runs_out() {
    let file = "/proc/self/oom_score_adj";
    let before = std::fs::read_to_string(file).unwrap();
    for (ours, theirs) in [("-10", "0\n"), ("10", "10\n")] {
        if std::fs::write(file, ours).is_err() {
            eprintln!("SKIPPED {ours}: it takes root");
            continue;
        }
        let mut command = process::Command::new("/bin/cat");
        command.arg(file);
        start_afresh(&mut command);
        let output = command.output();
        let _ = std::fs::write(file, &before);
        assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), theirs, "{ours}");
    }
}
