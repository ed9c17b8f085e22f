use super::*;

/// An agent that listens in `dir`.
fn reactor(dir: &std::path::Path) -> Reactor {
    let mut state = State::for_tests(dir);
    state.config.method = "unix-listen".into();
    state.config.path = Some(dir.join("socket"));
    let channel = Channel::from_config(&state.config, None).unwrap();
    Reactor::new(Arc::new(state), channel, Signals::take().unwrap()).unwrap()
}

#[test]
fn an_agent_that_cannot_go_on_thaws_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut reactor = reactor(dir.path());
    let state = Arc::clone(&reactor.state);
    // A device of nobody's: there is nothing to thaw, only to be found thawed.
    state.persist.frozen.set_for(&[(7, 987_654)]);
    state.freeze.adopt();
    reactor.poller = Poller::broken();
    assert_eq!(reactor.run().unwrap_err().desc, "cannot wait for events: Invalid argument");
    assert!(!state.freeze.is_frozen());
    assert!(!state.persist.frozen.is_current());
}
