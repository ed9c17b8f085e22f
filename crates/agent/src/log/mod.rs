//! Where the lines of the `log` facade go: standard error, the journal or a file, and for what the host had done
//! (target `audit`) the system log.
//!
//! Three rules: logging never blocks, since it is done on the loop; nothing is written while file systems are frozen,
//! since the log may lie on one; and no line is lost without a later line that says so.

mod aside;
mod line;
mod output;
mod syslog;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread;
use std::time::{Duration, SystemTime};

use ::log::{Level, LevelFilter, Log, Metadata, Record};

use self::aside::{Aside, Asked};
use self::output::Output;
use self::syslog::Syslog;
use crate::platform::linux::errno::{ErrnoText, is_fault_of_disk};

/// The target of lines about what the host had done.
pub const AUDIT: &str = "audit";

/// What is logged without `-v`.
const DEFAULT_LEVEL: Level = Level::Warn;

/// How often, a millisecond apart, a thread tries to get its turn before it gives its line up.
const PATIENCE: u32 = 20;

static SINK: OnceLock<Sink> = OnceLock::new();

/// What the command line says about the log.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Every level.
    pub verbose: bool,
    /// A file to append to, instead of standard error.
    pub logfile: Option<PathBuf>,
    /// File systems are frozen: stay silent, and do not even open the file, until [`unmute`].
    pub frozen: bool,
}

/// Starts the log; once in a process.
///
/// A log file on a disk that is read-only or full or fails is complained of on standard error, where the log goes until
/// [`reopen`].
///
/// # Errors
/// The file cannot be opened for another reason: `unable to open specified log file <file>: <reason>`.
pub fn init(options: Options) -> Result<(), String> {
    let mut stderr = Output::stderr();
    // On a disk this would wait for the thaw.
    if options.frozen && !stderr.is_disk_file() {
        stderr.write(
            SystemTime::now(),
            Level::Warn,
            "file systems are frozen, logging is off until they are thawed",
            None,
        );
    }
    let sink = Sink::new(options, stderr, Syslog::new(Path::new("/dev/log")))?;
    let level = sink.max_level();
    if SINK.set(sink).is_ok() {
        if let Some(sink) = SINK.get() {
            // Fails only if there was a logger before, which `set` has just ruled out.
            let _ = ::log::set_logger(sink);
            ::log::set_max_level(level);
        }
    }
    Ok(())
}

/// Says on standard error, wherever the log goes, why the process cannot start or go on. Where that is the journal, the
/// line is an error there.
pub fn last_word(message: &str) {
    let mut stderr = Output::stderr();
    // Where nobody reads it, the exit status has to do.
    if stderr.is_journal() {
        stderr.write(SystemTime::now(), Level::Error, &line::printable(message), None);
    } else {
        let _ = writeln!(io::stderr(), "qemu-ga: {message}");
    }
}

/// Stops all writing, before file systems are frozen. On return no line is being written any more.
pub fn mute() {
    if let Some(sink) = SINK.get() {
        sink.mute();
    }
}

/// Goes on writing, after file systems are thawed, and says how many lines are missing.
pub fn unmute() {
    if let Some(sink) = SINK.get() {
        sink.unmute();
    }
}

/// Opens the log file again, after it was moved away; while muted, as soon as that ends.
pub fn reopen() {
    if let Some(sink) = SINK.get() {
        sink.reopen();
    }
}

/// From now on no line waits for a disk, neither on the loop nor anywhere else. To be called when the process has got
/// where it stays: there may be a thread for this.
pub fn never_wait() {
    if let Some(sink) = SINK.get() {
        sink.never_wait.store(true, Ordering::Relaxed);
    }
}

/// Standard error is `/dev/null` from now on: what went there goes to the system log instead.
pub(crate) fn stderr_is_gone() {
    if let Some(sink) = SINK.get() {
        sink.stderr_is_gone(Output::stderr());
    }
}

#[derive(Debug)]
struct Sink {
    verbose: bool,
    muted: AtomicBool,
    /// Lines that nobody will see.
    lost: AtomicU64,
    /// The last thread that wanted its turn did not get it.
    stuck: AtomicBool,
    /// What has to wait for a disk is done aside.
    never_wait: AtomicBool,
    /// Where that is.
    aside: Aside,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    logfile: Option<PathBuf>,
    reopen: bool,
    /// Standard error stands in for the log file, which could not be opened.
    stands_in: bool,
    output: Option<Output>,
    syslog: Syslog,
    /// Every line is for the system log, and not only the audit lines.
    all_to_syslog: bool,
}

impl Inner {
    /// Opens the log file. The old one is kept if that fails.
    fn open(&mut self, aside: Option<&Aside>) -> Result<(), String> {
        self.reopen = false;
        let Some(path) = self.logfile.clone() else { return Ok(()) };
        let Some(aside) = aside else {
            let opened = Output::file(&path).map_err(|e| cannot_open(&path, &e))?;
            drop(self.turn_to(opened));
            return Ok(());
        };
        let there = path.clone();
        match aside.run(move || Output::file(&there)) {
            Asked::Done(opened) => {
                let former = self.turn_to(opened.map_err(|e| cannot_open(&path, &e))?);
                // Closing may have to wait as well.
                aside.run(move || drop(former));
                Ok(())
            }
            Asked::Late | Asked::Busy => Err("the disk of the log file does not answer".to_owned()),
        }
    }

    /// Writes to the log file from now on. Gives what was written to before.
    fn turn_to(&mut self, file: Output) -> Option<Output> {
        (self.stands_in, self.all_to_syslog) = (false, false);
        self.output.replace(file)
    }
}

fn cannot_open(path: &Path, error: &io::Error) -> String {
    format!("unable to open specified log file {}: {}", path.display(), error.errno_text())
}

impl Sink {
    fn new(options: Options, stderr: Output, syslog: Syslog) -> Result<Self, String> {
        let mut fault = None;
        let output = match &options.logfile {
            None => Some(stderr),
            Some(_) if options.frozen => None,
            Some(path) => match Output::file(path) {
                Ok(file) => Some(file),
                // An agent that logs elsewhere is better than none.
                Err(e) if is_fault_of_disk(&e) => {
                    fault = Some(cannot_open(path, &e));
                    Some(stderr)
                }
                Err(e) => return Err(cannot_open(path, &e)),
            },
        };
        let (logfile, stands_in) = (options.logfile, fault.is_some());
        let inner = Inner { logfile, reopen: false, stands_in, output, syslog, all_to_syslog: false };
        let sink = Sink {
            verbose: options.verbose,
            muted: AtomicBool::new(options.frozen),
            lost: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
            never_wait: AtomicBool::new(false),
            aside: Aside::default(),
            inner: Mutex::new(inner),
        };
        if let Some(complaint) = fault {
            sink.write(SystemTime::now(), Level::Warn, false, &complaint);
        }
        Ok(sink)
    }

    /// The level up to which lines are made at all: audit lines are wanted whatever the level.
    fn max_level(&self) -> LevelFilter {
        if self.verbose { LevelFilter::Trace } else { LevelFilter::Info }
    }

    fn wants(&self, level: Level, audit: bool) -> bool {
        self.verbose || level <= if audit { Level::Info } else { DEFAULT_LEVEL }
    }

    /// Waits for the turn to write, but not long: whoever has it may be stuck on a disk.
    fn turn(&self) -> Option<MutexGuard<'_, Inner>> {
        let patience = if self.stuck.load(Ordering::Relaxed) { 1 } else { PATIENCE };
        for _ in 0..patience {
            match self.inner.try_lock() {
                Ok(inner) => {
                    self.stuck.store(false, Ordering::Relaxed);
                    return Some(inner);
                }
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            }
        }
        self.stuck.store(true, Ordering::Relaxed);
        None
    }

    fn aside(&self) -> Option<&Aside> {
        self.never_wait.load(Ordering::Relaxed).then_some(&self.aside)
    }

    fn write(&self, now: SystemTime, level: Level, audit: bool, text: &str) {
        if self.muted.load(Ordering::SeqCst) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let turn = self.turn();
        // Asked again: with the turn ours, `mute` waits for us.
        let Some(mut inner) = turn.filter(|_| !self.muted.load(Ordering::SeqCst)) else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let text = line::printable(text);
        let in_syslog = (audit || inner.all_to_syslog) && inner.syslog.send(now, level, &text);
        // An audit line that the system log did not take must not vanish.
        if audit && in_syslog && !self.verbose {
            return;
        }
        let Some(output) = &mut inner.output else { return };
        let aside = self.aside();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && !output.write(now, Level::Warn, &format!("{lost} earlier lines of the log were lost"), aside) {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        if !output.write(now, level, &text, aside) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stderr_is_gone(&self, now: Output) {
        if let Some(mut inner) = self.turn() {
            if inner.logfile.is_none() || inner.stands_in {
                inner.output = Some(now);
                inner.all_to_syslog = true;
            }
        }
    }

    fn mute(&self) {
        self.muted.store(true, Ordering::SeqCst);
        // Whoever is still writing has the turn. One that does not get done is stuck anyway.
        drop(self.turn());
    }

    fn unmute(&self) {
        if !self.muted.swap(false, Ordering::SeqCst) {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let failed = match self.turn() {
            Some(mut inner) if inner.reopen || inner.output.is_none() => inner.open(self.aside()).err(),
            _ => None,
        };
        let now = SystemTime::now();
        if let Some(complaint) = failed {
            self.fall_back(now, &complaint);
        }
        let missing = match lost {
            0 => String::new(),
            1 => ", 1 line was not written".into(),
            n => format!(", {n} lines were not written"),
        };
        let text = format!("logging re-enabled due to filesystem unfreeze{missing}");
        self.write(now, Level::Warn, false, &text);
    }

    fn reopen(&self) {
        let failed = match self.turn() {
            Some(mut inner) if self.muted.load(Ordering::SeqCst) => {
                inner.reopen = true;
                None
            }
            Some(mut inner) => inner.open(self.aside()).err(),
            None => None,
        };
        if let Some(complaint) = failed {
            self.fall_back(SystemTime::now(), &complaint);
        }
    }

    /// The file cannot be opened: says so where the log went before, or on standard error.
    fn fall_back(&self, now: SystemTime, complaint: &str) {
        if let Some(mut inner) = self.turn() {
            inner.output.get_or_insert_with(Output::stderr);
        }
        self.write(now, Level::Error, false, complaint);
    }
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata.level(), metadata.target() == AUDIT)
    }

    fn log(&self, record: &Record<'_>) {
        let audit = record.target() == AUDIT;
        if self.wants(record.level(), audit) {
            match record.args().as_str() {
                Some(text) => self.write(SystemTime::now(), record.level(), audit, text),
                None => self.write(SystemTime::now(), record.level(), audit, &record.args().to_string()),
            }
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests;
