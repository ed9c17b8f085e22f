//! Clients of a listening socket that come, go, or do not behave.

use std::net::Shutdown;
use std::thread::sleep;
use std::time::Duration;

use qga_testkit::agent::end_of;
use qga_testkit::host::PATIENCE;
use rustix::process::Signal;
use serde_json::json;

use crate::differences::differs;
use crate::{PROGRAM, agent, ask, setup};

#[test]
fn a_client_that_leaves_without_reading_its_answer_ends_itself_only() {
    for retry in [false, true] {
        let setup = setup();
        let mut agent = if retry { setup.arg("-r").start() } else { setup.start() };
        let mut host = agent.host();
        host.send_raw(b"{\"execute\":\"guest-info\"}\n").unwrap();
        sleep(Duration::from_millis(300));
        drop(host);
        if retry && !PROGRAM.is_ours() {
            // It waits five seconds, and the next client but one makes it abort.
            continue;
        }
        let ended = agent.ended(Duration::from_millis(700)).map(end_of);
        assert_eq!(ended, differs("client-reset", None, Some("exit status 0".into())));
        if PROGRAM.is_ours() {
            for _ in 0..2 {
                assert_eq!(ask(&mut agent.host(), "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
            }
        }
    }
}

#[test]
fn a_client_that_has_said_all_is_answered_before_it_is_left() {
    let (agent, mut host) = agent();
    host.send_raw(b"{\"execute\":\"guest-sync\",\"arguments\":{\"id\":1}}\n{\"execute\":\"guest-ping\"}").unwrap();
    host.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(host.read_line(PATIENCE).unwrap(), b"{\"return\": 1}");
    assert_eq!(host.read_line(PATIENCE).unwrap(), b"{\"return\": {}}");
    host.read_to_close(PATIENCE).unwrap();
    assert_eq!(ask(&mut agent.host(), "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
}

#[test]
fn a_client_that_does_not_read_loses_nothing_and_costs_nothing() {
    let (mut agent, mut host) = agent();
    let requests: String =
        (0..5000).map(|id| format!("{{\"execute\":\"guest-sync\",\"arguments\":{{\"id\":{id}}}}}\n")).collect();
    let limit = if PROGRAM.is_ours() { PATIENCE } else { Duration::from_secs(2) };
    let sent = host.send_raw_within(requests.as_bytes(), limit).is_ok();
    assert_eq!(sent, differs("client-not-reading", true, false));
    if !sent {
        // The C agent spins and hears no signal now; it is killed with the test.
        return;
    }
    sleep(Duration::from_millis(500));
    let before = agent.cpu_ticks();
    sleep(Duration::from_millis(500));
    assert!(agent.cpu_ticks() - before <= 10, "the agent spins");
    for id in 0..5000 {
        assert_eq!(host.read_line(PATIENCE).unwrap(), format!("{{\"return\": {id}}}").as_bytes());
    }
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
    assert!(agent.runs());
}

#[test]
fn an_agent_with_a_client_that_does_not_read_hears_a_signal() {
    if !PROGRAM.is_ours() {
        return;
    }
    let (mut agent, mut host) = agent();
    let request = b"{\"execute\":\"guest-info\"}\n".repeat(2000);
    let _ = host.send_raw_within(&request, Duration::from_secs(2));
    agent.signal(Signal::TERM).unwrap();
    assert_eq!(agent.ended(PATIENCE).map(end_of), Some("exit status 0".into()));
}

#[test]
fn a_second_client_is_served_beside_the_first() {
    let (agent, mut first) = agent();
    assert_eq!(ask(&mut first, "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
    let mut second = agent.host();
    second.send_raw(b"{\"execute\":\"guest-ping\"}\n").unwrap();
    let limit = if PROGRAM.is_ours() { PATIENCE } else { Duration::from_millis(300) };
    let answered = second.read_line(limit).is_ok();
    assert_eq!(answered, differs("client-several", true, false));
    drop(first);
    if !answered {
        assert_eq!(second.read_line(PATIENCE).unwrap(), b"{\"return\": {}}");
    }
}

#[test]
fn what_one_client_began_is_not_ended_by_the_next() {
    let (agent, mut host) = agent();
    host.send_raw(b"{\"execute\":\"guest-ping\"").unwrap();
    sleep(Duration::from_millis(100));
    drop(host);
    let mut host = agent.host();
    host.send_raw(b"}\n").unwrap();
    let expecting = crate::failed("JSON parse error, expecting value");
    let seen = crate::read(&mut host);
    assert_eq!(seen, differs("parser-per-connection", expecting, "{\"return\": {}}".into()));
}

#[test]
fn handles_outlive_the_client_that_opened_them() {
    let (agent, mut host) = agent();
    let path = agent.dir().join("file");
    std::fs::write(&path, "0123456789").unwrap();
    let handle = host.call("guest-file-open", json!({ "path": path })).unwrap();
    drop(host);
    let read = agent.host().call("guest-file-read", json!({ "handle": handle, "count": 4 })).unwrap();
    assert_eq!(read["buf-b64"], "MDEyMw==");
}

#[test]
fn the_socket_goes_with_the_agent() {
    let (mut agent, host) = agent();
    drop(host);
    agent.signal(Signal::TERM).unwrap();
    assert_eq!(agent.ended(PATIENCE).map(end_of), Some("exit status 0".into()));
    assert_eq!(agent.socket().exists(), differs("socket-removed", false, true));
}

#[test]
fn only_its_owner_can_connect_to_the_socket() {
    use std::os::unix::fs::PermissionsExt;
    let umask_open = setup().inside(["sh", "-c", "umask 0; exec \"$@\"", "sh"]).start();
    let mode = std::fs::metadata(umask_open.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(format!("{mode:o}"), differs("socket-mode", "600", "777"));
}

#[test]
fn a_file_left_by_an_earlier_agent_is_replaced() {
    let setup = setup();
    drop(std::os::unix::net::UnixListener::bind(setup.socket()).unwrap());
    let agent = setup.start();
    assert_eq!(ask(&mut agent.host(), "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
}

#[test]
fn int_and_term_end_the_agent_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut agent, mut host) = agent();
        ask(&mut host, "{\"execute\":\"guest-ping\"}");
        agent.signal(signal).unwrap();
        assert_eq!(agent.ended(PATIENCE).map(end_of), Some("exit status 0".into()));
    }
}
