mod stalled;
mod streams;

use std::time::{Duration, Instant};

use super::*;
use crate::commands::testing::Gate;
use crate::executor::STUCK_MAX;

/// A session, the agent around it, and what the host has got so far.
struct Bench {
    state: Arc<State>,
    executor: Executor,
    session: Session,
    orphans: Vec<Session>,
    host: Vec<u8>,
    /// Added to the clock, so that a grace need not be waited for.
    later: Duration,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Bench {
            state: Arc::new(State::for_tests(dir.path())),
            executor: Executor::new().unwrap(),
            session: Session::new(1, None),
            orphans: Vec::new(),
            host: Vec::new(),
            later: Duration::ZERO,
            _dir: dir,
        }
    }

    fn now(&self) -> Instant {
        Instant::now() + self.later
    }

    fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    fn send_bytes(&mut self, bytes: &[u8]) {
        let now = self.now();
        self.session.input().push(bytes);
        self.session.advance(&mut Environment { state: &self.state, executor: &mut self.executor }, now);
    }

    /// Takes results for a moment, or until `until` is content.
    fn settle(&mut self, until: impl Fn(&mut Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !until(self) && Instant::now() < end {
            let now = self.now();
            for done in self.executor.collect() {
                let mut env = Environment { state: &self.state, executor: &mut self.executor };
                if done.session == self.session.id() {
                    self.session.finished(&mut env, done, now);
                } else if let Some(orphan) = self.orphans.iter_mut().find(|orphan| orphan.id() == done.session) {
                    orphan.finished(&mut env, done, now);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The host reads everything there is.
    fn read(&mut self) -> String {
        let now = self.now();
        loop {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20).unwrap();
            rustix::io::ioctl_fionbio(&writer, true).unwrap();
            self.session.output().write_to(&writer).unwrap();
            drop(writer);
            let before = self.host.len();
            std::io::Read::read_to_end(&mut std::fs::File::from(reader), &mut self.host).unwrap();
            self.session.advance(&mut Environment { state: &self.state, executor: &mut self.executor }, now);
            if self.host.len() == before {
                break;
            }
        }
        let text = self.host.iter().map(|byte| if *byte == 0xFF { '^' } else { char::from(*byte) }).collect();
        self.host.clear();
        text
    }

    fn pass(&mut self, time: Duration) {
        self.later += time;
        let now = self.now();
        self.session.expire(&mut Environment { state: &self.state, executor: &mut self.executor }, now);
    }

    fn host_leaves(&mut self, next: u64) {
        let mut env = Environment { state: &self.state, executor: &mut self.executor };
        let orphan = self.session.host_gone(&mut env, next);
        self.orphans.extend(orphan);
    }
}

const PING: &str = r#"{"execute":"guest-ping"}"#;

fn wait(gate: i64) -> String {
    format!(r#"{{"execute":"test-wait","arguments":{{"id":{gate}}}}}"#)
}

fn sync(id: i64) -> String {
    format!(r#"{{"execute":"guest-sync","arguments":{{"id":{id}}}}}"#)
}

fn resync(id: i64) -> Vec<u8> {
    let mut bytes = vec![0xFF];
    bytes.extend(format!(r#"{{"execute":"guest-sync-delimited","arguments":{{"id":{id}}}}}"#).bytes());
    bytes
}

#[test]
fn replies_leave_in_the_order_of_the_requests() {
    let mut bench = Bench::new();
    bench.send(&format!("{PING}{}{}", wait(100), sync(7)));
    assert_eq!(bench.read(), "{\"return\": {}}\n");
    Gate::of(100).open();
    bench.settle(|bench| bench.session.running.is_none());
    assert_eq!(bench.read(), "{\"return\": 100}\n{\"return\": 7}\n");
    assert!(bench.session.is_idle());
}

#[test]
fn a_resync_is_answered_at_once_and_the_late_reply_never_comes() {
    let mut bench = Bench::new();
    bench.send(&format!("{}{PING}", wait(110)));
    bench.send_bytes(&resync(5));
    assert_eq!(bench.read(), "^{\"return\": 5}\n");
    bench.send(PING);
    assert_eq!(bench.read(), "{\"return\": {}}\n");
    Gate::of(110).open();
    std::thread::sleep(Duration::from_millis(50));
    bench.executor.collect();
    assert_eq!(bench.read(), "");
}

#[test]
fn a_delimited_sync_without_0xff_waits_its_grace_and_then_is_answered() {
    let mut bench = Bench::new();
    bench.send(&format!("{}{PING}", wait(120)));
    bench.send_bytes(&resync(5)[1..]);
    // Proxmox has sent its command with it.
    bench.send(PING);
    bench.pass(SYNC_GRACE / 2);
    assert_eq!(bench.read(), "");
    bench.pass(SYNC_GRACE);
    assert_eq!(bench.read(), "^{\"return\": 5}\n{\"return\": {}}\n");
    assert!(bench.session.is_idle());
    Gate::of(120).open();
    std::thread::sleep(Duration::from_millis(50));
    bench.executor.collect();
    assert_eq!(bench.read(), "");
}

#[test]
fn a_delimited_sync_without_0xff_does_not_overtake_what_ends_in_time() {
    let mut bench = Bench::new();
    bench.send(&wait(125));
    bench.send_bytes(&resync(5)[1..]);
    bench.pass(SYNC_GRACE / 2);
    Gate::of(125).open();
    bench.settle(|bench| bench.session.running.is_none());
    assert_eq!(bench.read(), "{\"return\": 125}\n^{\"return\": 5}\n");
}

#[test]
fn a_plain_sync_waits_its_grace_and_then_is_answered() {
    let mut bench = Bench::new();
    bench.send(&format!("{}{PING}", wait(130)));
    bench.send(&sync(5));
    bench.pass(SYNC_GRACE / 2);
    assert_eq!(bench.read(), "");
    bench.pass(SYNC_GRACE);
    assert_eq!(bench.read(), "{\"return\": 5}\n");
    assert!(bench.session.is_idle());
    Gate::of(130).open();
}

#[test]
fn a_command_that_ends_within_the_grace_keeps_its_place() {
    let mut bench = Bench::new();
    bench.send(&format!("{}{}", wait(140), sync(5)));
    bench.pass(SYNC_GRACE / 2);
    Gate::of(140).open();
    bench.settle(|bench| bench.session.is_idle() || bench.session.output.pending() > 0);
    assert_eq!(bench.read(), "{\"return\": 140}\n{\"return\": 5}\n");
}

#[test]
fn a_long_pipeline_of_quick_commands_before_a_plain_sync_loses_nothing() {
    let mut bench = Bench::new();
    Gate::of(150).open();
    let text: String = (0..300).map(|_| wait(150)).collect();
    bench.send(&format!("{text}{}", sync(1)));
    let mut got = String::new();
    for _ in 0..10_000 {
        bench.pass(SYNC_GRACE / 4);
        bench.settle(|bench| bench.session.running.is_none() || bench.session.output.pending() > 0);
        got.push_str(&bench.read());
        if got.ends_with("{\"return\": 1}\n") {
            break;
        }
    }
    assert_eq!(got.matches("{\"return\": 150}\n").count(), 300);
}

#[test]
fn a_panic_is_an_error_reply_with_the_id_and_the_next_command_works() {
    let mut bench = Bench::new();
    bench.send(&format!(r#"{{"execute":"test-panic","id":[1]}}{PING}"#));
    bench.settle(|bench| bench.session.running.is_none());
    let reply = bench.read();
    assert_eq!(
        reply,
        "{\"id\": [1], \"error\": {\"class\": \"GenericError\", \"desc\": \"test-panic failed unexpectedly: on purpose\"}}\n{\"return\": {}}\n"
    );
}

#[test]
fn a_resync_with_nothing_running_keeps_the_worker() {
    let mut bench = Bench::new();
    Gate::of(165).open();
    bench.send(&wait(165));
    bench.settle(|bench| bench.session.running.is_none());
    bench.send_bytes(&resync(1));
    assert!(bench.session.worker.is_some());
    bench.send(&wait(165));
    bench.settle(|bench| bench.session.running.is_none());
    assert_eq!(bench.read(), "{\"return\": 165}\n^{\"return\": 1}\n{\"return\": 165}\n");
}

#[test]
fn beyond_the_cap_the_error_names_what_is_stuck() {
    let mut bench = Bench::new();
    for n in 0..STUCK_MAX {
        bench.send(&wait(160));
        bench.settle(|bench| bench.session.running.as_ref().is_none_or(|r| r.command.get().is_some()));
        bench.send_bytes(&resync(n as i64));
    }
    bench.read();
    bench.send(&wait(161));
    let reply = bench.read();
    assert!(reply.contains("too many commands are still blocked: test-wait for 0 s, test-wait for 0 s"), "{reply}");
    bench.send(PING);
    assert_eq!(bench.read(), "{\"return\": {}}\n");
    Gate::of(160).open();
    std::thread::sleep(Duration::from_millis(100));
    Gate::of(161).open();
    bench.executor.collect();
    bench.send(&wait(161));
    bench.settle(|bench| bench.session.running.is_none());
    assert_eq!(bench.read(), "{\"return\": 161}\n");
}

#[test]
fn a_thaw_behind_a_command_that_runs_waits_for_it_and_costs_nobody_a_reply() {
    let mut bench = Bench::new();
    bench.send(&wait(171));
    bench.send("{\"execute\":\"guest-ping\"}");
    bench.send("{\"execute\":\"guest-fsfreeze-thaw\"}");
    assert_eq!(bench.session.deadline(), None, "only a synchronisation overtakes");
    bench.pass(Duration::from_secs(60));
    Gate::of(171).open();
    bench.settle(|bench| bench.session.running.is_none());
    assert_eq!(bench.read(), "{\"return\": 171}\n{\"return\": {}}\n{\"return\": 0}\n");
}

#[test]
fn a_thaw_is_done_although_as_many_commands_as_may_be_are_stuck() {
    let mut bench = Bench::new();
    for n in 0..STUCK_MAX {
        bench.send(&wait(170));
        bench.settle(|bench| bench.session.running.as_ref().is_none_or(|r| r.command.get().is_some()));
        bench.send_bytes(&resync(n as i64));
    }
    bench.read();
    bench.state.freeze.take_over(Vec::new(), Some(Vec::new()));
    bench.send("{\"execute\":\"guest-fsfreeze-thaw\"}");
    bench.settle(|bench| bench.session.running.is_none());
    assert_eq!(bench.read(), "{\"return\": 0}\n");
    assert!(!bench.state.freeze.is_frozen());
    Gate::of(170).open();
}

#[test]
fn a_thaw_is_not_refused_because_others_are_stuck() {
    let mut bench = Bench::new();
    for n in 0..STUCK_MAX {
        bench.send(&wait(162));
        bench.settle(|bench| bench.session.running.as_ref().is_none_or(|r| r.command.get().is_some()));
        bench.send_bytes(&resync(n as i64));
    }
    bench.read();
    for (command, answer) in [("guest-fsfreeze-status", "\"thawed\""), ("guest-fsfreeze-thaw", "0")] {
        bench.send(&format!(r#"{{"execute":"{command}"}}"#));
        bench.settle(|bench| bench.session.running.is_none());
        assert_eq!(bench.read(), format!("{{\"return\": {answer}}}\n"));
        // Not even when the thread of the one before is taken away.
        bench.session.worker = None;
    }
    bench.send(&wait(163));
    assert!(bench.read().contains("too many commands are still blocked"));
    Gate::of(162).open();
}

#[test]
fn a_file_that_is_opened_too_late_for_anybody_to_hear_of_is_closed_again() {
    let mut bench = Bench::new();
    let path = bench._dir.path().join("file");
    std::fs::write(&path, "").unwrap();
    let open = format!(r#"{{"execute":"guest-file-open","arguments":{{"path":"{}"}}}}"#, path.display());
    let close = |handle| format!(r#"{{"execute":"guest-file-close","arguments":{{"handle":{handle}}}}}"#);
    // Left behind before its answer is looked at, and in a conversation that goes on without its host.
    bench.send(&open);
    let is_open = |bench: &mut Bench| bench.state.files.with(1000, "test", |_| Ok(())).is_ok();
    for _ in 0..1000 {
        if is_open(&mut bench) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(is_open(&mut bench));
    bench.send_bytes(&resync(5));
    bench.send(&open);
    bench.send(&open);
    bench.host_leaves(2);
    bench.settle(|bench| bench.orphans[0].is_idle());
    bench.read();
    for handle in [1000, 1001, 1002] {
        let mut reply = String::new();
        for _ in 0..1000 {
            // The closing is done on a thread of its own: until then the handle is there, and it must not be us who
            // close it.
            reply = format!("{:?}", bench.state.files.with(handle, "test", |_| Ok(())));
            if reply.starts_with("Err") {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(reply.contains("has not been found"), "{handle}: {reply}");
    }
    // One that somebody hears of stays open.
    bench.send(&open);
    bench.settle(|bench| bench.session.running.is_none());
    let told = bench.read();
    assert!(told.contains("{\"return\": 1003}"), "{told}");
    bench.send(&close(1003));
    bench.settle(|bench| bench.session.running.is_none());
    assert_eq!(bench.read(), "{\"return\": {}}\n");
}

#[test]
fn what_a_host_began_to_send_before_it_left_is_not_completed_by_the_next_one() {
    let mut bench = Bench::new();
    bench.send(r#"{"execute":"guest-ping""#);
    bench.host_leaves(2);
    bench.send(&format!("{}\n", sync(3)));
    assert_eq!(bench.read(), "{\"return\": 3}\n");
}

#[test]
fn a_reply_to_a_host_that_has_left_is_not_given_to_the_next_one() {
    let mut bench = Bench::new();
    bench.send(PING);
    bench.send(&wait(170));
    bench.host_leaves(2);
    Gate::of(170).open();
    std::thread::sleep(Duration::from_millis(50));
    bench.executor.collect();
    bench.send(&sync(3));
    assert_eq!(bench.read(), "{\"return\": 3}\n");
}

#[test]
fn what_a_host_asked_for_before_it_left_is_carried_out_in_order() {
    let mut bench = Bench::new();
    bench.send(&format!("{}{}", wait(180), wait(181)));
    bench.host_leaves(2);
    assert_eq!(bench.orphans.len(), 1);
    Gate::of(180).open();
    bench.settle(|bench| bench.orphans[0].queue.is_empty());
    assert!(bench.orphans[0].running.is_some(), "the second runs after the first");
    Gate::of(181).open();
    bench.settle(|bench| bench.orphans[0].is_idle());
    assert!(bench.orphans[0].is_idle());
    assert_eq!(bench.read(), "");
}

#[test]
fn the_next_host_need_not_wait_for_the_stuck_command_of_the_last_one() {
    let mut bench = Bench::new();
    Gate::of(191).open();
    bench.send(&wait(190));
    bench.host_leaves(2);
    bench.send(&format!("{PING}{}", wait(191)));
    bench.settle(|bench| bench.session.running.is_none());
    assert_eq!(bench.read(), "{\"return\": {}}\n{\"return\": 191}\n");
    Gate::of(190).open();
}

#[test]
fn nothing_is_started_while_the_host_does_not_read() {
    let mut bench = Bench::new();
    let text = format!(r#"{{"execute":"test-text","arguments":{{"id":{OUTPUT_HIGH}}}}}"#);
    bench.send(&text);
    bench.settle(|bench| bench.session.running.is_none());
    bench.send(&format!("{PING}{}", wait(200)));
    assert!(bench.session.running.is_none(), "the reply before is still unread");
    assert_eq!(bench.session.queue.len(), 2);
    assert!(bench.read().ends_with("\"}\n{\"return\": {}}\n"));
    assert!(bench.session.running.is_some());
    Gate::of(200).open();
}

#[test]
fn input_is_not_read_without_bound() {
    let mut bench = Bench::new();
    bench.send(&wait(210));
    let big = format!(r#"{{"execute":"guest-ping","id":"{}"}}"#, "x".repeat(1 << 20));
    for _ in 0..40 {
        if bench.session.wants_input() {
            bench.send(&big);
        }
    }
    assert!(!bench.session.wants_input());
    assert!(bench.session.queued <= QUEUE_HIGH + (2 << 20));
    Gate::of(210).open();
    bench.settle(|bench| bench.session.running.is_none());
    let got = bench.read();
    assert!(got.starts_with("{\"return\": 210}\n{\"return\": {}, \"id\": \"xxx"));
    assert!(bench.session.wants_input());
}

#[test]
fn a_reply_beyond_the_limit_becomes_an_error_that_names_the_limit() {
    let mut bench = Bench::new();
    bench.session = Session::new(1, Some(1000));
    bench.send(r#"{"execute":"test-text","arguments":{"id":2000},"id":4}"#);
    bench.settle(|bench| bench.session.running.is_none());
    assert_eq!(
        bench.read(),
        "{\"id\": 4, \"error\": {\"class\": \"GenericError\", \"desc\": \"the reply of test-text has 2024 bytes, more than the 1000 this channel carries\"}}\n"
    );
}

#[test]
fn an_id_of_any_length_does_not_cost_what_was_read() {
    let mut bench = Bench::new();
    let path = bench._dir.path().join("file");
    std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
    bench.session = Session::new(1, Some(4096));
    bench.send(&format!(r#"{{"execute":"guest-file-open","arguments":{{"path":"{}"}}}}"#, path.display()));
    bench.settle(|bench| bench.session.running.is_none());
    assert_eq!(bench.read(), "{\"return\": 1000}\n");
    let id = "i".repeat(3000);
    bench.send(&format!(r#"{{"execute":"guest-file-read","arguments":{{"handle":1000,"count":9000}},"id":"{id}"}}"#));
    bench.settle(|bench| bench.session.running.is_none());
    let reply = bench.read();
    assert!(reply.contains("buf-b64") && reply.ends_with(&format!("\"id\": \"{id}\"}}\n")), "{reply}");
    assert!(reply.len() <= 4096, "{}", reply.len());
}

#[test]
fn a_large_answer_is_written_once_and_into_a_buffer_of_its_size() {
    let bench = Bench::new();
    let size = 8 << 20;
    let request = format!(r#"{{"execute":"test-bytes","arguments":{{"id":{size}}}}}"#);
    let mut framer = Framer::new(Limits::default());
    framer.push(request.as_bytes());
    let Some(Frame::Document(document)) = framer.next() else { panic!("no message") };
    let reply = dispatch::prepare(&document).run(&bench.state, None);
    assert!(reply.len() > size / 3 * 4);
    assert!(reply.capacity() < reply.len() + (64 << 10), "{} for {}", reply.capacity(), reply.len());
}
