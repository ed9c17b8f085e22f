//! A host that sends requests of all kinds in large heaps, and knows the reply that each must get.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use qga_testkit::numbers::Numbers;
use qga_testkit::{Host, TestAgent};
use serde_json::{Value, json};

use crate::files::Files;
use crate::mix::{self, Known};
use crate::programs::Programs;

/// The limit for any one reply, on a machine that has much else to do.
const LONG: Duration = Duration::from_secs(120);

/// What a plain `guest-sync` leaves to a command before it overtakes it.
const GRACE: Duration = Duration::from_secs(1);

/// Most requests that are sent before a reply is read.
const HEAP: usize = 40;

/// A request, but for its `id`, and what comes of it.
#[derive(Debug)]
pub(crate) struct Asked {
    name: &'static str,
    bytes: Vec<u8>,
    id: Option<Value>,
    /// Whether there is a place for an `id`.
    is_request: bool,
    expect: Expect,
}

/// What comes of a request.
#[derive(Debug)]
pub(crate) enum Expect {
    /// Just this.
    Value(Value),
    /// An error: its class and text.
    Error(&'static str, String),
    /// An error about JSON.
    Broken,
    /// The value of a plain `guest-sync`, which may come before the replies to earlier requests.
    Overtakes(Value),
    /// The value of `guest-sync-delimited`, with the byte in front of it.
    Delimited(Value),
    /// What that command answered at first, or something of the same form.
    Known(usize),
    /// A handle for this file.
    Opened(usize),
    /// A result, or an error, of this open file.
    OfFile(usize, Result<Value, String>),
    /// This file is closed, and has what was written to it.
    Closed(usize),
    /// This file is closed now or was before.
    ClosedSomehow(usize),
    /// A process id; of the program this is told in the end, if anybody asks.
    Started(Option<Value>),
    /// What has become of this process.
    Told(i64),
}

impl Asked {
    /// A request for a command.
    pub(crate) fn new(name: &'static str, arguments: Value, expect: Expect) -> Self {
        Asked { name, bytes: qga_testkit::host::request(name, &arguments), id: None, is_request: true, expect }
    }

    /// A line that is no request; `name` is for the count.
    pub(crate) fn line(name: &'static str, line: &[u8], expect: Expect) -> Self {
        Asked { name, bytes: [line, b"\n"].concat(), id: None, is_request: false, expect }
    }

    /// Whether it is a plain `guest-sync` and this its reply: the number is like no other.
    fn is_answered_by(&self, reply: &Value) -> bool {
        matches!(&self.expect, Expect::Overtakes(value) if reply.get("return") == Some(value))
    }

    /// Gives it an `id`, where it has a place for one.
    fn number(&mut self, id: Value) {
        if self.is_request {
            let rest = self.bytes.split_off(1);
            self.bytes.extend(format!("\"id\":{id},").into_bytes());
            self.bytes.extend(rest);
            self.id = Some(id);
        }
    }
}

/// How many requests there were of each kind.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests that were sent, by the name of the command.
    pub(crate) sent: BTreeMap<&'static str, u64>,
    /// Replies that came.
    pub(crate) replies: u64,
    /// Of those, errors.
    pub(crate) errors: u64,
    /// Requests whose reply was given up, by 0xFF or by the end of the connection.
    pub(crate) given_up: u64,
    /// Requests that were overtaken by a plain `guest-sync`.
    pub(crate) overtaken: u64,
    /// Resynchronisations.
    pub(crate) resyncs: u64,
    /// Connections.
    pub(crate) connections: u64,
}

impl Tally {
    pub(crate) fn total(&self) -> u64 {
        self.sent.values().sum()
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (name, count) in other.sent {
            *self.sent.entry(name).or_default() += count;
        }
        self.replies += other.replies;
        self.errors += other.errors;
        self.given_up += other.given_up;
        self.overtaken += other.overtaken;
        self.resyncs += other.resyncs;
        self.connections += other.connections;
    }
}

/// The host.
#[derive(Debug)]
pub(crate) struct Driver<'a> {
    agent: &'a TestAgent,
    known: &'a [Known],
    host: Host,
    numbers: Numbers,
    files: Files,
    programs: Programs,
    next: u64,
    /// The last line was broken: what does not begin with a brace would be taken for the rest of it.
    after_broken: bool,
    tally: Tally,
}

impl<'a> Driver<'a> {
    /// One that has its files in this directory, which is not there yet.
    pub(crate) fn new(agent: &'a TestAgent, known: &'a [Known], seed: u64, dir: &Path) -> Self {
        Driver {
            agent,
            known,
            host: agent.host(),
            numbers: Numbers::new(seed),
            files: Files::new(dir),
            programs: Programs::default(),
            next: 0,
            after_broken: false,
            tally: Tally { connections: 1, ..Tally::default() },
        }
    }

    /// Sends at least this many requests, and leaves nothing open.
    pub(crate) fn run(mut self, count: u64) -> Tally {
        while self.tally.total() < count {
            match self.numbers.below(100) {
                0..=69 => {
                    let heap = self.heap(true);
                    self.exchange(heap);
                }
                70..=84 => {
                    let heap = self.heap(false);
                    self.exchange(heap);
                }
                85..=91 => self.give_up_by_resync(),
                92..=94 => self.resync_in_the_middle_of_a_request(),
                95..=96 => self.give_up_by_leaving(),
                97 => self.leave_in_the_middle_of_a_request(),
                _ => self.connect_again(),
            }
        }
        self.finish();
        self.tally
    }

    /// A heap of requests. In one that is `safe` every request gets its reply; in another one they may get lost, so
    /// that there is nothing whose reply is needed.
    fn heap(&mut self, safe: bool) -> Vec<Asked> {
        let count = 1 + self.numbers.below(HEAP);
        (0..count).map(|_| self.ask(safe)).collect()
    }

    fn ask(&mut self, safe: bool) -> Asked {
        let wanted = match self.numbers.below(1000) {
            0..=399 => self.files.ask(&mut self.numbers, safe),
            400..=411 if safe => Some(self.programs.ask(&mut self.numbers)),
            _ => None,
        };
        let mut asked = wanted.unwrap_or_else(|| mix::ask(&mut self.numbers, self.known, !safe));
        if self.after_broken && !asked.bytes.starts_with(b"{") {
            asked = ping();
        }
        self.after_broken = matches!(asked.expect, Expect::Broken);
        if !self.numbers.once_in(6) {
            self.next += 1;
            let id = match self.numbers.below(4) {
                0 => json!(format!("n\u{fc}mber {}", self.next)),
                1 => json!({ "number": self.next, "list": [null, true, self.next] }),
                _ => json!(self.next),
            };
            asked.number(id);
        }
        asked
    }

    /// Sends these as one.
    fn send(&mut self, heap: &[Asked]) {
        let bytes: Vec<u8> = heap.iter().flat_map(|asked| asked.bytes.iter().copied()).collect();
        self.host.send_raw_within(&bytes, LONG).expect("the agent takes requests");
        for asked in heap {
            *self.tally.sent.entry(asked.name).or_default() += 1;
        }
    }

    /// Sends these and reads all replies.
    fn exchange(&mut self, heap: Vec<Asked>) {
        let begin = Instant::now();
        self.send(&heap);
        let mut heap = VecDeque::from(heap);
        while !heap.is_empty() {
            let (marked, reply) = self.read();
            let mut asked = heap.pop_front().expect("a request");
            // A plain sync that is answered first has had what is before it dropped.
            if !asked.is_answered_by(&reply) && begin.elapsed() >= GRACE {
                if let Some(before) = heap.iter().position(|later| later.is_answered_by(&reply)) {
                    for lost in std::iter::once(asked).chain(heap.drain(..before)).collect::<Vec<_>>() {
                        self.tally.overtaken += 1;
                        self.lost(&lost);
                    }
                    asked = heap.pop_front().expect("the sync");
                }
            }
            self.take(asked, marked, reply);
        }
    }

    fn read(&mut self) -> (bool, Value) {
        let line = self.host.read_line(LONG).unwrap_or_else(|error| panic!("no reply: {error}"));
        let (marked, text) = match line.strip_prefix(&[0xFF]) {
            Some(rest) => (true, rest),
            None => (false, &line[..]),
        };
        let reply = serde_json::from_slice(text);
        (marked, reply.unwrap_or_else(|error| panic!("{error} in the reply {}", String::from_utf8_lossy(&line))))
    }

    /// Holds a reply against the request that it must belong to.
    fn take(&mut self, asked: Asked, marked: bool, mut reply: Value) {
        let Asked { name, id, expect, bytes, .. } = asked;
        let wrong = |what: &str| -> ! {
            let request = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
            panic!("{what} in the reply {reply} to {request} which should be {expect:?}")
        };
        if reply.get("id") != id.as_ref() {
            wrong("another id");
        }
        if marked != matches!(expect, Expect::Delimited(_)) {
            wrong("the byte 0xFF");
        }
        let members = 1 + usize::from(id.is_some());
        if reply.as_object().is_none_or(|object| object.len() != members) {
            wrong("a member too many or too few");
        }
        let text = |member: &str| reply["error"][member].as_str();
        let result = match (reply.get("return"), text("class"), text("desc")) {
            (Some(value), None, None) => Ok(value),
            (None, Some(class), Some(desc)) => Err((class, desc)),
            _ => wrong("neither value nor error"),
        };
        self.tally.replies += 1;
        self.tally.errors += u64::from(result.is_err());
        let fits = match (&expect, result) {
            (Expect::Value(expected) | Expect::Overtakes(expected) | Expect::Delimited(expected), Ok(value)) => {
                value == expected
            }
            (Expect::OfFile(_, Ok(expected)), Ok(value)) => value == expected,
            (Expect::OfFile(_, Err(expected)), Err(("GenericError", desc))) => desc == expected,
            (Expect::Error(class, expected), Err(error)) => error == (*class, expected.as_str()),
            (Expect::Broken, Err(("GenericError", desc))) => desc.starts_with("JSON parse error"),
            (Expect::Known(index), result) => self.known[*index].is_like(result),
            (Expect::Opened(_), Ok(value)) => value.as_i64().is_some_and(|handle| handle >= 1000),
            (Expect::Closed(_) | Expect::ClosedSomehow(_), Ok(value)) => *value == json!({}),
            (Expect::ClosedSomehow(_), Err(("GenericError", desc))) => desc.ends_with("has not been found"),
            (Expect::Started(_), Ok(value)) => value["pid"].as_i64().is_some_and(|pid| pid > 0),
            (Expect::Told(_), Ok(value)) => value["exited"].is_boolean(),
            _ => false,
        };
        if !fits {
            wrong(&format!("something else for {name}"));
        }
        let value = reply["return"].take();
        match expect {
            Expect::Opened(file) => self.files.opened(file, value.as_i64().unwrap_or_default()),
            Expect::Closed(file) => self.files.closed(file),
            Expect::ClosedSomehow(file) => self.files.closed_somehow(file),
            Expect::Started(result) => self.programs.started(value["pid"].as_i64().unwrap_or_default(), result),
            Expect::Told(pid) => self.programs.told(pid, &value),
            _ => (),
        }
    }

    /// Nobody will read the reply to this one.
    fn lost(&mut self, asked: &Asked) {
        match asked.expect {
            Expect::OfFile(file, _) | Expect::Closed(file) => self.files.lost(file),
            Expect::Opened(_) | Expect::ClosedSomehow(_) | Expect::Started(_) | Expect::Told(_) => {
                panic!("the reply to {} is needed", asked.name)
            }
            _ => (),
        }
    }

    /// Sends requests, reads none or some of the replies, and then gives the rest up.
    fn give_up_by_resync(&mut self) {
        let mut heap = self.heap(false);
        // What a plain sync overtakes is another matter.
        for asked in heap.iter_mut().filter(|asked| matches!(asked.expect, Expect::Overtakes(_))) {
            *asked = ping();
        }
        self.send(&heap);
        let read = self.numbers.below(heap.len() + 1);
        let mut heap = heap.into_iter();
        for asked in heap.by_ref().take(read) {
            let (marked, reply) = self.read();
            self.take(asked, marked, reply);
        }
        for asked in heap {
            self.tally.given_up += 1;
            self.lost(&asked);
        }
        self.resync();
    }

    fn resync(&mut self) {
        self.tally.resyncs += 1;
        *self.tally.sent.entry("guest-sync-delimited").or_default() += 1;
        self.host.sync(LONG).expect("an answer to guest-sync-delimited");
    }

    fn resync_in_the_middle_of_a_request(&mut self) {
        let half = mix::half(&mut self.numbers);
        self.host.send_raw_within(&half, LONG).expect("the agent takes half a request");
        self.resync();
    }

    fn give_up_by_leaving(&mut self) {
        let heap = self.heap(false);
        self.send(&heap);
        for asked in &heap {
            self.tally.given_up += 1;
            self.lost(asked);
        }
        self.connect_again();
    }

    fn leave_in_the_middle_of_a_request(&mut self) {
        let half = mix::half(&mut self.numbers);
        self.host.send_raw_within(&half, LONG).expect("the agent takes half a request");
        self.connect_again();
    }

    fn connect_again(&mut self) {
        self.tally.connections += 1;
        self.host = self.agent.host();
    }

    /// Closes all files and waits for all programs.
    fn finish(&mut self) {
        let heap = self.files.close_all();
        self.exchange(heap);
        let end = Instant::now() + LONG;
        loop {
            let heap = self.programs.ask_after_all();
            if heap.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "programs that do not end: {heap:?}");
            self.exchange(heap);
        }
    }
}

fn ping() -> Asked {
    Asked::new("guest-ping", json!({}), Expect::Value(json!({})))
}
