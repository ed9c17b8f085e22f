//! `qga freeze`, `wait` and `doctor` of the host, with the guest's own writers as witnesses.

use std::fs::{self, File};
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use qga_testkit::wait;
use serde_json::{Value, json};
use vm_tests::{Machine, process, qga};

use crate::Guest;
use crate::guardian::{end_agent, restart, wait_written, write_late};

const ENOUGH: Duration = Duration::from_secs(60);

/// Runs `qga` on the agent's port to its end.
fn run(machine: &Machine, args: &[&str]) -> Output {
    let socket = machine.agent_socket();
    process::output(&mut qga::command(&qga::program(), &[&["-t", &socket.to_string_lossy()], args].concat()))
}

#[track_caller]
fn exits(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", process::text(output));
}

/// A `qga freeze` on a socket, whose command has begun and goes on for minutes.
struct Held {
    qga: Child,
    err: PathBuf,
}

fn hold(machine: &Machine, socket: &Path, options: &[&str]) -> Held {
    let (begun, err) = (machine.directory().join("begun"), machine.directory().join("qga.err"));
    let _ = fs::remove_file(&begun);
    let script = format!("echo $QGA_FROZEN >{0}.new; mv {0}.new {0}; exec sleep 300", begun.display());
    let socket = socket.to_string_lossy();
    let args = [&["-t", &socket, "freeze"], options, &["--", "sh", "-c", &script]].concat();
    let file = File::create(&err).unwrap();
    let qga = qga::command(&qga::program(), &args).stderr(file).spawn().unwrap();
    let frozen = wait::until("the command", ENOUGH, || fs::read_to_string(&begun).ok());
    assert_eq!(frozen.trim(), "2");
    Held { qga, err }
}

impl Held {
    #[track_caller]
    fn ends(&mut self, code: Option<i32>) {
        let status = wait::until("the end of qga", ENOUGH, || self.qga.try_wait().unwrap());
        assert_eq!(status.code(), code, "{}", self.said());
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // After a failure; the watchdog then ends the command and thaws.
        let _ = self.qga.kill();
        let _ = self.qga.wait();
    }
}

/// Writers wait: the guest is frozen indeed.
fn stalls(machine: &mut Machine) {
    write_late(machine);
    thread::sleep(Duration::from_millis(500));
    assert!(!machine.shell.succeeds("[ -e /run/late-ext4 ] || [ -e /run/late-xfs ]"), "the guest writes while frozen");
}

/// Waits until the writers go on, and until the agent is at the disposal of others.
fn flows(machine: &mut Machine, since: Instant) {
    wait_written(machine);
    println!("     thawed {:.1} s later", since.elapsed().as_secs_f32());
    exits(&run(machine, &["wait", "--for", "agent"]), 0);
    assert_eq!(process::text(&run(machine, &["freeze", "--status"])).trim(), "thawed");
}

pub(crate) fn a_qga_freeze_that_is_killed_leaves_the_guest_thawed(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.agent();
    let mut held = hold(machine, &machine.agent_socket(), &[]);
    stalls(machine);
    let since = Instant::now();
    held.qga.kill().unwrap();
    held.ends(None);
    flows(machine, since);
    assert!(held.said().contains("thawed by its watchdog"), "{}", held.said());
}

pub(crate) fn a_qga_freeze_that_is_interrupted_or_whose_time_is_over_leaves_the_guest_thawed(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.agent();
    let mut held = hold(machine, &machine.agent_socket(), &[]);
    stalls(machine);
    let since = Instant::now();
    process::run("kill", &["-INT", &held.qga.id().to_string()]);
    held.ends(Some(130));
    flows(machine, since);

    let mut held = hold(machine, &machine.agent_socket(), &["--for", "3s"]);
    stalls(machine);
    let since = Instant::now();
    held.ends(Some(124));
    flows(machine, since);

    let output = run(machine, &["--json", "freeze", "--", "true"]);
    exits(&output, 0);
    let report: Value = serde_json::from_str(process::text(&output).trim()).unwrap();
    assert_eq!((&report["targets"][0]["frozen"], &report["targets"][0]["thawed"]), (&json!(2), &json!(2)));
}

/// Carries bytes between a socket and the agent's, until it is told to cut all connections and to refuse new ones for a
/// while.
fn relay(at: &Path, to: PathBuf) -> std::sync::mpsc::Sender<()> {
    let listener = UnixListener::bind(at).unwrap();
    let (cut, cuts) = channel::<()>();
    thread::spawn(move || {
        let first = connect(&listener, &to);
        let _ = cuts.recv();
        first.into_iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        // Whoever comes in the meantime finds a connection that breaks.
        for _ in 0..2 {
            listener.accept().unwrap();
        }
        connect(&listener, &to);
    });
    cut
}

/// Takes one connection and carries its bytes both ways.
fn connect(listener: &UnixListener, to: &Path) -> [UnixStream; 2] {
    let (near, _) = listener.accept().unwrap();
    let far = UnixStream::connect(to).unwrap();
    let ends = [near, far];
    for (from, to) in [(0, 1), (1, 0)] {
        let (mut from, mut to) = (ends[from].try_clone().unwrap(), ends[to].try_clone().unwrap());
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    ends
}

pub(crate) fn a_qga_freeze_that_loses_its_connection_finds_another_and_thaws(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.agent();
    let socket = machine.directory().join("relay");
    let cut = relay(&socket, machine.agent_socket());
    let mut held = hold(machine, &socket, &["--for", "4s"]);
    stalls(machine);
    cut.send(()).unwrap();
    let since = Instant::now();
    held.ends(Some(124));
    assert!(held.said().contains("2 file systems frozen for "), "{}", held.said());
    flows(machine, since);
}

pub(crate) fn a_qga_freeze_that_outlasts_the_agents_own_limit_says_so(guest: &mut Guest) {
    let machine = &mut guest.machine;
    if machine.image().agent.is_c {
        return println!("     SKIPPED: the C agent has no limit");
    }
    restart(machine, "-l /run/qga/log --fsfreeze-timeout 1");
    machine.agent();
    let output = run(machine, &["freeze", "--", "sleep", "3"]);
    exits(&output, 123);
    let text = process::text(&output);
    assert!(text.contains("no freeze may last longer") && text.contains("cannot be relied on"), "{text}");
    restart(machine, "-l /run/qga/log");
    machine.agent();
}

/// The checks of the doctor that did not come out well.
fn faults(output: &Output) -> Vec<String> {
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = value["checks"].as_array().unwrap();
    // An old C agent may have faults of its release, too.
    let bad = checks.iter().filter(|check| check["state"] != "ok" && check["check"] != "version");
    bad.map(|check| check["check"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn wait_and_doctor_tell_a_frozen_a_blocked_and_an_absent_agent_apart(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let file = ["wait", "--timeout", "2s", "--for", "/etc/passwd"];
    let doctor = ["--json", "--timeout", "4", "doctor"];
    machine.agent();
    exits(&run(machine, &file), 0);
    exits(&run(machine, &["wait", "--timeout", "2s", "--for", "/nonexistent"]), 121);
    exits(&run(machine, &["wait", "--for", "boot"]), 0);
    let address = run(machine, &["wait", "--for", "ip"]);
    exits(&address, 0);
    assert_eq!(process::text(&address).trim(), "10.0.2.15");
    assert_eq!(process::text(&run(machine, &["ip", "--first", "--family", "4"])).trim(), "10.0.2.15");
    // The C agent counts as switched off what it cannot do on this machine.
    let is_c = machine.image().agent.is_c;
    let well: &[&str] = if is_c { &["commands"] } else { &[] };
    assert_eq!(faults(&run(machine, &doctor)), well);

    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(2)));
    drop(agent);
    exits(&run(machine, &file), 122);
    let found = run(machine, &doctor);
    exits(&found, 122);
    assert_eq!(faults(&found), ["freeze"]);
    exits(&run(machine, &["wait", "--for", "agent"]), 0);
    assert_eq!(process::text(&run(machine, &["thaw"])).trim(), "2 file systems are thawed");

    restart(machine, "-l /run/qga/log -b guest-file-open,guest-exec");
    machine.agent();
    exits(&run(machine, &file), 126);
    let found = run(machine, &doctor);
    exits(&found, 126);
    assert_eq!(faults(&found), ["commands", "exec", "files"]);

    end_agent(machine);
    exits(&run(machine, &file), 125);
    let found = run(machine, &doctor);
    exits(&found, 125);
    assert_eq!(faults(&found), ["agent"]);
    machine.shell.run("start-agent");
    machine.agent();
}

pub(crate) fn a_guest_is_reached_over_vsock(guest: &mut Guest) {
    let machine = &mut guest.machine;
    // The loopback of vsock stands in for the host, whose kernel need not have vsock: qga runs in the guest, too.
    machine.shell.run("modprobe vsock_loopback; start-agent vsock -m vsock-listen -p 4294967295:9000");
    let stripped = machine.directory().join("qga");
    process::run("strip", &[Path::new("-o"), &stripped, &qga::program()]);
    let libraries = process::run("ldd", &[qga::program()]);
    let mut files: Vec<&str> = libraries.split_whitespace().filter(|word| word.starts_with('/')).collect();
    files.push(stripped.to_str().unwrap());
    exits(&run(machine, &[&["cp"], &files[..], &[":/run/vsock/"]].concat()), 0);
    let reached = |args: &[&str]| {
        // However it is named, the loader is the only library that is one.
        let start = "cd /run/vsock && exec ./ld-linux*.so.* --library-path . ./qga -t vsock:1:9000 \"$@\"";
        run(machine, &[&["exec", "--", "sh", "-c", start, "qga"], args].concat())
    };
    exits(&reached(&["ping"]), 0);
    let exec = reached(&["exec", "--", "sh", "-c", "echo out; exit 5"]);
    exits(&exec, 5);
    assert_eq!(exec.stdout, b"out\n");
    exits(&reached(&["cp", "-q", "/run/vsock/qga", ":/run/vsock/copy"]), 0);
    let shell = &mut guest.machine.shell;
    assert!(shell.succeeds("cmp /run/vsock/qga /run/vsock/copy"));
    shell.run("kill $(cat /run/vsock/pid); rm -rf /run/vsock");
}
