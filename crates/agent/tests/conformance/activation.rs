//! Sockets handed over by a service manager.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use qga_testkit::host::PATIENCE;
use qga_testkit::{Host, Setup};

use crate::{ask, setup};

/// The agent gets its standard input as descriptors 3 and 4, and the variables of a service manager.
fn activated(setup: Setup, socket: impl Into<OwnedFd>, variables: &str) -> Setup {
    let script = format!("exec 3<&0 4<&0 0</dev/null; {variables}; export LISTEN_PID LISTEN_FDS; exec \"$@\"");
    setup.stdin(socket).inside(["sh", "-c", script.as_str(), "sh"])
}

#[test]
fn a_socket_that_is_handed_over_is_used() {
    let setup = setup().no_channel();
    let path = setup.dir().join("handed-over");
    let listener = UnixListener::bind(&path).unwrap();
    let mut agent = activated(setup, listener, "LISTEN_PID=$$ LISTEN_FDS=1").start();
    let mut host = Host::connect_retry(&path, PATIENCE).unwrap();
    assert_eq!(ask(&mut host, "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
    drop(host);
    assert_eq!(ask(&mut Host::connect(&path).unwrap(), "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
    agent.signal(rustix::process::Signal::TERM).unwrap();
    assert!(agent.ended(PATIENCE).unwrap().success());
    assert!(path.exists(), "the file of a socket that is not ours is left alone");
}

#[test]
fn a_socket_for_another_process_is_not_used() {
    let setup = setup();
    let path = setup.dir().join("handed-over");
    let listener = UnixListener::bind(&path).unwrap();
    let agent = activated(setup, listener, "LISTEN_PID=1 LISTEN_FDS=1").start();
    assert_eq!(ask(&mut agent.host(), "{\"execute\":\"guest-ping\"}"), "{\"return\": {}}");
}

#[test]
fn more_than_one_socket_or_one_of_another_kind_is_refused() {
    for (variables, complaint) in [
        ("LISTEN_PID=$$ LISTEN_FDS=2", "only supports listening on one socket"),
        ("LISTEN_PID=$$ LISTEN_FDS=1", "unsupported listen fd type"),
    ] {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut agent = activated(setup().no_channel(), tcp, variables).start();
        let status = agent.ended(PATIENCE).expect("the agent ends");
        assert_eq!(status.code(), Some(1), "{variables}");
        assert!(agent.stderr().contains(complaint), "{variables}: {}", agent.stderr());
    }
}
