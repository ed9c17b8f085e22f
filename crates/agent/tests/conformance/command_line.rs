//! Options, the configuration file, and how the agent ends when it cannot start.

use std::ffi::OsStr;
use std::fs;
use std::process::Output;

use qga_testkit::Kind;
use tempfile::TempDir;

use crate::differences::{differs, today_or_7};
use crate::{PROGRAM, info};

fn run(args: &[&str]) -> Output {
    with_conf(args, OsStr::new("/nonexistent/qemu-ga.conf"))
}

fn with_conf(args: &[&str], conf: &OsStr) -> Output {
    PROGRAM.run(args, &[("QGA_CONF", conf)])
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn dumped(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

/// The value of a key in a dumped configuration.
fn value<'a>(dump: &'a str, key: &str) -> Option<&'a str> {
    dump.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Names of a list in any order: the C agent turns each list round.
fn names(list: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = list.unwrap_or_default().split(',').map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn the_version_and_the_usage_are_printed_and_all_is_well() {
    for option in ["-V", "--version"] {
        let output = run(&[option]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).starts_with("QEMU Guest Agent "), "{}", stdout(&output));
        assert_eq!(stderr(&output), "");
    }
    for option in ["-h", "--help"] {
        let output = run(&[option]);
        assert_eq!(output.status.code(), Some(0));
        let usage = stdout(&output);
        assert!(usage.starts_with("Usage: "), "{usage}");
        assert!(usage.lines().next().unwrap().ends_with("[-m <method> -p <path>] [<options>]"), "{usage}");
        for option in ["--method", "--path", "--logfile", "--pidfile", "--fsfreeze-hook", "--statedir", "--verbose"] {
            assert!(usage.contains(option), "{option} is not in the usage");
        }
    }
    // What comes first counts.
    assert!(stdout(&run(&["-h", "-V"])).starts_with("Usage: "));
    assert!(stdout(&run(&["-V", "-h"])).starts_with("QEMU Guest Agent "));
}

#[test]
fn a_bad_option_is_refused() {
    for args in [&["-Z"][..], &["--bogus"], &["-m"], &["--help=x"], &["--path"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn the_default_configuration_is_dumped_in_the_order_of_its_keys() {
    let dump = dumped(&["-D"]);
    let mut expected = "[general]\ndaemon=false\nmethod=virtio-serial\npath=/dev/virtio-ports/org.qemu.guest_agent.0\n\
                        pidfile=PIDFILE\nstatedir=STATEDIR\nverbose=false\nretry-path=false\nblock-rpcs=\n\
                        allow-rpcs=\n"
        .replace("PIDFILE", value(&dump, "pidfile").unwrap())
        .replace("STATEDIR", value(&dump, "statedir").unwrap());
    if !dump.contains("allow-rpcs") {
        // It came after 7.2.
        expected = today_or_7(expected.clone(), expected.replace("allow-rpcs=\n", ""));
    }
    assert_eq!(dump, expected);
    assert!(value(&dump, "pidfile").unwrap().ends_with("/run/qemu-ga.pid"));
    assert!(value(&dump, "statedir").unwrap().ends_with("/run"));
}

#[test]
fn every_option_shows_in_the_dump() {
    let dump = dumped(&[
        "-m",
        "unix-listen",
        "-p",
        "/tmp/s",
        "-l",
        "/tmp/l",
        "-f",
        "/tmp/p",
        "-F/tmp/h",
        "-t",
        "/tmp/t",
        "-v",
        "-d",
        "-r",
        "-b",
        "guest-ping,guest-info",
        "-b",
        "guest-sync",
        "-D",
    ]);
    for (key, expected) in [
        ("daemon", "true"),
        ("method", "unix-listen"),
        ("path", "/tmp/s"),
        ("logfile", "/tmp/l"),
        ("pidfile", "/tmp/p"),
        ("fsfreeze-hook", "/tmp/h"),
        ("statedir", "/tmp/t"),
        ("verbose", "true"),
        ("retry-path", "true"),
    ] {
        assert_eq!(value(&dump, key), Some(expected), "{key} in {dump}");
    }
    assert_eq!(names(value(&dump, "block-rpcs")), ["guest-info", "guest-ping", "guest-sync"]);
    let long = dumped(&[
        "--method=unix-listen",
        "--path",
        "/tmp/s",
        "--logfile=/tmp/l",
        "--pidfile=/tmp/p",
        "--fsfreeze-hook=/tmp/h",
        "--statedir=/tmp/t",
        "--verbose",
        "--daemonize",
        "--retry-path",
        "--block-rpcs=guest-ping,guest-info",
        "--block-rpcs",
        "guest-sync",
        "--dump-conf",
    ]);
    assert_eq!(long, dump);
}

#[test]
fn options_may_be_joined_shortened_and_mixed_with_operands() {
    let dump = dumped(&["-vdr", "operand", "--stated", "/tmp/t", "-p/tmp/p", "-D", "--", "-Z"]);
    for (key, expected) in [("verbose", "true"), ("daemon", "true"), ("retry-path", "true"), ("statedir", "/tmp/t")] {
        assert_eq!(value(&dump, key), Some(expected), "{key} in {dump}");
    }
    assert_eq!(value(&dump, "path"), Some("/tmp/p"));
}

#[test]
fn the_hook_has_a_default_that_a_separate_word_does_not_replace() {
    let dump = dumped(&["-F", "/tmp/ignored", "-D"]);
    assert!(value(&dump, "fsfreeze-hook").unwrap().ends_with("/qemu/fsfreeze-hook"), "{dump}");
}

#[test]
fn the_command_line_wins_over_the_file_and_lists_add_up() {
    let dir = TempDir::new().unwrap();
    let conf = dir.path().join("conf");
    fs::write(
        &conf,
        "# a comment\n\n[other]\nmethod=x\n[general]\n  method = isa-serial\npath=/dev/ttyS9\nverbose=1\nstatedir=/tmp/a\\sb\n\
         block-rpcs=guest-ping\nunknown=1\n",
    )
    .unwrap();
    let args = ["-p", "/dev/ttyS7", "-b", "guest-info", "-D"];
    let output = with_conf(&args, conf.as_os_str());
    let dump = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(value(&dump, "method"), Some("isa-serial"));
    assert_eq!(value(&dump, "path"), Some("/dev/ttyS7"));
    assert_eq!(value(&dump, "verbose"), Some("true"));
    assert_eq!(value(&dump, "statedir"), Some("/tmp/a b"));
    assert_eq!(names(value(&dump, "block-rpcs")), ["guest-info", "guest-ping"]);
    // The option, which came after 7.2, wins over the variable.
    if matches!(PROGRAM.kind(), Kind::C(..8)) {
        return;
    }
    let other = dir.path().join("other");
    fs::write(&other, "[general]\nmethod=isa-serial\npath=/other\n").unwrap();
    let output = with_conf(&["-c", other.to_str().unwrap(), "-D"], conf.as_os_str());
    assert_eq!(value(&stdout(&output), "path"), Some("/other"));
}

#[test]
fn a_dumped_configuration_can_be_read_again() {
    let dir = TempDir::new().unwrap();
    let conf = dir.path().join("conf");
    let first = dumped(&["-m", "unix-listen", "-p", "/tmp/a\\b", "-b", "guest-ping,guest-info", "-t", "/tmp/t", "-D"]);
    fs::write(&conf, &first).unwrap();
    let again = stdout(&with_conf(&["-D"], conf.as_os_str()));
    assert_eq!(value(&again, "path"), Some("/tmp/a\\\\b"));
    assert_eq!(value(&again, "method"), Some("unix-listen"));
    assert_eq!(names(value(&again, "block-rpcs")), ["guest-info", "guest-ping"]);
}

#[test]
fn a_file_that_cannot_be_understood_is_refused() {
    let dir = TempDir::new().unwrap();
    let conf = dir.path().join("conf");
    for text in [
        "verbose=true\n",
        "[general]\nverbose\n",
        "[general]\nverbose=yes\n",
        "[general]\ndaemon=True\n",
        "[general]\n; comment\n",
        "[general]\npath=/tmp/\\x\n",
    ] {
        fs::write(&conf, text).unwrap();
        let output = with_conf(&["-D"], conf.as_os_str());
        assert_eq!(output.status.code(), Some(1), "{text}: {}", stdout(&output));
        let complaint = stderr(&output);
        assert!(
            complaint.contains(&format!("error loading configuration from path: {}", conf.display())),
            "{complaint}"
        );
    }
    let output = with_conf(&["-D"], dir.path().as_os_str());
    assert_eq!(output.status.code(), Some(1), "a directory");
}

#[test]
fn a_file_that_is_missing_matters_only_when_it_was_asked_for() {
    assert_eq!(run(&["-D"]).status.code(), Some(0));
    let output = run(&["-c", "/nonexistent/conf", "-D"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        matches!(PROGRAM.kind(), Kind::C(..8)) || stderr(&output).contains("/nonexistent/conf"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_agent_that_cannot_start_says_why() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (state, socket) = (path(""), path("socket"));
    let long = format!("/tmp/{}", "x".repeat(110));
    for (args, complaint) in [
        (vec!["-m", "unix-listen"], "must specify a path for this channel"),
        (vec!["-m", "bogus", "-p", &socket], "unsupported channel method/type: bogus"),
        (vec!["-m", "virtio-serial", "-p", "/nonexistent/port"], "/nonexistent/port"),
        (vec!["-m", "isa-serial", "-p", "/nonexistent/tty"], "/nonexistent/tty"),
        (vec!["-m", "unix-listen", "-p", "/nonexistent/socket"], "/nonexistent/socket"),
        (vec!["-m", "unix-listen", "-p", &long], "too long"),
        (vec!["-m", "unix-listen", "-p", &socket, "-l", "/nonexistent/log"], "unable to open specified log file"),
        (vec!["-m", "unix-listen", "-p", &socket, "-t", "/nonexistent/state"], "/nonexistent/state"),
    ] {
        let mut all = vec!["-t", &state];
        all.extend(&args);
        let output = run(&all);
        // Release 7.2 gave 0 when it could not open its log or its state.
        let code = if args.iter().any(|arg| ["-l", "-t"].contains(arg)) { today_or_7(1, 0) } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(complaint), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn help_as_a_list_names_every_command() {
    for word in ["help", "?"] {
        let output = run(&["-b", word]);
        assert_eq!(output.status.code(), Some(0));
        let listed = stdout(&output);
        let known: Vec<&str> = listed.lines().filter(|name| info::FOUNDING.contains(name)).collect();
        let mut schema_order = info::FOUNDING.to_vec();
        schema_order.reverse();
        let mut expected = known.clone();
        expected.sort_by_key(|name| schema_order.iter().position(|known| known == name));
        assert_eq!(known.len(), info::FOUNDING.len(), "{listed}");
        if !matches!(PROGRAM.kind(), Kind::C(..8)) {
            assert_eq!(known, expected);
        }
    }
}

#[test]
fn a_pid_file_that_is_not_ours_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let pid_file = dir.path().join("pid");
    fs::write(&pid_file, "1\n").unwrap();
    let pid = pid_file.to_str().unwrap();
    run(&["-d", "-D", "-f", pid]);
    assert_eq!(pid_file.exists(), differs("pidfile-others", true, false));
}
