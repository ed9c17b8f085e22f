//! The process that thaws when the one that froze is killed, or does not go on.
//!
//! It is another `qga`, in a session of its own, so that what ends a terminal or a service by its group does not end
//! both. Its standard input is a pipe from the first one, which says there what is about to be frozen and what is
//! thawed; the end of the pipe is the end of the first one. It connects only then, because most sockets let in one
//! client at a time.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use qga_client::freeze::{Thawed, thaw_for_certain};
use qga_client::{Deadline, printable};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal, setsid};

use super::report::file_systems;
use super::signals::Signals;
use crate::exit::Failure;
use crate::target::Target;

/// How long it goes on when a guest cannot be reached: as long as this project's agent keeps anything frozen by itself.
const PATIENCE: Duration = Duration::from_secs(600);

/// Time for each request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Its first words.
const READY: &str = "ready\n";

/// The watchdog, seen from the one that is watched.
#[derive(Debug)]
pub(super) struct Watchdog {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    child: Child,
    pipe: Option<ChildStdin>,
    /// Whether it has to thaw something.
    frozen: BTreeSet<usize>,
}

impl Watchdog {
    /// Starts one, and waits until it watches.
    pub(super) fn start(targets: &[Target]) -> Result<Self, Failure> {
        let fail = |what: &str| Failure::Host(format!("nothing is frozen, as there is no watchdog: {what}"));
        // This very program, even if another has taken its place meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("qga").env_remove("QGA_TARGET");
        for target in targets {
            command.arg("--target").arg(target.spelled());
        }
        command.args(["freeze", "--watchdog"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| fail(&error.kind().to_string()))?;
        let (pipe, output) = (child.stdin.take(), child.stdout.take());
        let mut line = String::new();
        if let Some(output) = output {
            let _ = BufReader::new(output).read_line(&mut line);
        }
        if line != READY {
            let _ = child.kill();
            let _ = child.wait();
            return Err(fail("it ended at once"));
        }
        Ok(Watchdog { inner: Mutex::new(Inner { child, pipe, frozen: BTreeSet::new() }) })
    }

    /// This target is about to be frozen.
    pub(super) fn is_frozen(&self, target: usize) -> Result<(), Failure> {
        let mut inner = self.lock();
        inner.frozen.insert(target);
        inner
            .tell(&format!("frozen {target}"))
            .map_err(|_| Failure::Host("nothing is frozen, as the watchdog has ended".into()))
    }

    /// This target is thawed for certain.
    pub(super) fn is_thawed(&self, target: usize) {
        let mut inner = self.lock();
        inner.frozen.remove(&target);
        let _ = inner.tell(&format!("thawed {target}"));
    }

    /// The command that is to be told to end if we are gone.
    pub(super) fn has_command(&self, pid: u32) {
        let _ = self.lock().tell(&format!("command {pid}"));
    }

    /// If nothing is said within this time, we hang or are stopped, and are to be killed.
    pub(super) fn expect_within(&self, limit: Duration) {
        let _ = self.lock().tell(&format!("within {}", limit.as_millis()));
    }

    /// Lets it go. If something may still be frozen, it stays and goes on trying.
    pub(super) fn end(self) {
        let mut inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        inner.pipe = None;
        if inner.frozen.is_empty() {
            let _ = inner.child.wait();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tell(&mut self, line: &str) -> io::Result<()> {
        let pipe = self.pipe.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        // In one piece: what is written at once arrives at once.
        pipe.write_all(format!("{line}\n").as_bytes())
    }
}

/// What the watchdog knows of the one that it watches.
#[derive(Debug, Default)]
struct Watched {
    frozen: BTreeSet<usize>,
    command: Option<OwnedFd>,
    /// When it has to be heard of again.
    until: Option<Instant>,
}

impl Watched {
    /// Takes one line.
    fn hear(&mut self, line: &str) {
        let Some((word, Ok(number))) = line.split_once(' ').map(|(word, number)| (word, number.parse::<u64>())) else {
            return;
        };
        let target = usize::try_from(number).unwrap_or(usize::MAX);
        match word {
            "frozen" => drop(self.frozen.insert(target)),
            "thawed" => drop(self.frozen.remove(&target)),
            "within" => self.until = Instant::now().checked_add(Duration::from_millis(number)),
            // From now on, while it is certain to be the command's number.
            "command" => {
                let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
                self.command = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            }
            _ => {}
        }
    }

    /// Listens until the other end is gone, which the pipe says, or which is helped along when time is over.
    fn listen(&mut self, lines: &Receiver<String>, parent: u32) {
        loop {
            let left =
                self.until.map_or(Duration::from_secs(3600), |until| until.saturating_duration_since(Instant::now()));
            match lines.recv_timeout(left) {
                Ok(line) => self.hear(&line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if self.until.is_none_or(|until| until > Instant::now()) => {}
                Err(RecvTimeoutError::Timeout) => {
                    note("qga freeze does not go on; ending it");
                    if let Some(pid) = i32::try_from(parent).ok().and_then(Pid::from_raw)
                        && parent_id() == parent
                    {
                        let _ = kill_process(pid, Signal::KILL);
                    }
                    return;
                }
            }
        }
    }
}

/// Watches the process that started this one, and thaws what it leaves frozen.
pub(super) fn watch(targets: &[Target]) -> u8 {
    let parent = parent_id();
    // It fails where we lead a group already, and then nothing is to be done.
    let _ = setsid();
    // Whoever tells everything to end wants what is frozen to be thawed.
    let _signals = Signals::catch();
    let (tell, lines) = channel();
    thread::spawn(move || io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let mut out = io::stdout().lock();
    if out.write_all(READY.as_bytes()).and_then(|()| out.flush()).is_err() {
        return Failure::GENERAL;
    }
    let mut watched = Watched::default();
    watched.listen(&lines, parent);
    if watched.frozen.is_empty() {
        return 0;
    }
    if let Some(command) = &watched.command {
        let _ = pidfd_send_signal(command, Signal::TERM);
    }
    let left: Vec<&Target> = watched.frozen.iter().filter_map(|number| targets.get(*number)).collect();
    let codes = thread::scope(|scope| {
        let threads: Vec<_> = left.iter().map(|target| scope.spawn(|| thaw(target))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Failure::MAYBE_FROZEN)).max()
    });
    codes.unwrap_or(0)
}

fn thaw(target: &Target) -> u8 {
    let name = printable(target.name());
    match thaw_for_certain(&mut None, || target.connect(TIMEOUT), Deadline::after(PATIENCE)) {
        Ok(thawed) => {
            let what = match thawed {
                Thawed::Now(count) => format!("{} of {name}", file_systems(count)),
                _ => name,
            };
            note(&format!("qga freeze ended before its time; {what} thawed by its watchdog"));
            0
        }
        Err(error) => {
            note(&format!(
                "qga freeze ended before its time, and {name} may still be frozen: {}",
                printable(&error.to_string())
            ));
            Failure::MAYBE_FROZEN
        }
    }
}

/// A line for whoever still reads.
fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "qga: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_last_counts_and_nonsense_does_not() {
        let mut watched = Watched::default();
        for line in ["frozen 0", "frozen 2", "frozen", "thawed x", "thawed 0", "within 1000", "", "else 1"] {
            watched.hear(line);
        }
        assert_eq!(watched.frozen, BTreeSet::from([2]));
        assert!(watched.until.is_some() && watched.command.is_none());
    }
}
