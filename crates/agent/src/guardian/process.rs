//! The guardian itself.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::MlockAllFlags;

use super::GRACE;
use super::message::{Message, Reason, SIZE};
use crate::daemon::{Signal, Signals};
use crate::persist;
use crate::platform::linux::fsfreeze::{self, Handle};
use crate::platform::linux::mountinfo::Device;
use crate::platform::linux::packets::Packets;
use crate::state::freeze::hooks;

/// How long the first word of the agent may take.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// How often what could not be thawed is tried again when nobody else is there to do it, and how long to wait between.
const TRIES: u32 = 60;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// Is a guardian, for the agent at standard input, and gives the exit status.
pub fn main() -> i32 {
    let Ok(Some(mut guardian)) = Guardian::set_up() else { return 1 };
    guardian.run();
    0
}

struct Guardian {
    agent: Option<Packets>,
    listener: Packets,
    signals: Signals,
    /// The kernel's log, for when there is no agent that could say something.
    kernel_log: Option<File>,
    held: Vec<Held>,
    /// Nothing of what was handed over is missing.
    is_complete: bool,
    /// Run with `freeze` and not yet with `thaw`.
    hooks: Vec<PathBuf>,
    limits: hooks::Limits,
    statedir: PathBuf,
    deadline: Option<Instant>,
    /// When the agent was gone.
    alone: Option<Instant>,
    thawed: Option<Reason>,
    /// For messages, so that none allocates.
    out: Vec<u8>,
}

struct Held {
    handle: Handle,
    frozen: Frozen,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Frozen {
    No,
    /// About to be.
    Perhaps,
    Yes,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    End,
}

impl Guardian {
    fn set_up() -> Result<Option<Self>, Errno> {
        let agent = Packets::new(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        // What a watchdog ends an agent with that hangs, the guardian of its freeze gets as well.
        let Ok(signals) = Signals::take_all() else { return Ok(None) };
        // The name and the kernel's favour are niceties.
        let _ = rustix::thread::set_name(c"qga-guardian");
        let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
        let kernel_log = rustix::fs::open("/dev/kmsg", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok();

        let mut buf = [0; SIZE];
        let limit = Timespec::try_from(FIRST_WORD).ok();
        poll(&mut [PollFd::new(&agent, PollFlags::IN)], limit.as_ref())?;
        let packet = agent.receive(&mut buf, false)?;
        let Some(Message::Setup { hook_limit, hooks_limit, name, statedir }) =
            buf.get(..packet.len).and_then(Message::read)
        else {
            return Ok(None);
        };
        let mut guardian = Guardian {
            listener: Packets::listen(name)?,
            agent: Some(agent),
            signals,
            kernel_log: kernel_log.map(File::from),
            held: Vec::new(),
            is_complete: true,
            hooks: Vec::new(),
            limits: hooks::Limits { each: Duration::from_secs(hook_limit), all: Duration::from_secs(hooks_limit) },
            statedir: OsString::from_vec(statedir.to_vec()).into(),
            deadline: None,
            alone: None,
            thawed: None,
            out: Vec::with_capacity(SIZE),
        };
        // Without the right to do so it has to do without.
        let _ = rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE);
        guardian.say(&Message::Ready);
        Ok(Some(guardian))
    }

    fn run(&mut self) {
        while self.step() == Next::Go {}
    }

    fn step(&mut self) -> Next {
        self.wait();
        let mut is_told = false;
        while let Some(signal) = self.signals.next() {
            is_told |= signal == Signal::End;
        }
        // What the agent said before the signal came has to be known first: it may have been that something is frozen.
        if self.hear() == Next::End {
            return Next::End;
        }
        if is_told {
            self.undo(Reason::Told);
        }
        self.accept();
        let now = Instant::now();
        if self.deadline.is_some_and(|at| now >= at) {
            self.undo(Reason::Deadline);
        }
        if self.agent.is_none() {
            // Nobody takes over what is not frozen.
            let over = self.thawed.is_some()
                || !self.holds_anything()
                || self.alone.is_none_or(|since| now.saturating_duration_since(since) >= GRACE);
            if over {
                self.undo(Reason::AgentGone);
                self.clear_up();
                return Next::End;
            }
        }
        Next::Go
    }

    fn wait(&self) {
        let until = match (self.deadline, self.alone.map(|since| since + GRACE)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let limit = until
            .map(|until| until.saturating_duration_since(Instant::now()))
            .and_then(|left| Timespec::try_from(left).ok());
        let (signals, listener) =
            (PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN));
        // What fails here fails for want of memory, and comes back.
        let _ = match &self.agent {
            Some(agent) => poll(&mut [signals, listener, PollFd::new(agent, PollFlags::IN)], limit.as_ref()),
            None => poll(&mut [signals, listener], limit.as_ref()),
        };
    }

    /// Takes in all that the agent has said, also before it was gone.
    fn hear(&mut self) -> Next {
        let mut buf = [0; SIZE];
        while let Some(agent) = &self.agent {
            let packet = match agent.receive(&mut buf, false) {
                Ok(packet) if packet.len > 0 => packet,
                Err(Errno::AGAIN) => break,
                _ => {
                    self.agent = None;
                    self.alone = Some(Instant::now());
                    break;
                }
            };
            let message = buf.get(..packet.len).and_then(Message::read);
            match message {
                Some(Message::Hook(path)) => self.hooks.push(OsString::from_vec(path.to_vec()).into()),
                Some(Message::HookDone(path)) => {
                    if let Some(at) = self.hooks.iter().rposition(|hook| hook.as_os_str().as_encoded_bytes() == path) {
                        self.hooks.remove(at);
                    }
                }
                Some(Message::Hold { device, point, .. }) => {
                    // There may be no room for it.
                    self.is_complete &= packet.fd.is_some();
                    if let Some(fd) = packet.fd {
                        let point = OsString::from_vec(point.to_vec()).into();
                        self.held.push(Held { handle: Handle::new(fd, point, device), frozen: Frozen::No });
                    }
                }
                Some(Message::Arm(seconds)) => {
                    if seconds > 0 {
                        self.deadline = Instant::now().checked_add(Duration::from_secs(seconds));
                    }
                    self.say(if self.is_complete { &Message::Armed } else { &Message::Busy });
                }
                Some(Message::Freezing(device)) => self.note(device, Frozen::Perhaps),
                Some(Message::Frozen(device)) => {
                    self.note(device, Frozen::Yes);
                    // It comes too late.
                    if self.thawed.is_some() {
                        self.thaw();
                    }
                }
                Some(Message::NotFrozen(device)) => self.note(device, Frozen::No),
                Some(Message::Done) => return Next::End,
                _ => {}
            }
        }
        Next::Go
    }

    fn note(&mut self, device: Device, frozen: Frozen) {
        if let Some(held) = self.held.iter_mut().find(|held| held.handle.device() == device) {
            held.frozen = frozen;
        }
    }

    fn holds_anything(&self) -> bool {
        self.held.iter().any(|held| held.frozen != Frozen::No)
    }

    /// Lets another agent take over.
    fn accept(&mut self) {
        while let Ok(other) = self.listener.accept() {
            if !other.is_trusted() {
                continue;
            }
            if self.agent.is_some() || self.thawed.is_some() {
                Message::Busy.write(&mut self.out);
                // One that does not listen is told by our closing.
                let _ = other.send(&self.out, None);
                continue;
            }
            if self.hand_over(&other).is_ok() {
                self.agent = Some(other);
                self.alone = None;
            }
        }
    }

    fn hand_over(&mut self, to: &Packets) -> Result<(), Errno> {
        let out = &mut self.out;
        for hook in &self.hooks {
            Message::Hook(hook.as_os_str().as_encoded_bytes()).write(out);
            to.send(out, None)?;
        }
        for Held { handle, frozen } in &self.held {
            let point = handle.point().as_os_str().as_encoded_bytes();
            Message::Hold { device: handle.device(), frozen: *frozen != Frozen::No, point }.write(out);
            to.send(out, Some(handle.as_fd()))?;
        }
        let left = self.deadline.map_or(0, |at| at.saturating_duration_since(Instant::now()).as_secs() + 1);
        Message::Arm(left).write(out);
        to.send(out, None)?;
        Message::Over.write(out);
        to.send(out, None)
    }

    /// Thaws, and tells the agent.
    fn undo(&mut self, reason: Reason) {
        self.deadline = None;
        if self.thawed.is_some() || !self.holds_anything() {
            return;
        }
        self.thawed = Some(reason);
        let (count, failed) = self.thaw();
        self.say(&Message::Thawed { reason, count, failed });
    }

    /// Thaws what is frozen, last frozen first, and tells how many were and how many still are. What is in the middle
    /// of being frozen comes last: that may hang, and perhaps only because of the others.
    fn thaw(&mut self) -> (u32, u32) {
        let (mut count, mut failed) = (0, 0);
        for wanted in [Frozen::Yes, Frozen::Perhaps] {
            for held in self.held.iter_mut().rev().filter(|held| held.frozen == wanted) {
                match fsfreeze::thaw(&held.handle) {
                    Ok(was_frozen) => {
                        count += u32::from(was_frozen);
                        // It may still become frozen, and is thawed then.
                        if wanted == Frozen::Yes || was_frozen {
                            held.frozen = Frozen::No;
                        }
                    }
                    Err(_) => failed += 1,
                }
            }
        }
        (count, failed)
    }

    fn say(&mut self, message: &Message<'_>) {
        if let Some(agent) = &self.agent {
            message.write(&mut self.out);
            // An agent that does not listen is noticed by its end.
            let _ = agent.send(&self.out, None);
        }
    }

    /// What is left to do when there is no agent: what could not be thawed, the mark, the hooks.
    fn clear_up(&mut self) {
        for _ in 0..TRIES {
            if self.thaw().1 == 0 {
                break;
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        if self.thawed.is_some() {
            if let Some(log) = &mut self.kernel_log {
                let _ =
                    log.write_all(b"<4>qemu-ga: the agent was gone while file systems were frozen; they are thawed\n");
            }
            persist::leave_word_of_thaw(&self.statedir);
        }
        // From here on there is no hurry, and hooks are nothing to be spared.
        let _ = rustix::mm::munlockall();
        let _ = std::fs::write("/proc/self/oom_score_adj", "0");
        // Nobody is left who could be told of a failure.
        let _ = hooks::thaw(&self.hooks, self.limits, |_| ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::linux::ffi;

    fn guardian(agent: Packets) -> Guardian {
        let name = format!("qga-test-guardian-{}", std::process::id());
        Guardian {
            agent: Some(agent),
            listener: Packets::listen(name.as_bytes()).unwrap(),
            signals: Signals::take_all().unwrap(),
            kernel_log: None,
            held: Vec::new(),
            is_complete: true,
            hooks: Vec::new(),
            limits: hooks::Limits { each: Duration::from_secs(1), all: Duration::from_secs(1) },
            statedir: PathBuf::new(),
            deadline: None,
            alone: None,
            thawed: None,
            out: Vec::new(),
        }
    }

    #[test]
    fn a_guardian_told_to_end_the_moment_something_is_frozen_knows_of_it() {
        // On a thread of its own, which alone gets the signal and in which that stays blocked.
        let thread = std::thread::spawn(|| {
            let (agent, end) = Packets::pair().unwrap();
            let mut guardian = guardian(Packets::new(end));
            let (file, device) = (File::open("/dev/null").unwrap(), Device { major: 7, minor: 1 });
            let mut bytes = Vec::new();
            Message::Hold { device, frozen: false, point: b"/mnt" }.write(&mut bytes);
            agent.send(&bytes, Some(file.as_fd())).unwrap();
            for message in [Message::Freezing(device), Message::Frozen(device)] {
                message.write(&mut bytes);
                agent.send(&bytes, None).unwrap();
            }
            ffi::raise(libc::SIGQUIT);
            assert!(guardian.step() == Next::Go);
            let mut buf = [0; SIZE];
            let packet = agent.receive(&mut buf, false).expect("word of the thaw");
            let told = Message::read(&buf[..packet.len]);
            assert!(matches!(told, Some(Message::Thawed { reason: Reason::Told, .. })), "{told:?}");
        });
        thread.join().unwrap();
    }
}
