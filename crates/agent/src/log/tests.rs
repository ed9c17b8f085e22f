use std::fs;
use std::io::Read;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;

use super::*;

/// A sink whose standard error and system log are ours to read.
struct Bench {
    sink: Arc<Sink>,
    stderr: UnixStream,
    daemon: Option<UnixDatagram>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(options: impl FnOnce(&Path) -> Options, syslog: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("syslog");
        let daemon = syslog.then(|| UnixDatagram::bind(&path).unwrap());
        let (ours, stderr) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        stderr.set_nonblocking(true).unwrap();
        if let Some(daemon) = &daemon {
            daemon.set_nonblocking(true).unwrap();
        }
        let sink = Sink::new(options(dir.path()), Output::own(ours.into()), Syslog::new(&path)).unwrap();
        Bench { sink: Arc::new(sink), stderr, daemon, dir }
    }

    fn log(&self, target: &str, level: Level, text: &str) {
        self.sink.log(&Record::builder().target(target).level(level).args(format_args!("{text}")).build());
    }

    /// What has come out on standard error, without the times.
    fn lines(&self) -> Vec<String> {
        without_times(&self.bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut got = Vec::new();
        let _ = (&self.stderr).read_to_end(&mut got);
        got
    }

    fn syslog(&self) -> Vec<String> {
        let mut got = Vec::new();
        let mut buf = [0; 5000];
        while let Ok(n) = self.daemon.as_ref().unwrap().recv(&mut buf) {
            let line = String::from_utf8(buf[..n].to_vec()).unwrap();
            got.push(line.split_once("qemu-ga: ").unwrap().1.to_owned());
        }
        got
    }
}

fn without_times(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|l| l.split_once(": ").unwrap().1.to_owned()).collect()
}

fn default(_: &Path) -> Options {
    Options::default()
}

fn to_file(dir: &Path) -> Options {
    Options { logfile: Some(dir.join("log")), ..Options::default() }
}

#[test]
fn by_default_errors_and_warnings_are_shown_and_nothing_else() {
    let bench = Bench::new(default, true);
    for level in Level::iter() {
        bench.log("qemu_ga::session", level, level.as_str());
    }
    assert_eq!(bench.lines(), ["critical: ERROR", "warning: WARN"]);
    assert_eq!(bench.syslog(), [""; 0]);
}

#[test]
fn verbose_shows_everything() {
    let bench = Bench::new(|_| Options { verbose: true, ..Options::default() }, true);
    for level in Level::iter() {
        bench.log("qemu_ga::session", level, level.as_str());
    }
    bench.log(AUDIT, Level::Debug, "guest-ping called");
    assert_eq!(
        bench.lines(),
        ["critical: ERROR", "warning: WARN", "info: INFO", "debug: DEBUG", "debug: TRACE", "debug: guest-ping called"]
    );
    assert_eq!(bench.syslog(), ["debug: guest-ping called"]);
}

#[test]
fn what_the_host_changed_goes_to_the_system_log_and_what_it_read_to_none() {
    let bench = Bench::new(default, true);
    bench.log(AUDIT, Level::Debug, "guest-ping called");
    bench.log(AUDIT, Level::Info, "guest-shutdown called, mode: halt");
    assert_eq!(bench.syslog(), ["info: guest-shutdown called, mode: halt"]);
    assert_eq!(bench.lines(), [""; 0]);
}

#[test]
fn without_a_system_log_what_the_host_changed_is_in_the_log() {
    let bench = Bench::new(default, false);
    bench.log(AUDIT, Level::Debug, "guest-ping called");
    bench.log(AUDIT, Level::Info, "guest-shutdown called, mode: halt");
    assert_eq!(bench.lines(), ["info: guest-shutdown called, mode: halt"]);
}

#[test]
fn a_file_name_chosen_by_the_host_cannot_forge_a_line_anywhere() {
    let bench = Bench::new(|_| Options { verbose: true, ..Options::default() }, true);
    bench.log(AUDIT, Level::Info, "filepath: /a\n9.9: critical: forged\u{1b}[2J");
    let shown = "info: filepath: /a\\n9.9: critical: forged\\x1b[2J";
    assert_eq!(bench.lines(), [shown]);
    assert_eq!(bench.syslog(), [shown]);
}

#[test]
fn while_frozen_nothing_is_written_and_afterwards_it_is_said_how_much() {
    let bench = Bench::new(default, true);
    bench.sink.mute();
    bench.log("x", Level::Error, "one");
    bench.log(AUDIT, Level::Info, "two");
    bench.log("x", Level::Debug, "not counted");
    assert_eq!((bench.lines(), bench.syslog()), (vec![], vec![]));
    bench.sink.unmute();
    assert_eq!(bench.lines(), ["warning: logging re-enabled due to filesystem unfreeze, 2 lines were not written"]);
    bench.sink.unmute();
    bench.log("x", Level::Error, "three");
    assert_eq!(bench.lines(), ["critical: three"]);
}

#[test]
fn mute_waits_for_a_line_that_is_being_written() {
    let bench = Bench::new(default, false);
    let turn = bench.sink.inner.lock().unwrap();
    let sink = Arc::clone(&bench.sink);
    let writer = thread::spawn(move || sink.write(SystemTime::now(), Level::Error, false, "late"));
    bench.sink.muted.store(true, Ordering::SeqCst);
    drop(turn);
    writer.join().unwrap();
    bench.sink.mute();
    assert_eq!(bench.lines(), [""; 0], "the writer saw the mute when it got its turn");
    assert_eq!(bench.sink.lost.load(Ordering::Relaxed), 1);
}

#[test]
fn a_thread_stuck_in_the_log_does_not_hold_up_the_others() {
    let bench = Bench::new(default, false);
    let turn = bench.sink.inner.lock().unwrap();
    let before = std::time::Instant::now();
    for _ in 0..20 {
        bench.log("x", Level::Error, "lost");
    }
    assert!(before.elapsed() < Duration::from_secs(5));
    drop(turn);
    bench.log("x", Level::Error, "shown");
    assert_eq!(bench.lines(), ["warning: 20 earlier lines of the log were lost", "critical: shown"]);
}

#[test]
fn a_reader_that_does_not_read_loses_lines_and_is_told_how_many() {
    let bench = Bench::new(default, false);
    let text = "x".repeat(1000);
    let mut wrote = 0;
    while bench.sink.lost.load(Ordering::Relaxed) == 0 {
        bench.log("x", Level::Error, &text);
        wrote += 1;
        assert!(wrote < 100_000, "the socket never fills");
    }
    bench.log("x", Level::Error, &text);
    let first = bench.bytes();
    bench.log("x", Level::Error, "last");
    let all = [first, bench.bytes()].concat();
    let lines = without_times(&all);
    assert_eq!(lines.len(), wrote - 1 + 2);
    assert_eq!(lines[lines.len() - 2..], ["warning: 2 earlier lines of the log were lost", "critical: last"]);
}

#[test]
fn a_log_file_that_was_moved_away_is_opened_again_on_request() {
    let bench = Bench::new(to_file, false);
    let path = bench.dir.path().join("log");
    let moved = bench.dir.path().join("log.1");
    bench.log("x", Level::Error, "one");
    fs::rename(&path, &moved).unwrap();
    bench.log("x", Level::Error, "two");
    bench.sink.reopen();
    bench.log("x", Level::Error, "three");
    assert_eq!(without_times(&fs::read(&moved).unwrap()), ["critical: one", "critical: two"]);
    assert_eq!(without_times(&fs::read(&path).unwrap()), ["critical: three"]);
    assert_eq!(bench.lines(), [""; 0]);
}

#[test]
fn a_log_file_that_cannot_be_opened_again_is_kept_and_says_so() {
    let bench = Bench::new(to_file, false);
    let path = bench.dir.path().join("log");
    let moved = bench.dir.path().join("log.1");
    fs::rename(&path, &moved).unwrap();
    fs::create_dir(&path).unwrap();
    bench.sink.reopen();
    let lines = without_times(&fs::read(&moved).unwrap());
    assert_eq!(lines, [format!("critical: unable to open specified log file {}: Is a directory", path.display())]);
}

#[test]
fn an_agent_that_starts_frozen_does_not_touch_its_log_file_until_the_thaw() {
    let bench = Bench::new(|dir| Options { frozen: true, ..to_file(dir) }, false);
    let path = bench.dir.path().join("log");
    bench.log("x", Level::Error, "one");
    bench.sink.reopen();
    assert!(!path.exists());
    bench.sink.unmute();
    assert_eq!(
        without_times(&fs::read(&path).unwrap()),
        ["warning: logging re-enabled due to filesystem unfreeze, 1 line was not written"]
    );
}

#[test]
fn a_request_to_open_the_file_again_while_frozen_is_met_at_the_thaw() {
    let bench = Bench::new(to_file, false);
    let path = bench.dir.path().join("log");
    bench.sink.mute();
    fs::rename(&path, bench.dir.path().join("log.1")).unwrap();
    bench.sink.reopen();
    assert!(!path.exists());
    bench.sink.unmute();
    assert_eq!(without_times(&fs::read(&path).unwrap()), ["warning: logging re-enabled due to filesystem unfreeze"]);
}

#[test]
fn a_log_file_that_cannot_be_opened_ends_the_start() {
    let options = Options { logfile: Some("/nonexistent/log".into()), ..Options::default() };
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let error = Sink::new(options, Output::own(ours.into()), Syslog::new(Path::new("/nonexistent"))).unwrap_err();
    assert_eq!(error, "unable to open specified log file /nonexistent/log: No such file or directory");
}

#[test]
fn in_the_background_without_a_log_file_the_system_log_gets_every_line() {
    let bench = Bench::new(default, true);
    let (gone, _other) = UnixStream::pair().unwrap();
    bench.sink.stderr_is_gone(Output::own(gone.into()));
    bench.log("x", Level::Error, "no way");
    bench.log("x", Level::Info, "not asked for");
    assert_eq!(bench.syslog(), ["critical: no way"]);
    assert_eq!(bench.lines(), [""; 0]);

    let bench = Bench::new(to_file, true);
    let (gone, _other) = UnixStream::pair().unwrap();
    bench.sink.stderr_is_gone(Output::own(gone.into()));
    bench.log("x", Level::Error, "no way");
    assert_eq!(bench.syslog(), [""; 0]);
    assert_eq!(without_times(&fs::read(bench.dir.path().join("log")).unwrap()), ["critical: no way"]);
}

#[test]
fn a_disk_that_does_not_answer_costs_lines_and_holds_nobody_up() {
    // A pipe that is full and in blocking mode is as slow as a dead disk.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let size = rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    std::io::Write::write_all(&mut &writer, &vec![b'\n'; size]).unwrap();
    let bench = Bench::new(default, false);
    bench.sink.inner.lock().unwrap().output = Some(Output::slow(writer.into()));
    bench.sink.never_wait.store(true, Ordering::Relaxed);
    for text in ["late", "lost", "lost"] {
        bench.log("x", Level::Warn, text);
    }
    assert_eq!(bench.sink.lost.load(Ordering::Relaxed), 2);
    // Now it answers.
    let mut got = vec![0; size];
    reader.read_exact(&mut got).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while bench.sink.lost.load(Ordering::Relaxed) > 0 {
        bench.log("x", Level::Warn, "more");
        assert!(std::time::Instant::now() < until);
    }
    drop(bench.sink.inner.lock().unwrap().output.take());
    drop(bench);
    got.clear();
    reader.read_to_end(&mut got).unwrap();
    let lines = without_times(&got);
    assert_eq!(lines.first().unwrap(), "warning: late");
    assert!(lines.iter().any(|line| line.ends_with(" earlier lines of the log were lost")), "{lines:?}");
    assert!(!lines.contains(&"warning: lost".to_owned()));
}

#[test]
fn in_the_background_the_system_log_stands_in_for_a_log_file_until_that_can_be_opened() {
    let bench = Bench::new(to_file, true);
    // As after a start on a disk that was read-only.
    bench.sink.inner.lock().unwrap().stands_in = true;
    let (gone, _other) = UnixStream::pair().unwrap();
    bench.sink.stderr_is_gone(Output::own(gone.into()));
    bench.log("x", Level::Error, "no way");
    assert_eq!(bench.syslog(), ["critical: no way"]);
    bench.sink.reopen();
    bench.log("x", Level::Error, "found");
    assert_eq!(bench.syslog(), [""; 0]);
    assert_eq!(without_times(&fs::read(bench.dir.path().join("log")).unwrap()), ["critical: found"]);
}
