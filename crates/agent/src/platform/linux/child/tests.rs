use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn sh<'a>(args: &'a [&'a OsStr]) -> Command<'a> {
    Command { program: Path::new("/bin/sh"), args, input: None, deadline: LONG, action: "do it" }
}

fn run_sh(script: &str) -> Result<Outcome> {
    sh(&[OsStr::new("-c"), OsStr::new(script)]).outcome()
}

/// Writes an executable script for a test. A shell does it: while *we* had it open for writing, a child that another
/// test starts at that moment would have it open too, and running it would fail with "Text file busy".
pub(crate) fn write_program(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let script = "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"";
    let status = process::Command::new("/bin/sh").args(["-c", script, "sh", content]).arg(path).status().unwrap();
    assert!(status.success());
}

fn program(dir: &tempfile::TempDir, content: &str) -> PathBuf {
    let path = dir.path().join("program");
    write_program(&path, content);
    path
}

fn fails_with(result: Result<()>, desc: &str) {
    assert_eq!(result.unwrap_err().desc, desc);
}

#[test]
fn every_way_to_end_has_the_text_that_hosts_know() {
    for (script, desc) in [
        ("exit 0", None),
        ("echo warn >&2; exit 0", None),
        ("echo bad thing; exit 3", Some("child process has failed to do it: bad thing\n")),
        ("printf out; printf err >&2; exit 1", Some("child process has failed to do it: outerr")),
        ("printf 'ab\\0cd'; exit 1", Some("child process has failed to do it: ab")),
        ("printf '\\0cd'; exit 4", Some("child process has failed to do it: exit status 4")),
        ("exit 3", Some("child process has failed to do it: exit status 3")),
        ("kill -TERM $$", Some("child process has terminated abnormally")),
        ("echo half; kill -KILL $$", Some("child process has terminated abnormally: half\n")),
    ] {
        let result = sh(&[OsStr::new("-c"), OsStr::new(script)]).run();
        assert_eq!(result.err().map(|e| e.desc.into_owned()), desc.map(str::to_owned), "{script}");
    }
}

#[test]
fn a_program_that_cannot_be_started_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "x").unwrap();
    for (path, why) in [
        (dir.path().join("absent"), "No such file or directory"),
        (dir.path().to_path_buf(), "Permission denied"),
        (plain, "Permission denied"),
    ] {
        let command = Command { program: &path, ..sh(&[]) };
        let desc = format!("child process has failed to do it: failed to exec '{}': {why}\n", path.display());
        fails_with(command.run(), &desc);
    }
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_the_shell_with_its_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let path = program(&dir, "echo \"$1\"\nexit 5\n");
    let args = [OsStr::new("freeze")];
    let outcome = Command { program: &path, args: &args, ..sh(&[]) }.outcome().unwrap();
    assert_eq!(outcome, Outcome { end: End::Exited(5), output: b"freeze\n".to_vec() });
}

#[test]
fn standard_input_is_empty_unless_something_is_given() {
    assert_eq!(run_sh("cat; readlink /proc/self/fd/0").unwrap().output, b"/dev/null\n");
    let args = [OsStr::new("-c"), OsStr::new("cat; echo .")];
    let fed = Command { input: Some(b"secret"), ..sh(&args) };
    assert_eq!(fed.outcome().unwrap().output, b"secret.\n");
}

#[test]
fn more_input_and_output_than_a_pipe_holds_does_not_deadlock() {
    let input: Vec<u8> = (0..1 << 20).map(|i| b'a' + (i % 26) as u8).collect();
    let args = [OsStr::new("-c"), OsStr::new("exec cat")];
    let outcome = Command { input: Some(&input), ..sh(&args) }.outcome().unwrap();
    assert_eq!(outcome.end, End::Exited(0));
    assert_eq!(outcome.output.len(), OUTPUT_KEPT);
    assert_eq!(outcome.output, input[..OUTPUT_KEPT]);
}

#[test]
fn a_program_that_does_not_read_its_input_is_reaped_and_told_of() {
    let input = vec![0; 1 << 20];
    let args = [OsStr::new("-c"), OsStr::new("exec <&-; exit 0")];
    let command = Command { input: Some(&input), ..sh(&args) };
    fails_with(command.run(), "do it: cannot write to stdin pipe: Broken pipe");
    // Its own failure is the better story.
    let args = [OsStr::new("-c"), OsStr::new("echo refused; exit 2")];
    let command = Command { input: Some(&input), ..sh(&args) };
    fails_with(command.run(), "child process has failed to do it: refused\n");
}

#[test]
fn endless_output_is_read_away_and_only_its_start_is_kept() {
    let outcome = run_sh("i=0; while [ $i -lt 3000 ]; do printf '%0100d' 7; i=$((i+1)); done; exit 1").unwrap();
    assert_eq!(outcome.output.len(), OUTPUT_KEPT);
    assert_eq!(outcome.end, End::Exited(1));
}

#[test]
fn the_child_leads_a_session_and_a_group_of_its_own() {
    // What the child sees of itself: process, group and session number are fields 1, 5 and 6.
    let outcome = run_sh("read -r line < /proc/$$/stat; set -- $line; echo $1 $5 $6").unwrap();
    let text = outcome.text();
    let numbers: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(numbers.len(), 3, "{text}");
    assert!(numbers.iter().all(|n| *n == numbers[0]), "{text}");
}

#[test]
fn the_child_has_no_descriptor_but_the_standard_ones() {
    // One that would be inherited, as a careless library might leave it.
    let leaked = fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let text = run_sh("ls /proc/$$/fd").unwrap().text();
    let fds: Vec<i32> = text.split_whitespace().map(|fd| fd.parse().unwrap()).collect();
    assert!(fds.starts_with(&[0, 1, 2]), "{text}");
    // (A shell may have one of its own above 2; ours it must not have.)
    assert!(!fds.contains(&leaked.as_raw_fd()), "{text}");
}

#[test]
fn a_background_process_that_keeps_the_pipe_does_not_hold_us() {
    let began = Instant::now();
    let outcome = run_sh("sleep 30 & echo $!; exit 0").unwrap();
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_eq!(outcome.end, End::Exited(0));
    // It is left alone; the test ends it.
    let pid = Pid::from_raw(outcome.text().trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn output_written_just_before_the_end_is_not_lost() {
    for _ in 0..20 {
        assert_eq!(run_sh("(sleep 2; :) & printf '%0500d' 1; exit 1").unwrap().output.len(), 500);
    }
}

#[test]
fn at_the_deadline_the_whole_group_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = format!("sleep 60 & echo $$ $! > {}; wait", pids.display());
    let args = [OsStr::new("-c"), OsStr::new(&script)];
    // Long enough for a busy machine to start a shell.
    let command = Command { deadline: Duration::from_secs(2), ..sh(&args) };
    let desc = "child process has failed to do it: '/bin/sh' did not end within 2 seconds and was killed";
    fails_with(command.run(), desc);
    let pids = fs::read_to_string(pids).unwrap();
    for pid in pids.split_whitespace() {
        let gone = || match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let until = Instant::now() + Duration::from_secs(20);
        while !gone() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(gone(), "{pid} is still there");
    }
    // The child itself has been reaped.
    assert!(!Path::new("/proc").join(pids.split_whitespace().next().unwrap()).exists());
}

#[test]
fn kernels_without_process_descriptors_are_asked_again_and_again() {
    let args = [OsStr::new("-c"), OsStr::new("exec >&- 2>&-; sleep 0.1; exit 7")];
    let command = sh(&args);
    let mut run = command.start(None).unwrap();
    run.pidfd = None;
    assert_eq!(run.finish(None).unwrap(), Outcome { end: End::Exited(7), output: Vec::new() });
}

#[test]
fn a_clean_environment_has_nothing_of_ours() {
    let outcome = sh(&[OsStr::new("-c"), OsStr::new("/usr/bin/env")]).outcome_clean().unwrap();
    // The shell itself adds these.
    let own = ["PWD", "SHLVL", "_", "OLDPWD"];
    let mut names: Vec<String> =
        outcome.text().lines().map(|line| line.split('=').next().unwrap().to_owned()).collect();
    names.retain(|name| !own.contains(&name.as_str()));
    names.sort();
    assert_eq!(names, ["LC_ALL", "PATH"]);
    assert!(std::env::vars().count() > 2);
}

#[test]
fn a_program_that_nobody_waits_for_any_more_is_killed() {
    let asked = std::cell::Cell::new(0);
    let give_up = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let since = Instant::now();
    let error = sh(&[OsStr::new("-c"), OsStr::new("sleep 1000; echo")]).outcome_unless(&give_up).unwrap_err();
    assert_eq!(error.desc, "child process has failed to do it: '/bin/sh' was given up and killed");
    assert!(since.elapsed() < LONG);
    assert_eq!(sh(&[OsStr::new("-c"), OsStr::new("exit 3")]).outcome_unless(&|| false).unwrap().end, End::Exited(3));
}
