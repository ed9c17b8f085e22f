//! Whatever a host sends, and however it is cut: behind it a resynchronisation is answered, with its own number, and
//! nothing late follows; all that goes out is whole lines.
//!
//! The first byte of an input says how the rest is cut, whether a command on handle 1000 hangs, and which of the two
//! forms of resynchronisation is used.
#![no_main]

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use qemu_ga::config::Config;
use qemu_ga::executor::Executor;
use qemu_ga::persist::Persist;
use qemu_ga::platform::linux::file::{OpenFile, OpenMode};
use qemu_ga::platform::linux::root::Root;
use qemu_ga::session::{Environment, Session};
use qemu_ga::state::State;
use qga_proto::json;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// What a fuzzer may call on the machine it runs on. None of them writes, but to handles.
const HARMLESS: &[&str] = &[
    "guest-sync-delimited",
    "guest-sync",
    "guest-ping",
    "guest-info",
    "guest-file-read",
    "guest-file-seek",
    "guest-file-write",
    "guest-file-flush",
    "guest-file-close",
    "guest-fsfreeze-status",
    "guest-exec-status",
    "guest-get-time",
    "guest-get-timezone",
    "guest-get-host-name",
    "guest-get-users",
    "guest-get-osinfo",
    "guest-get-load",
];

/// Whoever uses this handle waits until the input is over, if the input says so.
const HELD: i64 = 1000;
/// A file that can be read.
const READABLE: i64 = 1001;
/// A file that can be written, and forgets it.
const WRITABLE: i64 = 1002;

const HOLD: u8 = 0x80;
const PLAIN: u8 = 0x40;
const SIZE: u8 = 0x3f;

/// Nothing here takes as long, also where everything is slow.
const PATIENCE: Duration = Duration::from_secs(20);

struct Agent {
    state: Arc<State>,
    readable: PathBuf,
}

fn agent() -> &'static Agent {
    static AGENT: OnceLock<Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory").keep();
        let root = Root::new(Path::new("/nonexistent"));
        let allow_rpcs = HARMLESS.iter().map(|name| (*name).to_owned()).collect();
        let persist = Persist::new(&dir, &root).expect("a state directory");
        let readable = dir.join("readable");
        std::fs::write(&readable, [b'x'; 5000]).expect("a file");
        Agent { state: Arc::new(State::new(Config { allow_rpcs, ..Config::default() }, root, persist)), readable }
    })
}

impl Agent {
    /// Opens the handles, which the last host may have closed.
    fn open(&self) {
        let readable = self.readable.to_str().expect("UTF-8");
        for (handle, path, mode) in [(HELD, "/dev/null", "r"), (READABLE, readable, "r"), (WRITABLE, "/dev/null", "w")]
        {
            let parsed = OpenMode::parse(mode).expect("a mode");
            self.state.files.insert(handle, OpenFile::open(path, parsed, mode).expect("it can be opened"));
        }
    }
}

/// A session, the agent around it, and what its host has got.
struct Bench<'a> {
    state: &'a Arc<State>,
    executor: Executor,
    session: Session,
    sent: Vec<u8>,
    /// The clock, which is put forward where a grace is waited for.
    now: Instant,
}

impl Bench<'_> {
    fn send(&mut self, bytes: &[u8]) {
        self.session.input().push(bytes);
        self.session.advance(&mut Environment { state: self.state, executor: &mut self.executor }, self.now);
        self.read();
    }

    /// The host reads all there is, and what is begun because of that.
    fn read(&mut self) {
        while self.session.has_output() {
            let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).expect("a pipe");
            if self.session.output().pending() > 60_000 {
                fcntl_setpipe_size(&writer, 1 << 20).expect("a larger pipe");
            }
            self.session.output().write_to(&writer).expect("a pipe takes it");
            drop(writer);
            std::fs::File::from(reader).read_to_end(&mut self.sent).expect("a pipe gives it");
            self.session.advance(&mut Environment { state: self.state, executor: &mut self.executor }, self.now);
        }
    }

    /// Takes what the workers have done.
    fn collect(&mut self) {
        for done in self.executor.collect() {
            self.session.finished(&mut Environment { state: self.state, executor: &mut self.executor }, done, self.now);
        }
        self.read();
    }

    /// Puts the clock to where the session wants to be called.
    fn expire(&mut self) {
        if let Some(deadline) = self.session.deadline() {
            self.now = self.now.max(deadline);
            self.session.expire(&mut Environment { state: self.state, executor: &mut self.executor }, self.now);
            self.read();
        }
    }

    /// Takes what the workers do until `content` is.
    fn wait(&mut self, content: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !content(self) {
            assert!(Instant::now() < end, "nothing comes any more after {:?}", String::from_utf8_lossy(&self.sent));
            thread::sleep(Duration::from_micros(20));
            self.collect();
        }
    }
}

fn sync(id: i64) -> String {
    format!("{{\"execute\":\"guest-sync\",\"arguments\":{{\"id\":{id}}}}}\n")
}

fn resync(id: i64) -> Vec<u8> {
    let request = format!("{{\"execute\":\"guest-sync-delimited\",\"arguments\":{{\"id\":{id}}}}}");
    [b"\xff", request.as_bytes()].concat()
}

fn answer(id: i64) -> String {
    format!("{{\"return\": {id}}}\n")
}

/// The host sends the input, and resynchronises.
fn conversation(first: u8, input: &[u8], bench: &mut Bench<'_>) {
    for piece in input.chunks(usize::from(first & SIZE).max(1)) {
        bench.send(piece);
        bench.collect();
    }
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let id = (hasher.finish() >> 8) as i64;

    let before = bench.sent.len();
    if first & PLAIN == 0 {
        // At once, whatever is going on.
        bench.send(&resync(id));
        assert_eq!(bench.sent[before..], [b"\xff", answer(id).as_bytes()].concat());
    } else {
        // The first one may become part of a message that was not complete; the second one cannot.
        for id in [id, id + 1] {
            bench.send(format!("\n{}", sync(id)).as_bytes());
            if first & HOLD == 0 {
                bench.wait(|bench| bench.session.is_idle());
            }
            while bench.session.deadline().is_some() {
                bench.expire();
            }
        }
        let sent = String::from_utf8_lossy(&bench.sent[before..]);
        let rest = sent.strip_suffix(&answer(id + 1)).expect("the second one is answered");
        // (What is left behind takes the complaints about what came after it along.)
        let complaint = rest.lines().last().is_some_and(|line| line.contains("JSON parse error"));
        assert!(first & HOLD != 0 || rest.ends_with(&answer(id)) || complaint, "{sent}");
    }
    assert!(bench.session.is_idle());

    let before = bench.sent.len();
    bench.send(b"{\"execute\":\"guest-ping\"}\n");
    assert_eq!(bench.sent[before..], *b"{\"return\": {}}\n");
}

/// All that was sent is whole lines, each a reply.
fn check(sent: &[u8], most: usize) {
    let mut lines = 0;
    for line in sent.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").expect("a line is whole");
        let line = line.strip_prefix(b"\xff").unwrap_or(line);
        assert!(line.is_ascii());
        let reply = json::read(line).expect("a reply is JSON");
        assert!(reply.member("return").is_some() != reply.member("error").is_some());
        lines += 1;
    }
    assert!(lines <= most);
}

/// Whatever was left behind ends, the host hears nothing of it, and workers work.
fn back_to_normal(agent: &Agent, bench: &mut Bench<'_>) {
    let before = bench.sent.len();
    bench.wait(|bench| bench.executor.left_behind() == 0);
    assert_eq!(bench.sent.len(), before);

    agent.open();
    let read = format!(r#"{{"execute":"guest-file-read","arguments":{{"handle":{READABLE},"count":3}}}}"#);
    bench.send(read.as_bytes());
    bench.wait(|bench| bench.session.is_idle());
    assert_eq!(bench.sent[before..], *b"{\"return\": {\"count\": 3, \"buf-b64\": \"eHh4\", \"eof\": false}}\n");
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("a list of threads").count()
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, input)) = data.split_first() else { return };
    let (agent, before) = (agent(), threads());
    agent.open();
    let mut bench = Bench {
        state: &agent.state,
        executor: Executor::new().expect("an executor"),
        session: Session::new(1, None),
        sent: Vec::new(),
        now: Instant::now(),
    };
    if first & HOLD == 0 {
        conversation(first, input, &mut bench);
    } else {
        let held = agent.state.files.with(HELD, "a test", |_| {
            conversation(first, input, &mut bench);
            Ok(())
        });
        held.expect("it can be held");
    }

    if bench.executor.left_behind() > 0 {
        back_to_normal(agent, &mut bench);
    }

    // A byte cannot ask for more than one reply.
    check(&bench.sent, input.len() + 5);
    drop(bench);
    let end = Instant::now() + PATIENCE;
    while threads() > before {
        assert!(Instant::now() < end, "a thread stays");
        thread::sleep(Duration::from_micros(20));
    }
});
