//! `qga top`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use qga_testkit::{fake, wait};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;

use super::{Dead, ENOUGH, agents, options, qga};

#[test]
fn one_result_of_one_guest_is_text_with_everything_the_agent_tells() {
    for (name, agent) in agents("one_result_of_one_guest_is_text_with_everything_the_agent_tells") {
        let target = options([agent.socket()]);
        let output = qga(&target).args(["top", "--once", "-i", "0.3"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        for part in ["  agent ", "Load   ", "CPU    [", "Memory ["] {
            assert!(text.contains(part), "{name}: no '{part}' in\n{text}");
        }
        assert!(!text.contains('\x1b'), "{name}: {text}");
    }
}

#[test]
fn a_dead_guest_delays_no_other_and_is_told_apart() {
    let (agents, dead) = (agents("a_dead_guest_delays_no_other_and_is_told_apart"), Dead::new());
    let dead_socket = dead.socket();
    let sockets = agents.iter().map(|(_, agent)| agent.socket()).chain([dead_socket.as_path()]);
    let start = Instant::now();
    let output = qga(options(sockets)).args(["--json", "--timeout", "3", "top", "-i", "0.2"]).output().unwrap();
    assert!(start.elapsed() < ENOUGH);
    let lines: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), agents.len() + 1);
    assert_eq!(output.status.code(), Some(125));
    for line in lines {
        if line["target"] == dead_socket.to_str().unwrap() {
            assert_eq!(line["error"]["layer"], "agent", "{line}");
        } else {
            let result = &line["result"];
            assert!(result["memory"]["total"].as_u64().unwrap() > 1 << 20, "{line}");
            assert!(result["load"]["load1m"].is_f64() && result["cpu"]["busy"].is_f64(), "{line}");
            assert_eq!(result["failures"], serde_json::json!([]), "{line}");
        }
    }
}

#[test]
fn as_many_results_come_as_were_asked_for() {
    let agent = fake::Agent::start(&[("guest-info", r#"{"version": "1.2.3"}"#), ("guest-ping", "{}")]);
    let output =
        qga(options([agent.path().as_path()])).args(["--json", "top", "-n", "3", "-i", "0.1"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 3);
}

/// `qga top` in a terminal of 100 by 30.
struct Live {
    child: Child,
    terminal: Arc<OwnedFd>,
    slave: OwnedFd,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Live {
    fn start(options: &[String], args: &[&str]) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let slave = OwnedFd::from(File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap());
        tcsetwinsize(&slave, Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        // With a session of its own it does not find the terminal in which the tests run.
        let qga = qga(options);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(qga.get_program()).args(qga.get_args()).arg("top").args(args);
        command.env_remove("QGA_TARGET").env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8").env("TERM", "xterm-256color");
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        let terminal = Arc::new(terminal);
        let said = Arc::new(Mutex::new(Vec::new()));
        let (heard, mut reader) = (Arc::clone(&said), File::from(terminal.try_clone().unwrap()));
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                heard.lock().unwrap().extend(&piece[..count]);
            }
        });
        Live { child, terminal, slave, said }
    }

    /// Waits until the terminal was sent this text.
    fn shows(&self, text: &str) {
        wait::until(&format!("the terminal shows '{text}'"), ENOUGH, || {
            let said = self.said.lock().unwrap();
            said.windows(text.len()).any(|part| part == text.as_bytes()).then_some(())
        });
    }

    fn types(&self, keys: &str) {
        File::from(self.terminal.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// Waits for the end, and wants the terminal to be as it was.
    fn ends(mut self) -> Option<i32> {
        let status = wait::until("the view ends", ENOUGH, || self.child.try_wait().unwrap());
        self.shows("\x1b[?25h");
        self.shows("\x1b[?1049l");
        assert!(!self.is_raw(), "the terminal was left raw");
        status.code()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_live_view_of_one_guest_ends_with_q_and_gives_the_terminal_back() {
    for (_, agent) in agents("the_live_view_of_one_guest_ends_with_q_and_gives_the_terminal_back") {
        let live = Live::start(&options([agent.socket()]), &["-i", "0.2"]);
        live.shows("\x1b[?1049h");
        live.shows("CPU ");
        assert!(live.is_raw());
        live.types("q");
        assert_eq!(live.ends(), Some(0));
    }
}

#[test]
fn the_live_view_of_many_guests_sorts_by_keys_and_shows_a_dead_one() {
    let (agents, dead) = (agents("the_live_view_of_many_guests_sorts_by_keys_and_shows_a_dead_one"), Dead::new());
    let dead = dead.socket();
    let sockets = agents.iter().map(|(_, agent)| agent.socket()).chain([dead.as_path()]);
    let live = Live::start(&options(sockets), &["-i", "0.2", "--sort", "cpu"]);
    live.shows("FULLEST");
    live.shows("no answer for ");
    live.types("mldwnc");
    live.types("\x03");
    live.ends();
}

#[test]
fn a_signal_ends_the_live_view_and_gives_the_terminal_back() {
    let dead = Dead::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let live = Live::start(&options([dead.socket().as_path()]), &[]);
        live.shows("waiting for the first answer");
        kill_process(Pid::from_child(&live.child), signal).unwrap();
        live.ends();
    }
}

#[test]
fn a_live_view_ends_after_as_many_results_as_were_asked_for() {
    let agent = fake::Agent::start(&[("guest-info", r#"{"version": "1.2.3"}"#), ("guest-ping", "{}")]);
    let live = Live::start(&options([agent.path().as_path()]), &["-n", "2", "-i", "0.2"]);
    live.shows("agent 1.2.3");
    assert_eq!(live.ends(), Some(0));
}
