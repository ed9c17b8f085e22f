//! The process as whoever starts it sees it: exit status, standard error, pid file, signals, log, state over restarts.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use qga_testkit::agent::{Program, Setup, finish};
use qga_testkit::host::{Host, PATIENCE};
use qga_testkit::wait;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

fn ours() -> Program {
    Program::ours(env!("CARGO_BIN_EXE_qemu-ga"))
}

/// An agent that its test did not start directly, ended whatever happens to the test.
struct Background {
    pid: Pid,
}

impl Background {
    fn of(pid_file: &Path) -> Self {
        let text = fs::read_to_string(pid_file).unwrap();
        let number = text.strip_suffix('\n').expect("a line").parse().expect("a number");
        Background { pid: Pid::from_raw(number).unwrap() }
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    fn runs(&self) -> bool {
        // A zombie, where nobody reaps orphans, still has its number.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero())).unwrap_or_default();
        test_kill_process(self.pid).is_ok() && !stat.contains(") Z ") && !stat.is_empty()
    }

    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.pid.as_raw_nonzero()).into()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.runs() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

fn daemon(setup: &Setup, pid_file: &Path) -> Command {
    let mut command = setup.command();
    command.arg("-d").arg("-f").arg(pid_file);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_background_agent_answers_by_the_time_the_foreground_ends() {
    let setup = Setup::new(&ours());
    let pid_file = setup.dir().join("pid");
    // That this comes back also shows that standard output and error, pipes here, were let go of.
    let output = finish(daemon(&setup, &pid_file));
    assert!(output.status.success(), "{}", said(&output));
    let background = Background::of(&pid_file);
    assert_eq!(said(&output), "");
    let mut host = Host::connect(setup.socket()).unwrap();
    assert_eq!(host.call("guest-ping", json!({})).unwrap(), json!({}));
    let status = fs::read_to_string(background.proc("status")).unwrap();
    assert!(status.contains("Umask:\t0077\n"), "{status}");
    assert_eq!(fs::read_link(background.proc("cwd")).unwrap(), Path::new("/"));
    for fd in 0..3 {
        assert_eq!(fs::read_link(background.proc(&format!("fd/{fd}"))).unwrap(), Path::new("/dev/null"));
    }

    background.signal(Signal::TERM);
    wait::until("the end of the background agent", PATIENCE, || (!background.runs()).then_some(()));
    assert!(!pid_file.exists());
    assert!(!setup.socket().exists());
}

#[test]
fn a_second_background_agent_is_refused_and_leaves_the_first_ones_pid_file_alone() {
    let first = Setup::new(&ours());
    let pid_file = first.dir().join("pid");
    assert!(finish(daemon(&first, &pid_file)).status.success());
    let background = Background::of(&pid_file);
    let before = fs::read_to_string(&pid_file).unwrap();

    let second = Setup::new(&ours());
    let output = finish(daemon(&second, &pid_file));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said(&output), "qemu-ga: Cannot lock pid file: Resource temporarily unavailable\n");

    let mut dump = daemon(&second, &pid_file);
    dump.arg("-D");
    assert_eq!(finish(dump).status.code(), Some(0));
    let mut bad = daemon(&second, &pid_file);
    bad.args(["-p", "/nonexistent/sock"]);
    assert_eq!(finish(bad).status.code(), Some(1));

    assert_eq!(fs::read_to_string(&pid_file).unwrap(), before);
    assert!(background.runs());
    Host::connect(first.socket()).unwrap().call("guest-ping", json!({})).unwrap();
}

#[test]
fn term_and_int_end_the_agent_in_good_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = Setup::new(&ours()).start();
        agent.host().call("guest-ping", json!({})).unwrap();
        agent.signal(signal).unwrap();
        assert_eq!(agent.ended(PATIENCE).expect("an end").code(), Some(0));
        assert!(!agent.socket().exists());
        assert_eq!(agent.stderr(), "");
    }
}

#[test]
fn hup_opens_the_log_file_again_and_ends_nothing() {
    let setup = Setup::new(&ours());
    let log = setup.dir().join("log");
    let moved = setup.dir().join("log.1");
    let mut agent = setup.arg("-v").arg("-l").arg(&log).start();
    agent.host().call("guest-ping", json!({})).unwrap();
    fs::rename(&log, &moved).unwrap();
    agent.signal(Signal::HUP).unwrap();
    wait::until("a new log file", PATIENCE, || log.exists().then_some(()));
    let mut host = agent.host();
    host.call("guest-ping", json!({})).unwrap();
    wait::until("a line in it", PATIENCE, || (!fs::read(&log).unwrap().is_empty()).then_some(()));
    assert!(agent.runs());
    let old = fs::read_to_string(&moved).unwrap();
    assert!(old.contains("Guest agent version"), "{old}");
}

#[test]
fn a_handle_of_an_earlier_life_never_comes_to_mean_another_file() {
    let setup = Setup::new(&ours());
    let (state, file) = (tempfile::tempdir().unwrap(), "/proc/self/stat");
    let open = |setup: Setup| {
        let mut agent = setup.arg("-t").arg(state.path()).start();
        let mut host = agent.host();
        let handles: Vec<i64> =
            (0..3).map(|_| host.call("guest-file-open", json!({ "path": file })).unwrap().as_i64().unwrap()).collect();
        agent.signal(Signal::KILL).unwrap();
        agent.ended(PATIENCE).expect("an end");
        handles
    };
    let first = open(setup);
    assert_eq!(first, [1000, 1001, 1002]);
    let second = open(Setup::new(&ours()));
    assert!(second.iter().all(|handle| *handle > 1002), "{second:?}");
}

#[test]
fn an_agent_with_the_marker_of_its_predecessor_starts_frozen() {
    let setup = Setup::new(&ours());
    fs::write(setup.state_dir().join("qga.state.isfrozen"), "").unwrap();
    // A pipe: on a disk, which may be frozen, not even the one line is written.
    let mut command = setup.command();
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let agent = Background { pid: Pid::from_child(&child) };
    let mut host = Host::connect_retry(setup.socket(), PATIENCE).unwrap();
    assert_eq!(host.call("guest-fsfreeze-status", json!({})).unwrap(), json!("frozen"));
    assert!(host.call("guest-file-open", json!({ "path": "/proc/self/stat" })).is_err());
    drop(agent);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.ends_with(": warning: file systems are frozen, logging is off until they are thawed\n"), "{said}");
    assert!(!setup.state_dir().join("qga.state").exists(), "nothing is written while frozen");
}

#[test]
fn a_marker_of_another_boot_does_not_make_an_agent_frozen() {
    let setup = Setup::new(&ours());
    fs::write(setup.state_dir().join("qga.state.isfrozen"), "00000000-1111-2222-3333-444444444444\n8:1\n").unwrap();
    let agent = setup.start();
    assert_eq!(agent.host().call("guest-fsfreeze-status", json!({})).unwrap(), json!("thawed"));
}

#[test]
fn pings_and_syncs_leave_no_line() {
    let agent = Setup::new(&ours()).start();
    let mut host = agent.host();
    for _ in 0..100 {
        host.call("guest-ping", json!({})).unwrap();
        host.call("guest-sync", json!({ "id": 1 })).unwrap();
        host.call("guest-info", json!({})).unwrap();
    }
    assert_eq!(agent.stderr(), "");
}

#[test]
fn the_most_verbose_log_tells_nothing_of_what_is_sent() {
    let agent = Setup::new(&ours()).arg("-v").start();
    let mut host = agent.host();
    let path = agent.dir().join("file");
    let handle = host.call("guest-file-open", json!({ "path": path, "mode": "w+" })).unwrap();
    // "a secret" and its base64.
    host.call("guest-file-write", json!({ "handle": handle, "buf-b64": "YSBzZWNyZXQ=" })).unwrap();
    host.call("guest-file-seek", json!({ "handle": handle, "offset": 0, "whence": 0 })).unwrap();
    assert_eq!(host.call("guest-file-read", json!({ "handle": handle })).unwrap()["buf-b64"], "YSBzZWNyZXQ=");
    host.send_raw(b"{\"execute\": \"guest-set-user-password\", \"arguments\": {\"password\": \"YSBzZWNyZXQ\n").unwrap();
    host.sync(PATIENCE).unwrap();
    let log = agent.stderr();
    assert!(log.contains("guest-file-write"), "{log}");
    for secret in ["a secret", "YSBzZWNy"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn whatever_the_umask_no_file_of_the_agent_is_open_to_others() {
    let setup = Setup::new(&ours()).inside(["sh", "-c", "umask 0; exec \"$@\"", "sh"]);
    let (pid_file, log) = (setup.dir().join("pid"), setup.dir().join("log"));
    let mut command = daemon(&setup, &pid_file);
    command.arg("-l").arg(&log);
    let output = finish(command);
    assert!(output.status.success(), "{}", said(&output));
    let _background = Background::of(&pid_file);
    let made = setup.dir().join("made");
    let mut host = Host::connect(setup.socket()).unwrap();
    host.call("guest-file-open", json!({ "path": made, "mode": "w" })).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for path in [&pid_file, &log, &setup.socket(), &setup.state_dir().join("qga.state")] {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    assert_eq!(mode(&made), 0o644);
}

#[test]
fn a_misspelt_block_list_is_said_on_standard_error() {
    let agent = Setup::new(&ours()).arg("--block-rpcs=guest-shutdwon").start();
    agent.host().call("guest-ping", json!({})).unwrap();
    let stderr = agent.stderr();
    assert!(stderr.contains(": warning: unknown command 'guest-shutdwon' in the block list\n"), "{stderr}");
}

#[test]
fn the_service_manager_hears_of_the_start_and_the_end() {
    let setup = Setup::new(&ours());
    let path = setup.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = setup.socket();
    let mut agent = setup.env("NOTIFY_SOCKET", &path).start();
    assert_eq!(heard(&manager), format!("READY=1\nSTATUS=listening at '{}'", socket.display()));
    agent.signal(Signal::TERM).unwrap();
    assert_eq!(heard(&manager), "STOPPING=1\nSTATUS=about to end");
    assert!(agent.ended(PATIENCE).expect("an end").success());
}

/// The next message to the service manager.
fn heard(manager: &UnixDatagram) -> String {
    let mut buf = [0; 300];
    let n = manager.recv(&mut buf).expect("a message to the service manager");
    String::from_utf8(buf[..n].to_vec()).unwrap()
}

#[test]
fn the_service_manager_hears_whether_the_port_is_there() {
    let setup = Setup::new(&ours()).no_channel();
    let path = setup.dir().join("notify");
    let port = setup.dir().join("port");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let setup = setup.env("NOTIFY_SOCKET", &path).arg("--retry-path").arg("-m").arg("isa-serial").arg("-p").arg(&port);
    let mut agent = setup.start();
    // Ready all the same: there is nothing that a service manager could do about it.
    assert_eq!(heard(&manager), format!("READY=1\nSTATUS=waiting for channel '{}'", port.display()));
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let host = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&host).unwrap();
    rustix::pty::unlockpt(&host).unwrap();
    std::os::unix::fs::symlink(rustix::pty::ptsname(&host, Vec::new()).unwrap().to_str().unwrap(), &port).unwrap();
    assert_eq!(heard(&manager), format!("STATUS=at channel '{}'", port.display()));
    fs::remove_file(&port).unwrap();
    drop(host);
    assert_eq!(heard(&manager), format!("STATUS=waiting for channel '{}'", port.display()));
    assert!(agent.runs());
}

#[test]
fn a_watchdog_hears_of_the_agent_until_that_is_stopped() {
    const HALF: Duration = Duration::from_millis(500);
    let setup = Setup::new(&ours());
    let path = setup.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let setup = setup.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", (HALF * 2).as_micros().to_string());
    let agent = setup.start();
    let mut last = Instant::now();
    assert!(heard(&manager).starts_with("READY=1\n"));
    for _ in 0..4 {
        assert_eq!(heard(&manager), "WATCHDOG=1");
        // It may come late on a busy machine, and is then the sooner followed by the next.
        assert!(last.elapsed() < HALF * 60, "{:?}", last.elapsed());
        last = Instant::now();
    }
    // Neither requests nor programs that the host starts are signs of life, nor do they keep them back.
    let mut host = agent.host();
    let begin = Instant::now();
    let mut calls = 0;
    manager.set_nonblocking(true).unwrap();
    let mut signs = 0;
    while begin.elapsed() < HALF * 4 {
        host.call("guest-ping", json!({})).unwrap();
        calls += 1;
        let mut buf = [0; 300];
        while let Ok(n) = manager.recv(&mut buf) {
            assert_eq!(&buf[..n], b"WATCHDOG=1");
            signs += 1;
        }
    }
    let most = begin.elapsed().as_millis() / HALF.as_millis() + 1;
    assert!((1..=most).contains(&signs), "{signs} in {:?}, with {calls} calls", begin.elapsed());
    let environment = "env | grep -e WATCHDOG -e NOTIFY >&2; true";
    let arguments = json!({ "path": "/bin/sh", "arg": ["-c", environment], "capture-output": true });
    let pid = host.call("guest-exec", arguments).unwrap()["pid"].clone();
    let status = wait::until("the end of the program", PATIENCE, || {
        let status = host.call("guest-exec-status", json!({ "pid": pid })).unwrap();
        (status["exited"] == true).then_some(status)
    });
    assert_eq!(status.get("err-data"), None, "{status}");

    agent.signal(Signal::STOP).unwrap();
    wait::until("a stopped agent", PATIENCE, || agent.is_stopped().then_some(()));
    let mut buf = [0; 300];
    while manager.recv(&mut buf).is_ok() {}
    std::thread::sleep(HALF * 4);
    assert!(manager.recv(&mut buf).is_err(), "a sign of life of an agent that is stopped");
    agent.signal(Signal::CONT).unwrap();
    manager.set_nonblocking(false).unwrap();
    assert_eq!(heard(&manager), "WATCHDOG=1");
    host.call("guest-ping", json!({})).unwrap();
}

#[test]
fn a_watchdog_of_another_process_hears_nothing() {
    let setup = Setup::new(&ours());
    let path = setup.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let setup = setup.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    let agent = setup.start();
    assert!(heard(&manager).starts_with("READY=1\n"));
    agent.host().call("guest-ping", json!({})).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 300]).is_err());
}

/// Starts the agent with `socket` as descriptor 3, as systemd does.
fn activated(setup: &Setup, fds: &str, socket: impl Into<Stdio>) -> Command {
    let agent = setup.command();
    let mut command = Command::new("sh");
    command.args(["-c", r#"export LISTEN_PID=$$ LISTEN_FDS="$0"; exec "$@" 3<&0 </dev/null"#, fds]);
    command.arg(agent.get_program()).args(agent.get_args());
    command.envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(socket);
    command
}

#[test]
fn a_socket_handed_over_is_served_and_its_file_left_alone() {
    let setup = Setup::new(&ours()).no_channel();
    let path = setup.dir().join("handed-over");
    let listener = UnixListener::bind(&path).unwrap();
    let mut child = activated(&setup, "1", std::os::fd::OwnedFd::from(listener)).spawn().unwrap();
    let agent = Background { pid: Pid::from_child(&child) };
    let mut host = Host::connect_retry(&path, PATIENCE).unwrap();
    assert_eq!(host.call("guest-ping", json!({})).unwrap(), json!({}));
    agent.signal(Signal::TERM);
    let status = wait::until("its end", PATIENCE, || child.try_wait().unwrap());
    assert!(status.success());
    assert!(path.exists());
}

#[test]
fn what_is_no_single_listening_socket_is_refused() {
    let null = || fs::File::open("/dev/null").unwrap();
    let table = [
        ("2", "qemu-ga: qemu-ga only supports listening on one socket\n"),
        ("1", "qemu-ga: unsupported listen fd type\n"),
    ];
    for (fds, expected) in table {
        let setup = Setup::new(&ours()).no_channel();
        let mut command = activated(&setup, fds, null());
        let output = command.stdout(Stdio::null()).output().unwrap();
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(1), expected));
    }
}

#[test]
fn a_start_that_fails_says_why_in_one_line_and_ends_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("conf");
    fs::write(&conf, "[general]\ndaemon=yes\n").unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let (conf, file) = (conf.to_str().unwrap(), file.to_str().unwrap());
    let table: &[(&[&str], &str)] = &[
        (&["--bogus"], "unrecognized option '--bogus'"),
        (&["-m", "bogus"], "unsupported channel method/type: bogus"),
        (&["-c", conf], "which has a value that cannot be interpreted."),
        (&["-c", "/nonexistent/conf"], "path: /nonexistent/conf, No such file or directory"),
        (&["-t", "/nonexistent/dir"], "/nonexistent/dir/qga.state: No such file or directory"),
        (&["-t", file], "qga.state.isfrozen: Not a directory"),
        (&["-l", "/nonexistent/log"], "/nonexistent/log: No such file or directory"),
        (&["-p", "/nonexistent/sock"], "/nonexistent/sock: No such file or directory"),
        (&["-p", ""], "must specify a path for this channel"),
        (&["-d", "-f", "/nonexistent/pid"], "/nonexistent/pid: No such file or directory"),
    ];
    for (args, part) in table {
        let setup = Setup::new(&ours());
        let mut command = setup.command();
        command.args(*args);
        let output = finish(command);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert!(said.starts_with("qemu-ga: ") && said.contains(part), "{args:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn why_the_agent_cannot_start_is_an_error_in_the_journal() {
    for options in [["-m", "pigeon"], ["--statedir", "/nonexistent/directory"]] {
        let setup = Setup::new(&ours());
        // The journal is told by the number of the stream that it has handed out.
        let (mut journal, stream) = UnixStream::pair().unwrap();
        let stream = OwnedFd::from(stream);
        let stat = rustix::fs::fstat(&stream).unwrap();
        let mut command = setup.command();
        command.args(options).env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino)).stderr(stream);
        assert_eq!(command.status().unwrap().code(), Some(1));
        drop(command);
        let mut line = String::new();
        journal.read_to_string(&mut line).unwrap();
        assert!(line.starts_with("<3>") && line.ends_with('\n') && line.lines().count() == 1, "{line}");
    }
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_agent() {
    let setup = Setup::new(&ours()).arg("-v");
    let mut command = setup.command();
    // Nobody reads from this pipe, which holds 64 KiB.
    let (_unread, stderr) = rustix::pipe::pipe().unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().unwrap();
    let mut host = Host::connect_retry(setup.socket(), PATIENCE).unwrap();
    for id in 0..3000 {
        let answer = host.call_within("guest-sync", json!({ "id": id }), Duration::from_secs(10));
        assert_eq!(answer.unwrap(), json!(id));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_client_that_came_while_there_were_no_descriptors_is_served_when_there_are() {
    let agent = Setup::new(&ours()).inside(["prlimit", "--nofile=14:14"]).start();
    let mut hosts: Vec<Host> = (0..12).map(|_| agent.host()).collect();
    // The first ones are served.
    hosts[0].call("guest-ping", json!({})).unwrap();
    let mut last = hosts.pop().unwrap();
    last.send("guest-ping", &json!({})).unwrap();
    assert!(last.read_line(Duration::from_millis(300)).is_err(), "there were descriptors enough");
    drop(hosts);
    last.read_line(PATIENCE).unwrap();
    assert!(agent.stderr().contains("cannot accept a client: Too many open files"));
}
