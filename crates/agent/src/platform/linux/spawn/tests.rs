use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::child::tests::write_program;
use super::*;

const NONE: Program<'_> = Program { path: "/bin/sh", args: &[], env: None, capture: CaptureOutput::None, input: false };

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn wait(child: &Child) -> ExitStatus {
    let (_, status) = waitpid(Some(child.pid()), WaitOptions::empty()).unwrap().unwrap();
    ExitStatus::from_raw(status.as_raw())
}

/// Runs a program to its end: exit status, standard output, standard error.
fn run(program: Program<'_>) -> (Option<i32>, String, String) {
    let mut started = program.start().unwrap();
    drop(started.input.take());
    let read = |pipe: Option<Pipe>| {
        let mut text = String::new();
        if let Some(Pipe { fd, .. }) = pipe {
            ioctl_fionbio(&fd, false).unwrap();
            fs::File::from(fd).read_to_string(&mut text).unwrap();
        }
        text
    };
    let (out, err) = (read(started.out), read(started.err));
    (wait(&started.child).code(), out, err)
}

fn sh(script: &str, capture: CaptureOutput) -> (Option<i32>, String, String) {
    run(Program { args: &strings(&["-c", script]), capture, ..NONE })
}

fn out(path: &str, args: &[&str], env: Option<&[&str]>) -> String {
    let env = env.map(strings);
    let program = Program { path, args: &strings(args), env: env.as_deref(), capture: CaptureOutput::Stdout, ..NONE };
    run(program).1
}

fn refusal(path: &str, args: &[String], env: Option<&[String]>) -> String {
    Program { path, args, env, ..NONE }.start().unwrap_err().desc.into_owned()
}

#[test]
fn every_mode_has_the_streams_it_names() {
    let script = "echo out; echo err >&2; readlink /proc/self/fd/0; exit 7";
    let both = "out\n/dev/null\n".to_owned();
    let err = "err\n".to_owned();
    let merged = "out\nerr\n/dev/null\n".to_owned();
    for (capture, out, err) in [
        (CaptureOutput::None, String::new(), String::new()),
        (CaptureOutput::Stdout, both.clone(), String::new()),
        (CaptureOutput::Stderr, String::new(), err.clone()),
        (CaptureOutput::Separated, both, err),
        (CaptureOutput::Merged, merged, String::new()),
    ] {
        for _ in 0..3 {
            assert_eq!(sh(script, capture), (Some(7), out.clone(), err.clone()), "{capture:?}");
        }
    }
}

#[test]
fn a_mode_makes_no_pipe_that_it_does_not_need() {
    for (capture, input, pipes) in [
        (CaptureOutput::None, false, 0),
        (CaptureOutput::None, true, 1),
        (CaptureOutput::Stdout, false, 1),
        (CaptureOutput::Stderr, false, 1),
        (CaptureOutput::Merged, true, 2),
        (CaptureOutput::Separated, true, 3),
    ] {
        let program = Program { args: &strings(&["-c", "exit"]), capture, input, ..NONE };
        assert_eq!(program.descriptors(), pipes + 1);
        let started = program.start().unwrap();
        let made = [&started.input, &started.out, &started.err].into_iter().flatten();
        for pipe in made.clone() {
            assert!(rustix::io::fcntl_getfd(pipe).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
        assert_eq!(made.count(), pipes, "{capture:?}");
        wait(&started.child);
    }
}

#[test]
fn a_program_has_no_other_descriptors_and_a_session_of_its_own() {
    // One that is passed on to children, as an agent may have been started with.
    let file = fs::File::open("/dev/null").unwrap();
    let passed_on = rustix::io::fcntl_dupfd_cloexec(&file, 60).unwrap();
    rustix::io::fcntl_setfd(&passed_on, rustix::io::FdFlags::empty()).unwrap();
    let (_, seen, _) = sh("cd /proc/$$/fd && echo *; cat /proc/$$/stat; echo $$", CaptureOutput::Stdout);
    let lines: Vec<&str> = seen.lines().collect();
    // The fourth is for listing them.
    assert!(["0 1 2", "0 1 2 3"].contains(&lines[0]), "{seen}");
    let fields: Vec<&str> = lines[1].rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Process group and session.
    assert_eq!((fields[2], fields[3]), (lines[2], lines[2]), "{seen}");
}

#[test]
fn signals_have_their_default_and_none_is_blocked() {
    let (_, status, _) = sh("cat /proc/self/status", CaptureOutput::Stdout);
    for name in ["SigBlk:", "SigIgn:"] {
        let mask = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        // (32 and 33 are the C library's.)
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap() & !(3 << 31);
        assert_eq!(mask, 0, "{name}");
    }
}

#[test]
fn arguments_are_passed_as_they_are() {
    let args = ["", "two\nlines\n", "ü € 𝄞", "a  b", "'\"\\$HOME`", "-n"];
    let given: Vec<&str> = ["%s|"].into_iter().chain(args).collect();
    assert_eq!(out("printf", &given, None), args.map(|arg| format!("{arg}|")).concat());
    // The program's own name is the path as it was given.
    assert_eq!(out("sh", &["-c", "tr '\\0' ' ' </proc/$$/cmdline"], None), "sh -c tr '\\0' ' ' </proc/$$/cmdline ");
}

#[test]
fn an_environment_is_replaced_whole_and_as_it_is() {
    let env = ["B=2", "NOEQ", "A=b", "A=c", "Ü=\n", "PATH=/usr/bin:/bin", "=x"];
    assert_eq!(out("env", &["-0"], Some(&env)), env.map(|entry| format!("{entry}\0")).concat());
    assert_eq!(out("/usr/bin/env", &[], Some(&[])), "");
    let own = out("env", &["-0"], None);
    let home = format!("PATH={}\0", env::var("PATH").unwrap());
    assert!(own.contains(&home), "{own}");
}

#[test]
fn a_name_is_searched_for_in_its_own_path_then_in_ours_then_where_programs_usually_are() {
    let files = |path: &str, env: Option<&[&str]>, own: Option<&str>| {
        let env = env.map(strings);
        let program = Program { path, env: env.as_deref(), ..NONE };
        let files = program.files(own.map(OsStr::new));
        files.into_iter().map(|file| file.into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(files("/a/b", Some(&["PATH=/x"]), Some("/y")), ["/a/b"]);
    assert_eq!(files("./b", None, Some("/y")), ["./b"]);
    assert_eq!(files("", None, Some("/y")), [""]);
    assert_eq!(files("b", None, Some("/y:/z")), ["/y/b", "/z/b"]);
    assert_eq!(files("b", Some(&["A=1", "PATH=/x::/w", "PATH=/v"]), Some("/y")), ["/x/b", "./b", "/w/b"]);
    assert_eq!(files("b", Some(&["APATH=/x", "PATH"]), Some("/y")), ["/y/b"]);
    assert_eq!(files("b", Some(&[]), None)[3..], ["/usr/bin/b", "/sbin/b", "/bin/b"]);
}

#[test]
fn a_name_that_may_not_be_run_in_one_directory_is_found_in_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).join("qga-prog");
    fs::create_dir_all(place("directory")).unwrap();
    fs::create_dir_all(dir.path().join("plain")).unwrap();
    fs::write(place("plain"), "x").unwrap();
    write_program(&place("broken"), "#!/no/such/interpreter\n");
    write_program(&place("good"), "#!/bin/sh\necho good\n");
    let path = |dirs: &[&str]| {
        let dirs: Vec<PathBuf> = dirs.iter().map(|name| dir.path().join(name)).collect();
        format!("PATH={}", env::join_paths(dirs).unwrap().into_string().unwrap())
    };
    assert_eq!(out("qga-prog", &[], Some(&[&path(&["none", "directory", "plain", "broken", "good"])])), "good\n");
    let refused = refusal("qga-prog", &[], Some(&[path(&["plain", "none"])]));
    assert_eq!(refused, "Failed to execute child process “qga-prog” (Permission denied)");
    let absent = refusal("qga-prog", &[], Some(&[path(&["none", "nowhere"])]));
    assert_eq!(absent, "Failed to execute child process “qga-prog” (No such file or directory)");
}

#[test]
fn what_cannot_be_started_is_named_with_the_systems_reason() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "x").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let script = dir.path().join("ümläut \n“script”");
    write_program(&script, "#!/no/such/interpreter\n");
    for (path, why) in [
        ("", "No such file or directory"),
        ("/nonexistent", "No such file or directory"),
        ("qga-no-such-program", "No such file or directory"),
        ("/tmp", "Permission denied"),
        (plain.to_str().unwrap(), "Permission denied"),
        ("/dev/null/x", "Not a directory"),
        (script.to_str().unwrap(), "No such file or directory"),
        ("/bin/s\0h", "No such file or directory"),
    ] {
        assert_eq!(refusal(path, &[], None), format!("Failed to execute child process “{path}” ({why})"));
    }
    let long = vec!["x".repeat(100_000); 64];
    assert_eq!(refusal("true", &long, None), "Failed to execute child process “true” (Argument list too long)");
    let nul = strings(&["a\0b"]);
    assert_eq!(refusal("true", &nul, None), "Failed to execute child process “true” (Invalid argument)");
    assert_eq!(refusal("true", &[], Some(&nul)), "Failed to execute child process “true” (Invalid argument)");
}

#[test]
fn a_file_that_the_kernel_cannot_run_is_given_to_the_shell() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    write_program(&script, "echo \"$0 $1 $2 $VAR\"\n");
    let path = script.to_str().unwrap();
    let env = strings(&["VAR=v"]);
    let program =
        Program { path, args: &strings(&["a b", "c"]), env: Some(&env), capture: CaptureOutput::Stdout, input: false };
    assert_eq!(run(program).1, format!("{path} a b c v\n"));
    // Found in PATH as well, and then with the whole path as its name.
    let search = format!("PATH={}", dir.path().display());
    assert_eq!(out("script", &["a", "b"], Some(&[&search, "VAR=w"])), format!("{path} a b w\n"));
    let damaged = dir.path().join("damaged");
    write_program(&damaged, "this-is-no-program\n");
    assert_eq!(run(Program { path: damaged.to_str().unwrap(), ..NONE }).0, Some(127));
}

#[test]
fn the_end_of_a_process_can_be_waited_for() {
    let mut started = Program { args: &strings(&["-c", "read line"]), input: true, ..NONE }.start().unwrap();
    // Kernels before 5.3 have none.
    if let Some(pidfd) = &started.pidfd {
        let ended = |wait: Duration| {
            let mut fds = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&wait.try_into().unwrap())).unwrap() == 1
        };
        assert!(!ended(Duration::ZERO));
        drop(started.input.take());
        assert!(ended(Duration::from_secs(60)));
    }
    drop(started.input.take());
    wait(&started.child);
}

#[test]
fn our_end_of_a_pipe_never_blocks() {
    let program = Program { args: &strings(&["-c", "read line; exec sleep 60"]), input: true, ..NONE };
    let mut started = Program { capture: CaptureOutput::Stdout, ..program }.start().unwrap();
    let (input, out) = (started.input.take().unwrap(), started.out.take().unwrap());
    assert_eq!(out.read(&mut [0; 16]), Flow::Later);
    let until = Instant::now() + Duration::from_secs(60);
    let mut taken = 0;
    loop {
        match input.write(&[b'x'; 4096]) {
            Flow::Bytes(count) => taken += count,
            Flow::Later => break,
            Flow::Over => panic!("closed"),
        }
        assert!(Instant::now() < until);
    }
    assert!(taken >= 4096);
    rustix::process::kill_process(started.child.pid(), rustix::process::Signal::KILL).unwrap();
    wait(&started.child);
    // A child that another test starts at this moment has copies of the other ends until it is itself.
    while (input.write(b"x"), out.read(&mut [0; 16])) != (Flow::Over, Flow::Over) {
        assert!(Instant::now() < until);
    }
}

#[test]
fn a_widened_pipe_holds_what_the_program_writes_without_being_read_from() {
    let args = strings(&["-c", "head -c 400000 /dev/zero"]);
    let mut started = Program { args: &args, capture: CaptureOutput::Stdout, ..NONE }.start().unwrap();
    let pipe = started.out.as_mut().unwrap();
    let usual = rustix::pipe::fcntl_getpipe_size(&pipe.fd).unwrap();
    pipe.widen();
    if rustix::pipe::fcntl_getpipe_size(&pipe.fd).unwrap() == usual {
        eprintln!("SKIPPED: the system allows no wider pipes");
        return child::kill_and_reap(started.child.pid());
    }
    // It would wait for ever in a usual one.
    assert_eq!(wait(&started.child).code(), Some(0));
}
