//! `qga freeze`
//!
//! Each guest has a thread ([`guest`]) that freezes it, waits for the order to thaw, and thaws it, whatever that takes.
//! The main thread runs the command, keeps the time and hears signals. In case it is killed there is a process of its
//! own that was started before: the [`watchdog`].

mod guest;
mod program;
mod report;
mod signals;
mod watchdog;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use qga_client::Error;
use qga_client::freeze::Thawed;

use super::Whole;
use super::thaw::Status;
use crate::cli::{self, Options};
use crate::exit::Failure;
use crate::fleet;
use crate::target::Target;
use program::Program;
use report::Report;
use signals::Signals;
use watchdog::Watchdog;

/// Freezing writes all that is in memory to disks first.
const TIMEOUT: Duration = Duration::from_secs(120);

/// So long after its time is over `qga` is taken for one that hangs or is stopped.
const OVERDUE: Duration = Duration::from_secs(10);

/// How often signals, the time and the command are looked after.
const TICK: Duration = Duration::from_millis(10);

/// Freeze the file systems of guests while a command of this host runs, such as a snapshot
///
/// All targets are frozen, the command is run once, and all are thawed: when it has ended, when it cannot be started,
/// when the time is over, on Ctrl-C, TERM and HUP, and also when qga is killed or cannot reach the agent for a while.
/// If one of them cannot be frozen the others are thawed and the command is not run.
///
/// Without a command they are thawed when the time is over, on Enter, or on Ctrl-C.
///
/// The command finds the targets in QGA_TARGETS, one a line (QGA_TARGET if it is one), and in QGA_FROZEN how many file
/// systems are frozen. While it runs qga keeps the connection: most sockets let in nobody else.
///
/// Exit status: that of the command, or
///   120  a guest may still be frozen
///   123  a guest was thawed before the command had ended, as by its agent's own limit: do not rely on the snapshot
///   124  the time was over before the command had ended; it was told to end (TERM)
///   128+N  signal N ended qga, or the command
/// and that of other commands of qga when nothing was frozen.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Freeze {
    /// Thaw after so long, even if the command still runs; it is told to end
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = cli::seconds)]
    limit: Duration,

    /// Freeze just the file system mounted there; may be given several times
    #[arg(short, long = "mountpoint", value_name = "PATH")]
    mountpoints: Vec<String>,

    /// Freeze nothing, and show whether the agent has frozen file systems
    #[arg(long, conflicts_with_all = ["limit", "mountpoints", "command"])]
    status: bool,

    /// Watch over another qga.
    #[arg(long, hide = true)]
    watchdog: bool,

    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What a guest's thread tells.
#[derive(Debug)]
enum Event {
    /// It is frozen: so many file systems.
    Frozen(u64),
    /// It is not frozen, and why not.
    Failed(Failure),
    /// It is thawed after so long, or could not be thawed.
    Thawed(Result<Thawed, Error>, Duration),
}

/// Why it came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The command ended, or Enter was pressed.
    Done,
    /// A guest could not be frozen, or the command not be started.
    Failed,
    /// The time is over.
    Limit,
    /// This signal.
    Signal(u8),
}

impl Whole for Freeze {
    const NAME: &'static str = "freeze";

    fn run(&self, options: &Options) -> Result<u8, Failure> {
        if self.status {
            return Ok(fleet::run(&mut Status {}, options));
        }
        let targets = options.targets()?;
        if self.watchdog {
            return Ok(watchdog::watch(&targets));
        }
        if targets.is_empty() {
            return Err(Failure::Usage("no machine is running".into()));
        }
        let signals = Signals::catch()?;
        let watchdog = Watchdog::start(&targets)?;
        let timeout = options.timeout_or(TIMEOUT);
        let (tell, events) = channel();
        let mut report = Report::new(&targets);
        let code = thread::scope(|scope| {
            let mut orders = Vec::new();
            for (number, target) in targets.iter().enumerate() {
                let (order, wait) = channel();
                orders.push(order);
                let mountpoints = (!self.mountpoints.is_empty()).then_some(self.mountpoints.as_slice());
                let guest = guest::Guest { number, target, mountpoints, timeout, watchdog: &watchdog };
                let tell = tell.clone();
                scope.spawn(move || guest.hold(&wait, |event| drop(tell.send((number, event)))));
            }
            drop(tell);
            Course {
                options,
                targets: &targets,
                events,
                orders,
                signals,
                watchdog: &watchdog,
                report: &mut report,
                since: None,
            }
            .run(self, timeout)
        });
        watchdog.end();
        report.print(options, code);
        Ok(code)
    }
}

/// What is going on.
struct Course<'a> {
    options: &'a Options,
    targets: &'a [Target],
    events: Receiver<(usize, Event)>,
    /// Whoever drops one gives the order to thaw.
    orders: Vec<Sender<()>>,
    signals: Signals,
    watchdog: &'a Watchdog,
    report: &'a mut Report,
    /// Since when the first guest has been frozen.
    since: Option<Instant>,
}

impl Course<'_> {
    fn run(mut self, freeze: &Freeze, timeout: Duration) -> u8 {
        self.watchdog.expect_within(guest::longest_freeze(timeout));
        let mut program = None;
        let end = match self.freeze(freeze.limit) {
            Some(end) => end,
            None => {
                self.watchdog.expect_within(freeze.limit.saturating_add(OVERDUE));
                if freeze.command.is_empty() {
                    self.wait_for_enter(freeze.limit)
                } else {
                    match Program::start(&freeze.command, self.targets, self.report.frozen()) {
                        Ok(started) => self.wait_for(program.insert(started), freeze.limit),
                        Err((code, message)) => {
                            self.report.fail_command(code, message);
                            End::Failed
                        }
                    }
                }
            }
        };
        if end != End::Done {
            // It first: the less it does after the thaw, the better.
            if let Some(program) = &mut program {
                program.tell_to_end();
            }
        }
        self.watchdog.expect_within(guest::longest_thaw());
        self.orders.clear();
        self.collect(program.as_mut());
        if let Some(program) = program {
            self.report.end_command(program.wait());
        }
        self.report.code(end, freeze.command.is_empty())
    }

    /// Waits until all are frozen; tells what else happened.
    fn freeze(&mut self, limit: Duration) -> Option<End> {
        while !self.report.all_frozen() {
            if let Some(end) = self.interruption(limit) {
                return Some(end);
            }
            self.take_event();
            if self.report.has_failed() {
                return Some(End::Failed);
            }
        }
        None
    }

    fn wait_for(&mut self, program: &mut Program, limit: Duration) -> End {
        self.watchdog.has_command(program.id());
        loop {
            if program.has_ended() {
                return End::Done;
            }
            if let Some(end) = self.interruption(limit) {
                return end;
            }
            thread::sleep(TICK);
        }
    }

    fn wait_for_enter(&mut self, limit: Duration) -> End {
        let (tell, enter) = channel();
        if io::stdin().is_terminal() {
            report::say(self.options, &format!("{} frozen; Enter thaws", self.report.file_systems()));
            // It stays behind when something else comes first, and ends with the program.
            thread::spawn(move || io::stdin().read_line(&mut String::new()).map(|_| tell.send(())));
        }
        loop {
            if enter.try_recv().is_ok() {
                return End::Done;
            }
            if let Some(end) = self.interruption(limit) {
                return end;
            }
            thread::sleep(TICK);
        }
    }

    /// What came from outside.
    fn interruption(&self, limit: Duration) -> Option<End> {
        if let Some(signal) = self.signals.take() {
            return Some(End::Signal(signal));
        }
        self.since.is_some_and(|since| since.elapsed() >= limit).then_some(End::Limit)
    }

    /// Waits until every thread has ended. A second signal does not wait: then the watchdog thaws.
    fn collect(&mut self, mut program: Option<&mut Program>) {
        while !self.report.is_complete() {
            self.take_event();
            if let Some(program) = &mut program {
                program.has_ended();
            }
            if let Some(signal) = self.signals.take() {
                report::say(self.options, "leaving the thaw to the watchdog");
                std::process::exit(i32::from(128 + signal));
            }
        }
    }

    fn take_event(&mut self) {
        match self.events.recv_timeout(TICK) {
            Ok((number, event)) => {
                if matches!(event, Event::Frozen(_)) {
                    self.since.get_or_insert_with(Instant::now);
                }
                self.report.take(number, event);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // A thread that ended without a word has panicked; its guest is the watchdog's.
            Err(RecvTimeoutError::Disconnected) => self.report.give_up(),
        }
    }
}
