//! `qga exec` and `qga shell` against real agents on this machine: ours and, where it is installed, the C one.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use qga_testkit::{Program, Setup, TestAgent, skip, wait};
use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};
use serde_json::Value;

/// Time for everything that is expected to come.
const ENOUGH: Duration = Duration::from_secs(60);

/// The programs of each agent there is.
fn programs(test: &str) -> Vec<Program> {
    Program::each(test, &Path::new(env!("CARGO_BIN_EXE_qga")).with_file_name("qemu-ga"))
}

fn start(setup: Setup) -> TestAgent {
    let agent = setup.start();
    let is_up = || qga(&agent, &["ping"]).output().unwrap().status.success().then_some(());
    wait::until("an answer", ENOUGH, is_up);
    agent
}

/// Each agent there is, with further arguments for it.
fn agents(test: &str, args: &[&str]) -> Vec<TestAgent> {
    let setup = |program| args.iter().fold(Setup::new(program), |setup, arg| setup.arg(*arg));
    programs(test).iter().map(|program| start(setup(program))).collect()
}

/// Runs a test on all of them at the same time.
fn each(test: &str, args: &[&str], check: impl Fn(&TestAgent) + Sync) {
    let check = &check;
    thread::scope(|scope| {
        for agent in agents(test, args) {
            scope.spawn(move || check(&agent));
        }
    });
}

fn qga(agent: &TestAgent, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qga"));
    command.args(args).env("QGA_TARGET", agent.socket()).stdin(Stdio::null());
    command
}

fn exec(agent: &TestAgent, args: &[&str]) -> Output {
    qga(agent, &[&["exec"], args].concat()).output().unwrap()
}

fn sh(agent: &TestAgent, script: &str) -> Output {
    exec(agent, &["--", "sh", "-c", script])
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Bytes without a pattern.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The numbers of the processes that a script prints as its first line.
fn pids(child: &mut Child) -> Vec<i32> {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn is_there(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // One that nobody has waited for is no longer there either.
    let is_zombie = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && !is_zombie
}

fn wait_until_gone(pids: &[i32]) {
    wait::until("the end of the processes", ENOUGH, || pids.iter().all(|pid| !is_there(*pid)).then_some(()));
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The directory that belongs to a script which prints its supervisor's number: that of its parent.
fn dir_of(parent: i32) -> PathBuf {
    let command = fs::read(format!("/proc/{parent}/cmdline")).unwrap();
    let name = command.split(|byte| *byte == 0).map(text).find(|word| word.starts_with("qga-exec-")).unwrap();
    let found = ["/run", "/tmp"].map(|base| Path::new(base).join(name)).into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no directory {name}"))
}

#[test]
fn each_line_of_a_ticker_shows_while_it_runs() {
    each("each_line_of_a_ticker_shows_while_it_runs", &[], |agent| {
        let ticker = "for i in 1 2 3 4; do date +%s.%N; sleep 1; done";
        let mut child = spawn(qga(agent, &["exec", "--", "sh", "-c", ticker]));
        let mut count = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
            let late = now - line.unwrap().parse::<f64>().unwrap();
            assert!(late < 3.0, "line {count} came after {late} s");
            count += 1;
        }
        assert_eq!((count, child.wait().unwrap().code()), (4, Some(0)));
    });
}

#[test]
fn both_streams_arrive_whole_and_apart() {
    each("both_streams_arrive_whole_and_apart", &[], |agent| {
        let input = noise(3_000_000);
        let mut child = {
            let mut command = qga(agent, &["exec", "--", "sh", "-c", "tee /dev/fd/2; exit 5"]);
            command.stdin(Stdio::piped());
            spawn(command)
        };
        let mut stdin = child.stdin.take().unwrap();
        let sent = input.clone();
        let writer = thread::spawn(move || stdin.write_all(&sent).unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let mut out = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        writer.join().unwrap();
        assert!(out == input, "{} of {} bytes", out.len(), input.len());
        let err = reader.join().unwrap();
        assert!(err == input, "{} of {} bytes of standard error", err.len(), input.len());
        assert_eq!(child.wait().unwrap().code(), Some(5));
    });
}

#[test]
fn input_that_is_typed_arrives_line_by_line_and_its_end_is_passed_on() {
    each("input_that_is_typed_arrives_line_by_line_and_its_end_is_passed_on", &[], |agent| {
        let mut command = qga(agent, &["exec", "--", "sh", "-c", "while read -r l; do echo \"<$l>\"; done; echo end"]);
        command.stdin(Stdio::piped());
        let mut child = spawn(command);
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for word in ["one", "two", "three"] {
            writeln!(stdin, "{word}").unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), format!("<{word}>"));
        }
        drop(stdin);
        assert_eq!(lines.next().unwrap().unwrap(), "end");
        assert!(lines.next().is_none());
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    each("the_exit_code_is_that_of_the_command", &[], |agent| {
        for (script, code) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)] {
            assert_eq!(sh(agent, script).status.code(), Some(code), "{script}");
        }
        for options in [&[][..], &["--no-stream"]] {
            let run = |command| exec(agent, &[options, &["--", command]].concat());
            let absent = run("no-such-command");
            assert_eq!(absent.status.code(), Some(127), "{}", text(&absent.stderr));
            assert!(text(&absent.stderr).contains("no-such-command"), "{}", text(&absent.stderr));
            assert_eq!(run("/etc/passwd").status.code(), Some(126));
        }
        let start = Instant::now();
        let late = qga(agent, &["--timeout", "1", "exec", "--", "sleep", "600"]).output().unwrap();
        assert_eq!(late.status.code(), Some(124));
        assert_eq!(text(&late.stderr), "qga: the command had not ended after 1 s and was ended\n");
        assert!(start.elapsed() < ENOUGH);
        let absent = qga(agent, &["-t", "/nonexistent/sock", "exec", "--", "true"]).output().unwrap();
        assert_eq!(absent.status.code(), Some(125));
    });
}

#[test]
fn arguments_environment_and_directory_are_exactly_those_given() {
    each("arguments_environment_and_directory_are_exactly_those_given", &[], |agent| {
        let script = "pwd; printf '<%s>' \"$V\" \"$#\" \"$@\"; umask";
        let odd = ["", " a  b ", "it's", "$HOME", "`id`", "\"", "\\", "*", "-x", "ä\n"];
        let start = ["-C", "/usr/bin", "-e", "V=x y'z\n", "-e", "W=1", "--", "sh", "-c", script, "name"];
        let output = exec(agent, &[&start[..], &odd].concat());
        let words: String = odd.iter().map(|word| format!("<{word}>")).collect();
        let umask = text(&sh(agent, "umask").stdout).to_owned();
        assert_eq!(text(&output.stdout), format!("/usr/bin\n<x y'z\n><10>{words}{umask}"));
        let nowhere = exec(agent, &["-C", "/nonexistent", "--", "true"]);
        assert_eq!(nowhere.status.code(), Some(126));
        assert_eq!(text(&nowhere.stderr), "qga: cannot change to the directory '/nonexistent'\n");
    });
}

#[test]
fn a_command_runs_as_another_user() {
    if !skip::is_root("a_command_runs_as_another_user") {
        return;
    }
    each("a_command_runs_as_another_user", &[], |agent| {
        let script = "id -un; id -Gn; echo $USER $HOME; printf '<%s>' \"$@\"; cat; exit 9";
        let output = exec(agent, &["-u", "nobody", "--", "sh", "-c", script, "n", "a b", "it's"]);
        assert_eq!(
            text(&output.stdout),
            "nobody\nnogroup\nnobody /nonexistent\n<a b><it's>",
            "{}",
            text(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(9));
        let nobody = exec(agent, &["-u", "no-such-user", "--", "true"]);
        assert_eq!(nobody.status.code(), Some(126));
        assert_eq!(text(&nobody.stderr), "qga: the guest has no user 'no-such-user'\n");
    });
}

#[test]
fn an_interrupt_ends_the_command_with_all_its_children_and_leaves_nothing() {
    each("an_interrupt_ends_the_command_with_all_its_children_and_leaves_nothing", &[], |agent| {
        for sent in [Signal::INT, Signal::TERM, Signal::HUP] {
            let script = "sleep 600 & echo $! $$ $PPID; sleep 600";
            let mut child = spawn(qga(agent, &["exec", "--", "sh", "-c", script]));
            let pids = pids(&mut child);
            let dir = dir_of(pids[2]);
            signal(&child, sent);
            assert_eq!(child.wait().unwrap().code(), Some(128 + sent.as_raw()));
            wait_until_gone(&pids);
            assert!(!dir.exists());
        }
    });
}

#[test]
fn a_command_that_ignores_the_interrupt_is_killed() {
    each("a_command_that_ignores_the_interrupt_is_killed", &[], |agent| {
        let script = "trap '' TERM; sleep 600 & echo $! $$; while :; do sleep 600; done";
        let mut child = spawn(qga(agent, &["exec", "--", "sh", "-c", script]));
        let pids = pids(&mut child);
        signal(&child, Signal::INT);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        wait_until_gone(&pids);
    });
}

#[test]
fn a_qga_that_is_killed_leaves_nothing_behind_after_its_time() {
    each("a_qga_that_is_killed_leaves_nothing_behind_after_its_time", &[], |agent| {
        let script = "sleep 600 & echo $! $$ $PPID; yes; sleep 600";
        let mut child = spawn(qga(agent, &["exec", "--keep", "2", "--", "sh", "-c", script]));
        let pids = pids(&mut child);
        let dir = dir_of(pids[2]);
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until_gone(&pids);
        wait::until("the end of the directory", ENOUGH, || (!dir.exists()).then_some(()));
    });
}

#[test]
fn a_command_outlives_its_time_to_be_kept_while_qga_is_there() {
    each("a_command_outlives_its_time_to_be_kept_while_qga_is_there", &[], |agent| {
        let output = exec(agent, &["--keep", "2", "--", "sh", "-c", "sleep 5; echo done"]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "done\n"), "{}", text(&output.stderr));
    });
}

#[test]
fn a_guest_keeps_little_of_an_output_that_nobody_reads() {
    each("a_guest_keeps_little_of_an_output_that_nobody_reads", &[], |agent| {
        let mut child = spawn(qga(agent, &["exec", "--", "sh", "-c", "echo $$ $PPID; exec yes"]));
        let pids = pids(&mut child);
        let dir = dir_of(pids[1]);
        // Time for gigabytes.
        thread::sleep(Duration::from_secs(2));
        let sizes = fs::read_dir(&dir).unwrap().filter_map(|entry| entry.ok()?.metadata().ok());
        let size: u64 = sizes.map(|file| file.len()).sum();
        assert!((1..8 << 20).contains(&size), "{size}");
        // The pipe to us is what is full; its end is the command's.
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(141));
        wait_until_gone(&pids);
    });
}

#[test]
fn output_that_the_guest_has_no_room_for_is_missed_and_the_command_ends() {
    let test = "output_that_the_guest_has_no_room_for_is_missed_and_the_command_ends";
    let small = ["unshare", "-m", "--propagation", "private", "sh", "-c"];
    let mount = "mount -t tmpfs -o size=300k none /run && exec \"$@\"";
    if !Command::new(small[0]).args(&small[1..]).args([mount, "sh", "true"]).status().is_ok_and(|it| it.success()) {
        return skip::skipped(test, "needs a mount namespace");
    }
    for program in programs(test) {
        let agent = start(Setup::new(&program).inside(small.iter().chain(&[mount, "sh"]).copied()));
        let output = exec(&agent, &["--", "sh", "-c", "head -c 5000000 /dev/zero; echo end >&2; exit 4"]);
        assert!(output.stdout.len() < 5_000_000);
        let note = "qga: not all of the output is here: there was more than the guest or the agent keeps\n";
        assert!(text(&output.stderr).ends_with(note), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(4));
        // All the room is there again.
        let output =
            sh(&agent, "cd /run; ls -d qga-exec-* | wc -l; head -c 200000 /dev/zero >file && echo room; rm file");
        assert_eq!(text(&output.stdout), "1\nroom\n", "{}", text(&output.stderr));
    }
}

#[test]
fn a_background_process_does_not_keep_the_command_from_ending() {
    each("a_background_process_does_not_keep_the_command_from_ending", &[], |agent| {
        let output = sh(agent, "sleep 600 & echo $!");
        assert!(output.status.success());
        let pid: i32 = text(&output.stdout).trim().parse().unwrap();
        assert!(is_there(pid), "it was started to stay");
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    });
}

#[test]
fn a_blocked_command_has_its_exit_code_and_without_files_the_output_comes_at_the_end() {
    let test = "a_blocked_command_has_its_exit_code_and_without_files_the_output_comes_at_the_end";
    each(test, &["-b", "guest-exec"], |agent| {
        let output = sh(agent, "true");
        assert_eq!(output.status.code(), Some(126), "{}", text(&output.stderr));
        assert!(text(&output.stderr).starts_with("qga: guest-exec is switched off in the agent\n"));
    });
    each(test, &["-b", "guest-file-read"], |agent| {
        let mut child = {
            let mut command = qga(agent, &["exec", "--", "sh", "-c", "cat; echo e >&2; exit 7"]);
            command.stdin(Stdio::piped());
            spawn(command)
        };
        child.stdin.take().unwrap().write_all(b"given\0\xFF").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"given\0\xFF");
        let note = "qga: the agent or the guest does not allow streaming: the output comes at the end\n";
        assert_eq!(text(&output.stderr), format!("{note}e\n"));
        assert_eq!(output.status.code(), Some(7));
    });
}

#[test]
fn a_detached_command_goes_on_and_its_number_is_printed() {
    each("a_detached_command_goes_on_and_its_number_is_printed", &[], |agent| {
        let output = exec(agent, &["--detach", "-C", "/", "--", "sleep", "600"]);
        let pid: i32 = text(&output.stdout).trim().parse().unwrap();
        assert!(is_there(pid));
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        wait_until_gone(&[pid]);
    });
}

#[test]
fn several_targets_have_their_names_in_front_of_each_line_and_json_has_events() {
    let test = "several_targets_have_their_names_in_front_of_each_line_and_json_has_events";
    let agents = agents(test, &[]);
    let [first, second] = agents.as_slice() else { return };
    let names = [first, second].map(|agent| agent.socket().to_str().unwrap().to_owned());
    let targets = ["-t", &names[0], "-t", &names[1]];
    let script = "printf a; sleep 1; echo b; echo e >&2; printf c; exit 3";
    let output = qga(first, &[&targets[..], &["exec", "--", "sh", "-c", script]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    for name in &names {
        let lines = |bytes| text(bytes).lines().filter(|line| line.contains(name.as_str())).collect::<Vec<_>>();
        assert_eq!(lines(&output.stdout), [format!("{name}: ab"), format!("{name}: c")]);
        assert_eq!(lines(&output.stderr), [format!("{name}: e"), format!("qga: {name}: exit code 3")]);
    }
    let output = qga(first, &["--json", "exec", "--", "sh", "-c", "echo a; exit 3"]).output().unwrap();
    let events: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0], serde_json::json!({"stream": "stdout", "text": "a\n"}));
    assert_eq!(events[1], serde_json::json!({"exit_code": 3, "ended_by": null, "truncated": false}));
    assert_eq!(events.len(), 2);
}

#[test]
fn a_shell_keeps_directory_and_variables_from_line_to_line() {
    each("a_shell_keeps_directory_and_variables_from_line_to_line", &[], |agent| {
        let dir = agent.dir().join("a 'b");
        fs::create_dir(&dir).unwrap();
        let lines = "X='1  2'\ncd \"$DIR\"\npwd; echo \"$X\"; sh -c 'echo $X'\nfalse\necho $?\n(\ncd / ; exit 4\npwd\ncd - >/dev/null; pwd; exit 6\n";
        let mut command = qga(agent, &["shell", "-e", &format!("DIR={}", dir.display())]);
        command.stdin(Stdio::piped());
        let mut child = spawn(command);
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let dir = dir.display();
        assert_eq!(text(&output.stdout), format!("{dir}\n1  2\n1 2\n0\n/\n{dir}\n"), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("yntax error"), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(6));
    });
}

#[test]
fn an_interrupt_of_a_shell_ends_the_line_only() {
    each("an_interrupt_of_a_shell_ends_the_line_only", &[], |agent| {
        let mut command = qga(agent, &["shell"]);
        command.stdin(Stdio::piped());
        let mut child = spawn(command);
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "cd /usr; Y=kept").unwrap();
        writeln!(stdin, "cd /bin; echo $$; sleep 600").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pid: i32 = lines.next().unwrap().unwrap().parse().unwrap();
        signal(&child, Signal::INT);
        writeln!(stdin, "echo $Y; pwd").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "kept");
        assert_eq!(lines.next().unwrap().unwrap(), "/usr");
        wait_until_gone(&[pid]);
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}

#[test]
fn the_files_of_a_command_are_for_the_agents_user_alone() {
    each("the_files_of_a_command_are_for_the_agents_user_alone", &[], |agent| {
        use std::os::unix::fs::MetadataExt;
        let mut child = spawn(qga(agent, &["exec", "--", "sh", "-c", "echo $$ $PPID; sleep 600"]));
        let pids = pids(&mut child);
        let meta = fs::metadata(dir_of(pids[1])).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o700, geteuid().as_raw()));
        signal(&child, Signal::TERM);
        child.wait().unwrap();
    });
}
