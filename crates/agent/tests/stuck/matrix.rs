//! What holds whatever it is that hangs.

use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::host::PATIENCE;
use qga_testkit::{Host, TestAgent, wait};
use serde_json::{Value, json};

/// The promise is 100 ms; a busy machine of the tests is given more.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

/// A plain guest-sync waits one second for the command that runs.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How often a resynchronisation is measured. With the two syncs without 0xFF that leaves room below the limit of what
/// may hang.
const TRIES: usize = 3;

/// The two that are sent without 0xFF.
pub(crate) const SYNCS: [&str; 2] = ["guest-sync", "guest-sync-delimited"];

/// How often a cause is asked for its command in all.
pub(crate) const TIMES: usize = TRIES + 3;

/// What the memory of an agent may have grown by when all is over.
const GROWTH: u64 = 1 << 20;

/// Something that hangs.
pub(crate) struct Cause<'a> {
    /// For what is measured.
    pub(crate) what: &'a str,
    /// The command, and its arguments the first, the second, ... time.
    pub(crate) command: &'a str,
    pub(crate) arguments: &'a dyn Fn(usize) -> Value,
    /// Returns as soon as so many of them hang.
    pub(crate) hang: &'a dyn Fn(usize),
    /// What a thaw answers meanwhile.
    pub(crate) thaw: Value,
    /// Whether one that comes later gives up by itself after three seconds.
    pub(crate) gives_up: bool,
    /// Lets all of them go on.
    pub(crate) release: &'a dyn Fn(),
}

/// An agent with two hosts, and what it costs when it has nothing to do.
pub(crate) struct Bench<'a> {
    agent: &'a TestAgent,
    /// Asks for what hangs.
    pub(crate) host: Host,
    /// Asks for other things.
    pub(crate) other: Host,
    fds: usize,
    rss: u64,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(agent: &'a TestAgent) -> Self {
        let (mut host, mut other) = (agent.host(), agent.host());
        for host in [&mut host, &mut other] {
            ping(host);
            everything_works(agent, host);
            host.call("guest-fsfreeze-thaw", json!({})).unwrap();
        }
        settle(agent);
        Bench { agent, host, other, fds: agent.fds(), rss: agent.rss() }
    }

    /// All that is promised while something hangs, and afterwards.
    pub(crate) fn run(mut self, cause: &Cause<'_>) {
        let mut took: Vec<Duration> = (1..=TRIES).map(|count| self.resync(cause, count)).collect();
        took.sort_unstable();
        let (least, median) = (took[0], took[TRIES / 2]);
        eprintln!("{}: resynchronised in {} us, median {} us", cause.what, least.as_micros(), median.as_micros());
        assert!(median < AT_ONCE, "{took:?}");
        for (n, name) in SYNCS.into_iter().enumerate() {
            let took = self.sync(cause, name, TRIES + 1 + n);
            eprintln!("{}: {name} without 0xFF answered in {} ms", cause.what, took.as_millis());
        }

        // One more that nobody has given up yet: the other host is not concerned.
        self.begin(cause, TIMES);
        let begin = Instant::now();
        ping(&mut self.other);
        assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        everything_works(self.agent, &mut self.other);
        resync(&mut self.host);
        everything_works(self.agent, &mut self.host);
        assert_eq!(self.other.call("guest-fsfreeze-thaw", json!({})), Ok(cause.thaw.clone()), "{}", cause.what);

        (cause.release)();
        self.returns_to_normal();
    }

    fn begin(&mut self, cause: &Cause<'_>, count: usize) {
        self.host.send(cause.command, &(cause.arguments)(count - 1)).unwrap();
        (cause.hang)(count);
    }

    /// The answer comes although nothing has been let go: that happens in this very thread, later.
    pub(crate) fn resync(&mut self, cause: &Cause<'_>, count: usize) -> Duration {
        self.begin(cause, count);
        // Waits behind it, and is dropped with it.
        self.host.send("guest-info", &json!({})).unwrap();
        let took = resync(&mut self.host);
        ping(&mut self.host);
        self.host.call("guest-info", json!({})).unwrap();
        took
    }

    /// As libvirt does it, and Proxmox.
    pub(crate) fn sync(&mut self, cause: &Cause<'_>, name: &str, count: usize) -> Duration {
        self.begin(cause, count);
        self.host.send("guest-info", &json!({})).unwrap();
        let id = 1_763_812_345_678i64 + count as i64;
        let begin = Instant::now();
        self.host.send(name, &json!({ "id": id })).unwrap();
        loop {
            let reply = self.host.read_json(PATIENCE).unwrap();
            if reply == json!({ "return": id }) {
                break;
            }
            // On a machine that stood still for so long.
            assert!(cause.gives_up && begin.elapsed() > GRACE, "{reply}");
        }
        let took = begin.elapsed();
        assert!(took > GRACE / 2 && took < GRACE + AT_ONCE * 3, "{took:?}");
        ping(&mut self.host);
        took
    }

    pub(crate) fn returns_to_normal(mut self) {
        for host in [&mut self.host, &mut self.other] {
            let late = host.read_until_silence(Duration::from_millis(300)).unwrap();
            assert_eq!(late, b"", "{}", String::from_utf8_lossy(&late));
        }
        for host in [&mut self.host, &mut self.other] {
            everything_works(self.agent, host);
        }
        settle(self.agent);
        let host_is_silent = self.host.read_until_silence(Duration::from_millis(10)).unwrap();
        assert_eq!(host_is_silent, b"");
        let fds = || (self.agent.fds() <= self.fds).then_some(());
        wait::until("descriptors given back", PATIENCE, fds);
        let grown = self.agent.rss().saturating_sub(self.rss);
        assert!(grown < GROWTH, "grown by {} KiB", grown >> 10);
        let woken = self.agent.wake_ups();
        sleep(Duration::from_secs(1));
        assert_eq!(self.agent.wake_ups(), woken, "woken with nothing to do");
    }
}

/// How long a resynchronisation takes.
#[track_caller]
pub(crate) fn resync(host: &mut Host) -> Duration {
    let begin = Instant::now();
    host.sync(PATIENCE).expect("an answer to the resynchronisation");
    begin.elapsed()
}

#[track_caller]
pub(crate) fn ping(host: &mut Host) {
    host.call_within("guest-ping", json!({}), PATIENCE).unwrap();
}

/// Neither threads nor programs are left.
fn settle(agent: &TestAgent) {
    let is_alone = || (agent.threads() == 1 && agent.children() == (0, 0)).then_some(());
    if wait::poll(PATIENCE * 2, is_alone).is_none() {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().filter_map(Result::ok);
        let names: Vec<String> =
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect();
        panic!("threads {names:?}, {:?} children are left; it said: {}", agent.children(), agent.stderr());
    }
}

/// Commands of every kind that have nothing to do with what hangs.
pub(crate) fn everything_works(agent: &TestAgent, host: &mut Host) {
    let info = host.call("guest-info", json!({})).unwrap();
    assert!(info["version"].is_string(), "{info}");
    let path = agent.dir().join("another file");
    let handle = host.call("guest-file-open", json!({ "path": path, "mode": "w+" })).unwrap();
    let mut on_file = |verb: &str, arguments: Value| {
        let mut arguments = arguments;
        arguments["handle"] = handle.clone();
        host.call(&format!("guest-file-{verb}"), arguments).unwrap_or_else(|error| panic!("{verb}: {error}"))
    };
    assert_eq!(on_file("write", json!({ "buf-b64": "ZmluZQ==" }))["count"], 4);
    on_file("flush", json!({}));
    on_file("seek", json!({ "offset": 0, "whence": "set" }));
    assert_eq!(on_file("read", json!({}))["buf-b64"], "ZmluZQ==");
    on_file("close", json!({}));
    let started = host.call("guest-exec", json!({ "path": "/bin/echo", "arg": ["fine"], "capture-output": true }));
    let started = started.unwrap();
    let ended = wait::until("the end of a program", PATIENCE, || {
        let status = host.call("guest-exec-status", started.clone()).unwrap();
        status["exited"].as_bool().unwrap().then_some(status)
    });
    assert_eq!(ended["out-data"], "ZmluZQo=");
    for command in ["guest-network-get-interfaces", "guest-get-osinfo", "guest-get-time", "guest-get-fsinfo"] {
        host.call(command, json!({})).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}
