//! Whatever a host sends, and however it is cut: a resynchronisation behind it is answered, and what goes out
//! before it is whole lines.
#![no_main]

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use qemu_ga::config::Config;
use qemu_ga::executor::Executor;
use qemu_ga::persist::Persist;
use qemu_ga::platform::linux::root::Root;
use qemu_ga::session::{Environment, Session};
use qemu_ga::state::State;
use qemu_ga::state::freeze::{Settings, System};
use qemu_ga::state::policy::Policy;

/// What a fuzzer may call on the machine it runs on.
const HARMLESS: &[&str] = &[
    "guest-sync-delimited",
    "guest-sync",
    "guest-ping",
    "guest-info",
    "guest-file-read",
    "guest-file-seek",
    "guest-file-close",
    "guest-fsfreeze-status",
];

fn state() -> Arc<State> {
    static STATE: OnceLock<Arc<State>> = OnceLock::new();
    Arc::clone(STATE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let root = Root::new(Path::new("/nonexistent"));
        let allow: Vec<String> = HARMLESS.iter().map(|name| (*name).to_owned()).collect();
        let (config, persist) = (Config::default(), Persist::new(&dir, &root).unwrap());
        let system = System::new(root.clone(), Settings::of(&config), persist.frozen.clone());
        Arc::new(State {
            config,
            exec: Default::default(),
            files: Default::default(),
            freeze: Default::default(),
            system: Arc::new(system),
            policy: Policy::new(&[], &allow),
            usage: Default::default(),
            persist,
            root,
        })
    }))
}

fn take(session: &mut Session, sent: &mut Vec<u8>) {
    while session.has_output() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        session.output().write_to(&writer).unwrap();
        drop(writer);
        std::io::Read::read_to_end(&mut std::fs::File::from(reader), sent).unwrap();
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, input)) = data.split_first() else { return };
    let state = state();
    let mut executor = Executor::new().unwrap();
    let mut session = Session::new(1, None);
    let mut sent = Vec::new();
    let mut env = Environment { state: &state, executor: &mut executor };
    for piece in input.chunks(usize::from(size).max(1)) {
        session.input().push(piece);
        session.advance(&mut env, Instant::now());
        take(&mut session, &mut sent);
    }
    session.input().push(b"\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":815}}");
    session.advance(&mut env, Instant::now());
    let wanted = b"\xff{\"return\": 815}\n";
    // Replies that wait for the host to read come first.
    let until = Instant::now() + Duration::from_secs(5);
    while !sent.ends_with(wanted) && Instant::now() < until {
        take(&mut session, &mut sent);
        for done in env.executor.collect() {
            session.finished(&mut env, done, Instant::now());
        }
        session.pump(&mut env, Instant::now());
    }
    assert!(sent.ends_with(wanted));
    assert!(session.is_idle());
    let lines = sent.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for line in lines {
        let line = line.strip_prefix(b"\xff").unwrap_or(line);
        assert!(line.starts_with(b"{\"") && line.ends_with(b"}"));
        assert!(line.is_ascii());
    }
});
