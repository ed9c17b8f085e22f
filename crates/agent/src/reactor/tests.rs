use std::os::unix::net::UnixDatagram;

use super::*;
use crate::executor::Need;

/// An agent that listens in `dir`.
fn reactor(dir: &std::path::Path, notifier: Notifier) -> Reactor {
    let mut state = State::for_tests(dir);
    state.config.method = "unix-listen".into();
    state.config.path = Some(dir.join("socket"));
    let channel = Channel::from_config(&state.config, None).unwrap();
    Reactor::new(Arc::new(state), channel, Signals::take().unwrap(), notifier).unwrap()
}

#[test]
fn an_agent_that_cannot_go_on_thaws_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut reactor = reactor(dir.path(), Notifier::default());
    let state = Arc::clone(&reactor.state);
    // A device of nobody's: there is nothing to thaw, only to be found thawed.
    state.persist.frozen.set_for(&[(7, 987_654)]);
    state.freeze.adopt();
    reactor.poller = Poller::broken();
    assert_eq!(reactor.run().unwrap_err().desc, "cannot wait for events: Invalid argument");
    assert!(!state.freeze.is_frozen());
    assert!(!state.persist.frozen.is_current());
}

/// What the service manager has heard since it was last asked.
fn heard(manager: &UnixDatagram) -> Option<String> {
    let mut buf = [0; 200];
    manager.recv(&mut buf).ok().map(|n| String::from_utf8(buf[..n].to_vec()).unwrap())
}

fn manager(path: &std::path::Path) -> UnixDatagram {
    let manager = UnixDatagram::bind(path).unwrap();
    manager.set_nonblocking(true).unwrap();
    manager
}

#[test]
fn the_sign_of_life_is_given_by_turns_of_the_loop_and_by_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = manager(&path);
    let limit = Duration::from_millis(200);
    let mut reactor = reactor(dir.path(), Notifier::to(&path, Some(limit)));
    reactor.manager.ready(reactor.condition());
    let ready = format!("READY=1\nSTATUS=listening at '{}'", dir.path().join("socket").display());
    assert_eq!(heard(&manager), Some(ready));
    for _ in 0..3 {
        // The wait ends by itself when the sign is due, and before that when a child of another test's ends.
        let sign = std::iter::repeat_with(|| {
            reactor.turn().unwrap();
            heard(&manager)
        });
        assert_eq!(sign.take(1000).flatten().next().as_deref(), Some("WATCHDOG=1"));
        assert_eq!(heard(&manager), None);
    }
    // A worker works, and the loop does not turn: it is taken for dead, and rightly so.
    let (begun, begins) = std::sync::mpsc::channel();
    let job = Box::new(move || {
        begun.send(()).unwrap();
        std::thread::sleep(limit * 4);
        Answer::default()
    });
    reactor.executor.start(OWN_JOBS, &mut None, Need::Common, job).unwrap();
    begins.recv().unwrap();
    std::thread::sleep(limit * 2);
    assert_eq!(heard(&manager), None);
    reactor.turn().unwrap();
    assert_eq!(heard(&manager).as_deref(), Some("WATCHDOG=1"));
}

#[test]
fn without_a_watchdog_the_loop_waits_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let _manager = manager(&path);
    for notifier in [Notifier::default(), Notifier::to(&path, None)] {
        let dir = tempfile::tempdir().unwrap();
        let mut reactor = reactor(dir.path(), notifier);
        reactor.manager.ready(reactor.condition());
        assert_eq!(reactor.deadline(), None);
    }
}

#[test]
fn the_manager_hears_of_a_thaw_that_no_request_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = manager(&path);
    let limit = Duration::from_secs(120);
    let mut reactor = reactor(dir.path(), Notifier::to(&path, Some(limit)));
    let state = Arc::clone(&reactor.state);
    state.persist.frozen.set_for(&[(7, 987_654)]);
    state.freeze.adopt();
    reactor.manager.ready(reactor.condition());
    let begin = Instant::now();
    // As the end of the window does; nothing else wakes the loop.
    let thread = std::thread::spawn(move || state.freeze.thaw(&*state.system));
    let mut all = Vec::new();
    while !all.last().is_some_and(|last: &String| last.starts_with("STATUS=listening")) {
        reactor.turn().unwrap();
        all.extend(std::iter::from_fn(|| heard(&manager)));
        assert!(begin.elapsed() < limit / 2, "{all:?}");
    }
    assert_eq!(all[0], "READY=1\nSTATUS=frozen since before this process was started");
    thread.join().unwrap().unwrap();
}
