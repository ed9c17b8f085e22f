//! Programs that the host starts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::host::PATIENCE;
use qga_testkit::{Host, TestAgent, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::differences::{differs, today_or_7};
use crate::{PROGRAM, agent, setup};

/// For programs that have much to write, on a machine that has much to do.
const LONG: Duration = Duration::from_secs(120);

#[track_caller]
fn start(host: &mut Host, arguments: Value) -> i64 {
    let reply = host.call_within("guest-exec", arguments, LONG).unwrap();
    let pid = reply["pid"].as_i64().unwrap();
    assert!(pid > 0 && reply.as_object().unwrap().len() == 1, "{reply}");
    pid
}

fn status(host: &mut Host, pid: i64) -> Value {
    host.call_within("guest-exec-status", json!({ "pid": pid }), LONG).unwrap()
}

/// The result of a program, once it has ended.
#[track_caller]
fn result(host: &mut Host, pid: i64) -> Value {
    wait::until("the program ends", LONG, || {
        let status = status(host, pid);
        if status["exited"] == true {
            return Some(status);
        }
        assert_eq!(status, json!({ "exited": false }));
        None
    })
}

#[track_caller]
fn run(host: &mut Host, arguments: Value) -> Value {
    let pid = start(host, arguments);
    result(host, pid)
}

fn sh(script: &str, capture: impl Into<Value>) -> Value {
    json!({ "path": "/bin/sh", "arg": ["-c", script], "capture-output": capture.into() })
}

/// Base64 of a text.
fn b64(text: impl AsRef<[u8]>) -> String {
    let mut out = Vec::new();
    qga_proto::base64::encode_into(&mut out, text.as_ref());
    String::from_utf8(out).unwrap()
}

/// What is captured as standard output, as text.
#[track_caller]
fn out(host: &mut Host, arguments: Value) -> String {
    let mut arguments = arguments;
    arguments["capture-output"] = true.into();
    let result = run(host, arguments);
    let bytes = qga_proto::base64::decode(result["out-data"].as_str().unwrap_or_default()).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
fn error(host: &mut Host, name: &str, arguments: Value) -> String {
    let error = host.call(name, arguments).unwrap_err();
    assert_eq!(error.class, "GenericError");
    error.desc
}

/// Descriptors and threads come back to what they were.
#[track_caller]
fn at_rest(agent: &TestAgent, (fds, threads): (usize, u64)) {
    wait::until("descriptors and threads are given back", PATIENCE, || {
        // A worker thread stays for a while.
        (agent.fds() <= fds && agent.threads() <= threads).then_some(())
    });
}

fn held(agent: &TestAgent) -> (usize, u64) {
    (agent.fds(), agent.threads().max(2))
}

fn kill(pid: i64) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn a_result_has_only_what_there_is_to_tell_and_is_told_once() {
    let (_agent, mut host) = agent();
    for (script, capture, result) in [
        ("exit 0", false, json!({ "exitcode": 0, "exited": true })),
        ("echo x; exit 7", false, json!({ "exitcode": 7, "exited": true })),
        ("exit 300", true, json!({ "exitcode": 44, "exited": true })),
        ("kill -9 $$", false, json!({ "signal": 9, "exited": true })),
        (
            "echo a; kill -15 $$",
            true,
            json!({ "signal": 15, "exited": true, "out-data": "YQo=", "out-truncated": false }),
        ),
        ("echo a >&2", true, json!({ "exitcode": 0, "exited": true, "err-data": "YQo=", "err-truncated": false })),
        (
            "echo out; echo err >&2",
            true,
            json!({ "exitcode": 0, "exited": true, "out-data": "b3V0Cg==", "out-truncated": false,
                "err-data": "ZXJyCg==", "err-truncated": false }),
        ),
    ] {
        let pid = start(&mut host, sh(script, capture));
        assert_eq!(self::result(&mut host, pid), result, "{script}");
        let again = error(&mut host, "guest-exec-status", json!({ "pid": pid }));
        let c = today_or_7("PID ld does not exist", "Invalid parameter 'pid'").to_owned();
        assert_eq!(again, differs("exec-pid-text", format!("PID {pid} does not exist"), c));
    }
}

#[test]
fn a_process_that_the_agent_has_not_started_does_not_exist() {
    let (agent, mut host) = agent();
    for pid in [0, 1, -1, i64::from(agent.pid()), i64::MAX, i64::MIN] {
        let unknown = error(&mut host, "guest-exec-status", json!({ "pid": pid }));
        let c = today_or_7("PID ld does not exist", "Invalid parameter 'pid'").to_owned();
        assert_eq!(unknown, differs("exec-pid-text", format!("PID {pid} does not exist"), c));
    }
}

#[test]
fn every_capture_mode_works_any_number_of_times() {
    let (agent, mut host) = agent();
    let (out, err, both) = (b64("out\n"), b64("err\n"), b64("out\nerr\n"));
    let results = |stdout: Option<&String>, stderr: Option<&String>| {
        let mut result = json!({ "exitcode": 0, "exited": true });
        for (name, data) in [("out", stdout), ("err", stderr)] {
            if let Some(data) = data {
                result[format!("{name}-data")] = data.as_str().into();
                result[format!("{name}-truncated")] = false.into();
            }
        }
        result
    };
    let modes: &[(Value, Value)] = &[
        (false.into(), results(None, None)),
        (true.into(), results(Some(&out), Some(&err))),
        ("none".into(), results(None, None)),
        ("separated".into(), results(Some(&out), Some(&err))),
        ("merged".into(), results(Some(&both), None)),
        ("stdout".into(), results(Some(&out), None)),
        ("stderr".into(), results(None, Some(&err))),
    ];
    // Words came with release 8, and two of them do damage (see the document).
    let known = if PROGRAM.is_ours() { modes.len() } else { today_or_7(5, 2) };
    assert_eq!(known == modes.len(), differs("exec-modes", true, false));
    run(&mut host, sh("exit", true));
    let before = held(&agent);
    for round in 0..30 {
        for (mode, result) in &modes[..known] {
            assert_eq!(run(&mut host, sh("echo out; echo err >&2", mode.clone())), *result, "{mode}, round {round}");
        }
    }
    at_rest(&agent, before);
    assert_eq!(agent.children(), (0, 0));
}

#[test]
fn without_capture_there_is_nothing_to_write_to_and_without_input_nothing_to_read() {
    let (agent, mut host) = agent();
    let seen = agent.dir().join("seen");
    // (The number is that of the shell, and the file is only its child's.)
    let script = format!("(for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done) >{}", seen.display());
    assert_eq!(run(&mut host, sh(&script, false)), json!({ "exitcode": 0, "exited": true }));
    let lines = fs::read_to_string(seen).unwrap();
    assert_eq!(lines, "/dev/null\n".repeat(3));
}

#[test]
fn input_is_what_the_program_reads() {
    let (_agent, mut host) = agent();
    let with = |text: &str| json!({ "path": "cat", "input-data": text });
    assert_eq!(out(&mut host, with("aGVsbG8K")), "hello\n");
    assert_eq!(out(&mut host, with("aGVs\nbG8K\n")), "hello\n");
    // A pipe at its end, and not /dev/null.
    let empty = json!({ "path": "sh", "arg": ["-c", "readlink /proc/self/fd/0; cat"], "input-data": "" });
    assert!(out(&mut host, empty).starts_with("pipe:["));
    let large = json!({ "path": "sh", "arg": ["-c", "wc -c"], "input-data": b64(vec![b'x'; 5_000_000]) });
    assert_eq!(out(&mut host, large).trim(), "5000000");
    for text in ["!!", "aGVs bG8=", "\u{e9}"] {
        let refused = error(&mut host, "guest-exec", json!({ "path": "cat", "input-data": text }));
        assert_eq!(refused, "Base64 data contains invalid characters", "{text}");
    }
}

#[test]
fn input_that_is_not_read_holds_nobody_up() {
    let (agent, mut host) = agent();
    run(&mut host, sh("exit", true));
    let before = held(&agent);
    let input = b64(vec![0; 2_000_000]);
    let unread = |script: &str| json!({ "path": "sh", "arg": ["-c", script], "input-data": input });
    for _ in 0..3 {
        assert_eq!(run(&mut host, unread("exit 3")), json!({ "exitcode": 3, "exited": true }));
    }
    // One that runs on, and never reads.
    let pid = start(&mut host, unread("exec sleep 300"));
    assert_eq!(status(&mut host, pid), json!({ "exited": false }));
    sleep(Duration::from_millis(300));
    let ticks = agent.cpu_ticks();
    sleep(Duration::from_secs(1));
    // The C agent mostly spins at full load by now and keeps the pipes of those that ended, but not always.
    let strict = differs("exec-unread-input", true, false);
    assert!(agent.cpu_ticks() - ticks < 30 || !strict);
    assert!(agent.fds() <= before.0 + 4 || !strict);
    kill(pid);
    assert_eq!(result(&mut host, pid), json!({ "signal": 9, "exited": true }));
    if PROGRAM.is_ours() {
        at_rest(&agent, before);
    }
}

#[test]
fn arguments_and_environment_are_passed_as_they_are() {
    let (_agent, mut host) = agent();
    let args = ["", "two\nlines\n", "ü € 𝄞", "a  b", "'\"\\$HOME`", "-n"];
    let given: Vec<&str> = ["%s|"].into_iter().chain(args).collect();
    let expected = args.map(|arg| format!("{arg}|")).concat();
    assert_eq!(out(&mut host, json!({ "path": "printf", "arg": given })), expected);
    let env = ["A=b", "NOEQ", "B=ü\nx", "A=c", "PATH=/usr/bin:/bin"];
    let expected = env.map(|entry| format!("{entry}\n")).concat();
    assert_eq!(out(&mut host, json!({ "path": "env", "env": env })), expected);
    assert_eq!(out(&mut host, json!({ "path": "env", "env": [] })), "");
    assert_eq!(out(&mut host, json!({ "path": "/bin/sh", "arg": ["-c", "echo $0 $1", "zero", "one"] })), "zero one\n");
}

#[test]
fn a_program_is_searched_for_in_its_own_path_or_else_in_the_agents() {
    let (agent, mut host) = agent();
    let dir = agent.dir().join("bin");
    script(&dir.join("qga-here"), "#!/bin/sh\necho here\n");
    let path = format!("PATH={}:/usr/bin:/bin", dir.display());
    assert_eq!(out(&mut host, json!({ "path": "qga-here", "env": ["X=1", path] })), "here\n");
    let absent = refusal("qga-here", "No such file or directory");
    assert_eq!(error(&mut host, "guest-exec", json!({ "path": "qga-here" })), absent);
    let elsewhere = json!({ "path": "sh", "env": [format!("PATH={}", dir.display())] });
    assert_eq!(error(&mut host, "guest-exec", elsewhere), refusal("sh", "No such file or directory"));
}

#[test]
fn an_agent_without_a_path_finds_programs_nevertheless() {
    let setup = setup();
    let here = setup.dir().to_str().unwrap().to_owned();
    script(&setup.dir().join("qga-here"), "#!/bin/sh\necho here\n");
    let agent = setup.inside(["env", "-u", "PATH", "-C", &here]).start();
    let mut host = agent.host();
    assert_eq!(out(&mut host, json!({ "path": "sh", "arg": ["-c", "echo found"] })), "found\n");
    assert_eq!(out(&mut host, json!({ "path": "echo", "arg": ["x"], "env": [] })), "x\n");
    let in_the_way = host.call("guest-exec", json!({ "path": "qga-here" })).map(|_| ()).map_err(|error| error.desc);
    let absent = refusal("qga-here", "No such file or directory");
    assert_eq!(in_the_way, differs("exec-default-path", Err(absent), Ok(())));
}

/// The error for a program that cannot be started.
fn refusal(path: &str, reason: &str) -> String {
    let reason = format!("Failed to execute child process “{path}” ({reason})");
    today_or_7(reason.clone(), format!("Guest agent command failed, error was '{reason}'"))
}

/// An executable file. Written by a shell: while we had it open, a program that another test starts at that moment
/// would have it open too, and it could not be run.
fn script(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let write = "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"";
    let status = std::process::Command::new("sh").args(["-c", write, "sh", content]).arg(path).status().unwrap();
    assert!(status.success());
}

#[test]
fn what_cannot_be_started_is_named_with_the_systems_reason() {
    let (agent, mut host) = agent();
    run(&mut host, sh("exit", true));
    let before = held(&agent);
    let dir = agent.dir().to_owned();
    fs::write(dir.join("plain"), "x").unwrap();
    fs::set_permissions(dir.join("plain"), fs::Permissions::from_mode(0o644)).unwrap();
    script(&dir.join("broken"), "#!/no/such/interpreter\n");
    for (path, reason) in [
        ("/nonexistent", "No such file or directory"),
        ("qga-no-such-program", "No such file or directory"),
        ("", "No such file or directory"),
        ("/tmp", "Permission denied"),
        (dir.join("plain").to_str().unwrap(), "Permission denied"),
        (dir.join("broken").to_str().unwrap(), "No such file or directory"),
        ("/dev/null/ü", "Not a directory"),
    ] {
        let refused = error(&mut host, "guest-exec", json!({ "path": path, "capture-output": true }));
        assert_eq!(refused, refusal(path, reason));
    }
    let long = vec!["x".repeat(100_000); 64];
    let refused = error(&mut host, "guest-exec", json!({ "path": "true", "arg": long, "input-data": "YQ==" }));
    assert_eq!(refused, refusal("true", "Argument list too long"));
    at_rest(&agent, before);
    assert_eq!(agent.children(), (0, 0));
}

#[test]
fn a_file_without_an_interpreter_line_is_a_shell_script() {
    let (agent, mut host) = agent();
    let path = agent.dir().join("script");
    script(&path, "echo \"$0 $1 $X\"\nexit 5\n");
    let arguments = json!({ "path": path, "arg": ["a b"], "env": ["X=y"], "capture-output": true });
    let expected = format!("{} a b y\n", path.display());
    let expected = json!({ "exitcode": 5, "exited": true, "out-data": b64(expected), "out-truncated": false });
    assert_eq!(run(&mut host, arguments), expected);
    let damaged = agent.dir().join("damaged");
    script(&damaged, "qga-no-such-program\n");
    assert_eq!(run(&mut host, json!({ "path": damaged })), json!({ "exitcode": 127, "exited": true }));
}

#[test]
fn a_program_is_alone_in_a_session_and_begins_afresh() {
    let (agent, mut host) = agent();
    let seen = out(&mut host, json!({ "path": "cat", "arg": ["/proc/self/stat", "/proc/self/status"] }));
    let fields: Vec<&str> = seen.lines().next().unwrap().rsplit_once(')').unwrap().1.split_whitespace().collect();
    let pid = seen.split(' ').next().unwrap();
    assert_eq!(fields[1], agent.pid().to_string());
    assert_eq!((fields[2] == pid, fields[3] == pid), differs("exec-session", (true, true), (false, false)));
    // What started these tests may ignore signals, as a shell does for what it starts in the background.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    for name in ["SigBlk:", "SigIgn:"] {
        let mask = |text: &str| {
            let mask = text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
            u64::from_str_radix(mask, 16).unwrap() & 0x7fff_ffff
        };
        let inherited = differs("exec-session", 0, mask(&own));
        assert_eq!(mask(&seen) & !inherited, 0, "{name} {seen}");
    }
    let fds = out(&mut host, json!({ "path": "ls", "arg": ["/proc/self/fd"] }));
    // The last is for the directory.
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn sixteen_mebibytes_of_a_stream_are_kept() {
    let (_agent, mut host) = agent();
    const MOST: usize = 16 << 20;
    let script = format!("head -c {MOST} /dev/zero; printf x | cat - /dev/zero | head -c {} >&2; exit 4", MOST + 1);
    let result = run(&mut host, sh(&script, true));
    assert_eq!(result["out-data"].as_str().unwrap().len(), MOST.div_ceil(3) * 4);
    assert_eq!(result["err-data"].as_str().unwrap().len(), MOST.div_ceil(3) * 4);
    assert!(result["err-data"].as_str().unwrap().starts_with("eAAA"));
    let rest = [&result["exitcode"], &result["out-truncated"], &result["err-truncated"]];
    // Release 7 marks neither.
    assert_eq!(rest, [&json!(4), &json!(false), &json!(today_or_7(true, rest[2].as_bool().unwrap()))]);
}

#[test]
fn gigabytes_of_output_are_read_and_little_of_it_is_held() {
    if !PROGRAM.is_ours() {
        return;
    }
    let (agent, mut host) = agent();
    run(&mut host, sh("exit", true));
    let before = agent.rss();
    let pid = start(&mut host, sh("head -c 2500000000 /dev/zero && exit 6", "merged"));
    let mut most = 0;
    let result = wait::until("the program ends", LONG, || {
        most = most.max(agent.rss());
        Some(status(&mut host, pid)).filter(|status| status["exited"] == true)
    });
    assert_eq!((&result["exitcode"], &result["out-truncated"]), (&json!(6), &json!(true)));
    assert!(most < before + (40 << 20), "{before} {most}");
    wait::until("memory is given back", PATIENCE, || (agent.rss() < before + (8 << 20)).then_some(()));
}

#[test]
fn a_background_process_that_holds_the_output_does_not_hide_the_end() {
    let (agent, mut host) = agent();
    let pid = start(&mut host, sh("echo mine; exec 3>&1; (exec sleep 8) & exit 2", true));
    let started = Instant::now();
    let result = result(&mut host, pid);
    let expected = json!({ "exitcode": 2, "exited": true, "out-data": b64("mine\n"), "out-truncated": false });
    assert_eq!(result, expected);
    // (A machine that stands still for seven seconds shows nothing.)
    let soon = started.elapsed() < Duration::from_secs(8);
    assert_eq!(soon, differs("exec-grandchildren", true, false));
    assert_eq!(agent.children().1, 0);
}

#[test]
fn a_background_process_that_reads_the_input_late_harms_nobody() {
    let (mut agent, mut host) = agent();
    if !PROGRAM.is_ours() {
        // It aborts.
        return;
    }
    let input = b64(vec![b'x'; 300_000]);
    for _ in 0..6 {
        let script = "(sleep 0.3; cat >/dev/null) <&0 & exit 0";
        run(&mut host, json!({ "path": "sh", "arg": ["-c", script], "input-data": input }));
    }
    sleep(Duration::from_millis(600));
    assert!(agent.runs());
    assert_eq!(out(&mut host, json!({ "path": "echo", "arg": ["still here"] })), "still here\n");
}

#[test]
fn a_short_program_is_found_ended_by_a_host_that_asks_once_and_at_once() {
    let (_agent, mut host) = agent();
    if !PROGRAM.is_ours() {
        return;
    }
    let ended = (0..50).filter(|_| {
        let pid = start(&mut host, sh("echo x", true));
        status(&mut host, pid)["exited"] == true
    });
    // All of them, but for moments at which the machine has better things to do.
    let ended = ended.count();
    assert!(ended > 10, "{ended}");
}

#[test]
fn a_host_that_asks_without_a_pause_is_slowed_down() {
    let (agent, mut host) = agent();
    let pid = start(&mut host, json!({ "path": "sleep", "arg": ["1"], "input-data": "" }));
    let started = Instant::now();
    let mut asked = 0;
    while status(&mut host, pid)["exited"] == false {
        asked += 1;
    }
    let most = started.elapsed().as_millis() / 20;
    assert_eq!(asked <= most + 1, differs("exec-status-waits", true, false), "{asked} {most}");
    assert_eq!(agent.children(), (0, 0));
}

#[test]
fn an_agent_whose_programs_are_silent_sleeps() {
    if !PROGRAM.is_ours() {
        return;
    }
    let (agent, mut host) = agent();
    let input = b64(vec![0; 300_000]);
    let silent = json!({ "path": "sleep", "arg": ["300"], "capture-output": true, "input-data": input });
    let pids: Vec<i64> = (0..5).map(|_| start(&mut host, silent.clone())).collect();
    // The worker of the conversation has ended by then.
    wait::until("one more thread than without programs", PATIENCE, || (agent.threads() == 2).then_some(()));
    let before = agent.wake_ups();
    sleep(Duration::from_secs(2));
    assert_eq!(agent.wake_ups() - before, 0);
    for pid in pids {
        kill(pid);
        assert_eq!(result(&mut host, pid), json!({ "signal": 9, "exited": true }));
    }
    wait::until("no more threads than without programs", PATIENCE, || (agent.threads() == 1).then_some(()));
}

#[test]
fn an_agent_that_was_started_deaf_to_the_end_of_children_hears_of_it() {
    if !PROGRAM.is_ours() {
        return;
    }
    let agent = setup().inside(["env", "--ignore-signal=CHLD"]).start();
    let result = run(&mut agent.host(), sh("exit 9", false));
    assert_eq!(result, json!({ "exitcode": 9, "exited": true }));
    assert_eq!(agent.children(), (0, 0));
}

#[test]
fn a_result_waits_for_a_host_that_comes_back() {
    let (agent, mut host) = agent();
    let pid = start(&mut host, sh("echo kept", true));
    drop(host);
    let mut host = agent.host();
    let expected = json!({ "exitcode": 0, "exited": true, "out-data": b64("kept\n"), "out-truncated": false });
    assert_eq!(result(&mut host, pid), expected);
}

#[test]
fn ten_thousand_results_that_nobody_fetches_take_little() {
    if !PROGRAM.is_ours() {
        return;
    }
    let (agent, mut host) = agent();
    run(&mut host, sh("exit", true));
    let (before, memory) = (held(&agent), agent.rss());
    let many = json!({ "path": "/bin/echo", "arg": ["x".repeat(2000)], "capture-output": true });
    let mut pids = Vec::new();
    let mut most = 0;
    for round in 0..10_000 {
        pids.push(start(&mut host, many.clone()));
        if round % 100 == 0 {
            most = most.max(agent.rss());
        }
    }
    wait::until("all have ended and been reaped", LONG, || (agent.children() == (0, 0)).then_some(()));
    at_rest(&agent, before);
    most = most.max(agent.rss());
    assert!(most < memory + (20 << 20), "{memory} {most}");
    // The last are there, the first are not, and a number that came again is the last one's, which is asked first.
    let kept: Vec<bool> = pids
        .iter()
        .rev()
        .map(|pid| host.call("guest-exec-status", json!({ "pid": pid })).is_ok_and(|status| status["exited"] == true))
        .collect();
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 1000);
    assert!(kept[..900].iter().filter(|kept| **kept).count() > 800);
}

#[test]
fn too_many_running_programs_are_refused_and_none_is_lost() {
    if !PROGRAM.is_ours() {
        return;
    }
    let (agent, mut host) = agent();
    run(&mut host, sh("exit", true));
    let before = held(&agent);
    let sleeper = json!({ "path": "sleep", "arg": ["300"], "capture-output": true });
    let mut pids = Vec::new();
    let refused = loop {
        match host.call("guest-exec", sleeper.clone()) {
            Ok(reply) => pids.push(reply["pid"].as_i64().unwrap()),
            Err(error) => break error.desc,
        }
        assert!(pids.len() < 1000);
    };
    assert_eq!(refused, format!("{} programs started by guest-exec are still running, which is the limit", pids.len()));
    assert!(pids.len() >= 100);
    for pid in &pids {
        kill(*pid);
    }
    for pid in pids {
        assert_eq!(result(&mut host, pid), json!({ "signal": 9, "exited": true }));
    }
    at_rest(&agent, before);
}

#[test]
fn the_log_has_the_program_and_not_its_arguments() {
    if !PROGRAM.is_ours() {
        return;
    }
    let setup = setup();
    let log = setup.dir().join("log");
    let agent = setup.arg("-v").arg("-l").arg(log.clone()).start();
    let mut host = agent.host();
    let arguments =
        json!({ "path": "/bin/echo", "arg": ["geheim", "zwei"], "env": ["P=geheim"], "input-data": b64("geheim") });
    run(&mut host, arguments);
    error(&mut host, "guest-exec", json!({ "path": "/no\nforged line" }));
    let text = wait::until("both are in the log", PATIENCE, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.contains("forged").then_some(text)
    });
    assert!(text.contains("guest-exec called: \"/bin/echo\" with 2 arguments\n"), "{text}");
    assert!(!text.contains("geheim") && !text.contains(&b64("geheim")), "{text}");
    assert!(!text.contains("\nforged"), "{text}");
}
