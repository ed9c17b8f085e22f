//! The rules of the module, with real programs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use qga_proto::types::exec::{CAPTURE_MAX, CaptureOutput};

use super::*;

/// Longer than anything takes on a machine that is busy.
const LONG: Duration = Duration::from_secs(120);

/// A shell script to be run.
fn sh(script: &str) -> [String; 2] {
    ["-c".to_owned(), script.to_owned()]
}

fn program(args: &[String], capture: CaptureOutput) -> Program<'_> {
    Program { path: "/bin/sh", args, env: None, capture, input: false }
}

fn start(exec: &Exec, script: &str, capture: CaptureOutput) -> i64 {
    exec.start(&program(&sh(script), capture), Vec::new()).unwrap()
}

fn start_with_input(exec: &Exec, script: &str, capture: CaptureOutput, input: Vec<u8>) -> i64 {
    exec.start(&Program { input: true, ..program(&sh(script), capture) }, input).unwrap()
}

#[track_caller]
fn ended(exec: &Exec, pid: i64) -> Outcome {
    match exec.status(pid, LONG).unwrap() {
        Status::Ended(outcome) => outcome,
        Status::Running => panic!("{pid} does not end"),
    }
}

#[track_caller]
fn until(what: &str, exec: &Exec, mut holds: impl FnMut(&Table) -> bool) {
    let end = Instant::now() + LONG;
    while !holds(&exec.shared.lock()) {
        assert!(Instant::now() < end, "{what}: {:?}", exec.shared.lock());
        thread::sleep(Duration::from_millis(2));
    }
}

/// Nothing is running and nothing is held.
#[track_caller]
fn at_rest(exec: &Exec) {
    until("the follower ends", exec, |table| table.watch.is_none());
    assert_eq!(exec.shared.lock().holds(), Default::default());
}

fn text(stream: Option<Captured>) -> String {
    String::from_utf8(stream.unwrap().bytes).unwrap()
}

#[test]
fn a_program_is_followed_to_its_end_and_then_forgotten() {
    let exec = Exec::default();
    for _ in 0..20 {
        let pid = start(&exec, "echo out; echo err >&2; exit 3", CaptureOutput::Separated);
        let outcome = ended(&exec, pid);
        assert_eq!(outcome.end, End::Exited(3));
        assert_eq!((text(outcome.out), text(outcome.err)), ("out\n".into(), "err\n".into()));
        let again = exec.status(pid, Duration::ZERO).unwrap_err();
        assert_eq!(again.desc, format!("PID {pid} does not exist"));
    }
    at_rest(&exec);
}

#[test]
fn a_signal_and_an_exit_status_are_told_apart() {
    let exec = Exec::default();
    let pid = start(&exec, "kill -9 $$", CaptureOutput::None);
    assert_eq!(ended(&exec, pid), Outcome { end: End::Killed(9), out: None, err: None });
    let pid = start(&exec, "exit 300", CaptureOutput::None);
    assert_eq!(ended(&exec, pid).end, End::Exited(44));
    let pid = start(&exec, "kill -STOP $$; exit 1", CaptureOutput::None);
    until("it stops", &exec, |_| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T "));
    assert_eq!(exec.status(pid, Duration::ZERO), Ok(Status::Running));
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap(),
        rustix::process::Signal::CONT,
    )
    .unwrap();
    assert_eq!(ended(&exec, pid).end, End::Exited(1));
}

#[test]
fn a_running_program_says_nothing_but_that() {
    let exec = Exec::default();
    let pid = start_with_input(&exec, "echo early; cat", CaptureOutput::Stdout, vec![b'x'; 3 << 20]);
    // (Its output is read, so `cat` ends by itself only after its input.)
    let outcome = ended(&exec, pid);
    assert_eq!(outcome.out.unwrap().bytes.len(), (3 << 20) + 6);
    let pid = start(&exec, "sleep 300", CaptureOutput::Stdout);
    assert_eq!(exec.status(pid, STATUS_WAIT), Ok(Status::Running));
    kill_group(pid);
    assert_eq!(ended(&exec, pid).end, End::Killed(9));
}

fn kill_group(pid: i64) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn input_that_nobody_reads_goes_with_the_process() {
    let exec = Exec::default();
    for _ in 0..5 {
        let pid = start_with_input(&exec, "exit 0", CaptureOutput::Separated, vec![0; 16 << 20]);
        assert_eq!(ended(&exec, pid).end, End::Exited(0));
    }
    at_rest(&exec);
    // A grandchild has the input open and reads it later, when the result has long been fetched.
    let pid = start_with_input(&exec, "(sleep 0.3; cat) <&0 >/dev/null 2>&1 &", CaptureOutput::None, vec![0; 1 << 20]);
    ended(&exec, pid);
    at_rest(&exec);
}

#[test]
fn a_program_that_closes_its_input_early_goes_on() {
    let exec = Exec::default();
    let pid = start_with_input(
        &exec,
        "head -c 5; exec <&-; sleep 0.2; echo done",
        CaptureOutput::Stdout,
        vec![b'x'; 1 << 20],
    );
    assert_eq!(text(ended(&exec, pid).out), "xxxxxdone\n");
    let pid = start_with_input(&exec, "cat; echo end", CaptureOutput::Stdout, Vec::new());
    assert_eq!(text(ended(&exec, pid).out), "end\n");
    at_rest(&exec);
}

#[test]
fn unread_input_is_bounded() {
    let exec = Exec::default();
    let half = MOST_INPUT / 2 + 1;
    let pid = start_with_input(&exec, "sleep 300", CaptureOutput::None, vec![0; half]);
    let args = sh("exit");
    let input = Program { input: true, ..program(&args, CaptureOutput::None) };
    let refused = exec.start(&input, vec![0; half]).unwrap_err();
    assert!(refused.desc.starts_with("programs started by guest-exec have not read 335"), "{refused}");
    // Without that much, it goes.
    let other = start_with_input(&exec, "cat", CaptureOutput::Stdout, vec![b'x'; 100_000]);
    assert_eq!(ended(&exec, other).out.unwrap().bytes.len(), 100_000);
    kill_group(pid);
    ended(&exec, pid);
    at_rest(&exec);
}

#[test]
fn output_is_kept_up_to_the_limit_and_the_rest_is_drained() {
    let exec = Exec::default();
    let most = CAPTURE_MAX;
    let script = format!("head -c {most} /dev/zero; head -c {} /dev/zero >&2", most + 1);
    let outcome = {
        let pid = start(&exec, &script, CaptureOutput::Separated);
        ended(&exec, pid)
    };
    let (out, err) = (outcome.out.unwrap(), outcome.err.unwrap());
    assert_eq!((out.bytes.len(), out.truncated), (most, false));
    assert_eq!((err.bytes.len(), err.truncated), (most, true));
    // The writer neither blocks nor is killed.
    let pid = start(&exec, "printf first; head -c 1000000000 /dev/zero && exit 5", CaptureOutput::Merged);
    let outcome = ended(&exec, pid);
    let out = outcome.out.unwrap();
    assert_eq!((outcome.end, out.bytes.len(), out.truncated), (End::Exited(5), most, true));
    assert_eq!(&out.bytes[..6], b"first\0");
    at_rest(&exec);
}

#[test]
fn a_background_process_that_holds_the_output_delays_the_end_by_a_grace_only() {
    let exec = Exec::default();
    let before = Instant::now();
    let pid = start(&exec, "echo mine; sleep 300 & echo $!", CaptureOutput::Separated);
    let outcome = ended(&exec, pid);
    assert!(before.elapsed() >= QUIET);
    let said = text(outcome.out);
    assert!(said.starts_with("mine\n"), "{said}");
    // Its pipes are still open, and the follower sleeps.
    assert_eq!(exec.shared.lock().holds().pipes, 2);
    kill_group(pid);
    at_rest(&exec);
}

#[test]
fn what_comes_in_the_grace_is_waited_for() {
    let exec = Exec::default();
    let pid = start(&exec, "(for i in 1 2 3 4; do sleep 0.4; echo $i; done) &", CaptureOutput::Stdout);
    assert_eq!(text(ended(&exec, pid).out), "1\n2\n3\n4\n");
    at_rest(&exec);
}

#[test]
fn what_comes_after_the_grace_and_before_the_fetch_is_in_the_result() {
    let exec = Exec::default();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!("echo a; (until [ -e {0} ]; do sleep 0.05; done; echo b; touch {0}2) &", go.display());
    let pid = start(&exec, &script, CaptureOutput::Stdout);
    until("it counts as ended", &exec, |table| table.holds().results == 1);
    std::fs::write(&go, "").unwrap();
    until("the output ends", &exec, |table| table.holds().pipes == 0);
    assert_eq!(text(ended(&exec, pid).out), "a\nb\n");
    at_rest(&exec);
}

#[test]
fn an_endless_writer_in_the_background_is_neither_waited_for_for_ever_nor_stopped() {
    let exec = Exec::default();
    let before = Instant::now();
    let pid = start(&exec, "while :; do echo x; sleep 0.1; done &", CaptureOutput::Stdout);
    ended(&exec, pid);
    assert!(before.elapsed() >= PATIENCE);
    // Its pipe is read on: it would be killed by the signal if it were closed.
    thread::sleep(Duration::from_millis(500));
    assert_eq!(exec.shared.lock().holds().pipes, 1);
    kill_group(pid);
    at_rest(&exec);
}

#[test]
fn of_the_pipes_left_open_only_the_last_are_kept() {
    let exec = Exec::default();
    let mut pids = Vec::new();
    for count in 0..MOST_LEFT / 2 + 3 {
        pids.push(start(&exec, "sleep 300 &", CaptureOutput::Separated));
        until("it has ended", &exec, |table| {
            let holds = table.holds();
            holds.pipes == 2 * holds.results || count >= 20
        });
    }
    for pid in &pids {
        ended(&exec, *pid);
    }
    let holds = exec.shared.lock().holds();
    assert_eq!((holds.pipes, holds.left, holds.descriptors), (MOST_LEFT, MOST_LEFT, 0));
    pids.iter().for_each(|pid| kill_group(*pid));
    at_rest(&exec);
}

#[test]
fn running_programs_are_limited_and_never_dropped() {
    let exec = Exec::default();
    let sleeper = ["300".to_owned()];
    let sleeper = Program { path: "sleep", args: &sleeper, env: None, capture: CaptureOutput::Separated, input: true };
    let most = MOST_DESCRIPTORS / 4;
    let pids: Vec<i64> = (0..most).map(|_| exec.start(&sleeper, vec![0; 100_000]).unwrap()).collect();
    let refused = exec.start(&sleeper, Vec::new()).unwrap_err();
    let desc = format!("{most} programs started by guest-exec are still running, which is the limit");
    assert_eq!(refused.desc, desc);
    // A failing start takes no room either.
    let nothing = Program { path: "/nonexistent", ..sleeper };
    kill_group(pids[0]);
    ended(&exec, pids[0]);
    for _ in 0..10 {
        assert!(exec.start(&nothing, Vec::new()).unwrap_err().desc.contains("/nonexistent"));
    }
    for pid in &pids[1..] {
        assert_eq!(exec.status(*pid, Duration::ZERO), Ok(Status::Running));
        kill_group(*pid);
    }
    for pid in &pids[1..] {
        assert_eq!(ended(&exec, *pid).end, End::Killed(9));
    }
    at_rest(&exec);
}

#[test]
fn of_the_results_nobody_fetches_the_oldest_go() {
    let exec = Exec::default();
    let arg = ["x".to_owned()];
    let echo = Program { path: "/bin/echo", args: &arg, env: None, capture: CaptureOutput::Stdout, input: false };
    let mut pids = Vec::new();
    for _ in 0..MOST_RESULTS + 50 {
        pids.push(exec.start(&echo, Vec::new()).unwrap());
        // One after the other, so that it is known which is older.
        until("it has ended", &exec, Table::is_idle);
    }
    assert_eq!(exec.shared.lock().holds().results, MOST_RESULTS);
    for pid in &pids[..50] {
        assert!(exec.status(*pid, Duration::ZERO).is_err());
    }
    for pid in &pids[50..] {
        assert_eq!(text(ended(&exec, *pid).out), "x\n");
    }
    at_rest(&exec);
}

#[test]
fn memory_for_output_is_bounded_and_the_oldest_results_make_room() {
    let exec = Exec::default();
    let mut pids = Vec::new();
    for _ in 0..6 {
        pids.push(start(&exec, "head -c 16777216 /dev/zero; exit", CaptureOutput::Stdout));
        until("it has ended", &exec, |table| table.watch.is_none());
        assert!(exec.shared.lock().holds().kept <= MOST_KEPT);
    }
    for pid in &pids[..2] {
        assert!(exec.status(*pid, Duration::ZERO).is_err());
    }
    for pid in &pids[2..] {
        let out = ended(&exec, *pid).out.unwrap();
        assert_eq!((out.bytes.len(), out.truncated), (CAPTURE_MAX, false));
    }
    at_rest(&exec);
}

#[test]
fn output_of_running_programs_is_cut_when_there_is_nothing_older_to_drop() {
    let exec = Exec::default();
    let script = "head -c 16777216 /dev/zero; head -c 16777216 /dev/zero >&2; sleep 300";
    let full: Vec<i64> = (0..2).map(|_| start(&exec, script, CaptureOutput::Separated)).collect();
    until("they have written", &exec, |table| table.holds().bytes == MOST_KEPT);
    let pid = start(&exec, "echo more", CaptureOutput::Stdout);
    let outcome = ended(&exec, pid);
    assert_eq!((outcome.end, outcome.out), (End::Exited(0), Some(Captured { bytes: vec![], truncated: true })));
    for pid in full {
        kill_group(pid);
        let outcome = ended(&exec, pid);
        let streams = [outcome.out.unwrap(), outcome.err.unwrap()];
        assert!(streams.iter().all(|stream| stream.bytes.len() == CAPTURE_MAX && !stream.truncated));
    }
    at_rest(&exec);
}

#[test]
fn a_number_that_comes_again_is_the_new_programs() {
    let exec = Exec::default();
    let old = start(&exec, "echo old; exit 1", CaptureOutput::Stdout);
    until("it has ended", &exec, |table| table.watch.is_none());
    // The kernel would need some 30,000 programs in between, so the first result is put under another's number.
    let new = start(&exec, "read line; echo new", CaptureOutput::Stdout);
    exec.shared.lock().pretend(old, new);
    assert_eq!(text(ended(&exec, new).out), "new\n");
    assert!(exec.status(old, Duration::ZERO).is_err());
    assert!(exec.status(new, Duration::ZERO).is_err());
    at_rest(&exec);
}

#[test]
fn without_descriptors_for_processes_they_are_asked_after() {
    let exec = Exec::default();
    let args = sh("echo out; exit 4");
    let program = program(&args, CaptureOutput::Stdout);
    let place = exec.reserve(program.descriptors(), 0).unwrap();
    let started = Started { pidfd: None, ..program.start().unwrap() };
    let pid = place.take(started, Vec::new()).unwrap();
    let outcome = ended(&exec, pid);
    assert_eq!((outcome.end, text(outcome.out)), (End::Exited(4), "out\n".into()));
    at_rest(&exec);
}

#[test]
fn a_program_that_ends_before_its_start_has_returned_leaves_no_follower() {
    let exec = Exec::default();
    let args = sh("exit 0");
    let program = program(&args, CaptureOutput::None);
    let mut place = exec.reserve(program.descriptors(), 0).unwrap();
    let started = program.start().unwrap();
    exec.shared.lock().insert(started, Vec::new(), place.descriptors).unwrap();
    place.is_taken = true;
    // As if the thread that starts it had to wait for a processor here.
    until("the follower ends", &exec, |table| table.watch.is_none());
    drop(place);
}

#[test]
fn many_at_once_from_several_threads_get_their_own_results() {
    let exec = Exec::default();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (exec, done) = (&exec, &done);
            scope.spawn(move || {
                for round in 0..25 {
                    let script = format!("cat; echo {thread}.{round} >&2");
                    let input = format!("input {thread} {round}");
                    let pid = start_with_input(exec, &script, CaptureOutput::Separated, input.clone().into_bytes());
                    let outcome = ended(exec, pid);
                    assert_eq!(text(outcome.out), input);
                    assert_eq!(text(outcome.err), format!("{thread}.{round}\n"));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 100);
    at_rest(&exec);
}
