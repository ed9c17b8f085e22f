//! The book-keeping: who runs, who has ended, whose pipes are open, and what all that takes.
//!
//! Nothing here blocks. Processes are reaped under the table's lock, so that a number which the kernel gives out
//! again can only come in after its former owner is known to have ended.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qga_proto::error::Error;
use qga_proto::types::exec::CAPTURE_MAX;
use rustix::io::Errno;

use super::process::{Captured, End, Key, Life, Outcome, Process, Role};
use super::{MOST_DESCRIPTORS, MOST_INPUT, MOST_KEPT, MOST_LEFT, MOST_RESULTS, PATIENCE, QUIET, Status};
use crate::platform::linux::spawn::{Child, Flow, Pipe, Started};
use crate::platform::linux::watch::{Interest, Watch};

/// How often processes without a descriptor are asked after.
const STEP: Duration = Duration::from_millis(20);

/// Pieces read from one pipe before others have their turn.
const TURN: usize = 4;

/// Everything there is to know.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The follower's; `None` while there is none.
    pub(super) watch: Option<Arc<Watch>>,
    last: u64,
    processes: BTreeMap<u64, Process>,
    pids: BTreeMap<i64, u64>,
    pipes: BTreeMap<Key, Pipe>,
    /// Processes that the kernel does not announce.
    unannounced: Vec<u64>,
    /// Those in [`Life::Closing`].
    closing: Vec<u64>,
    /// Those in [`Life::Ended`], the oldest first.
    results: VecDeque<u64>,
    /// Pipes of those that have ended or are forgotten, the oldest first.
    left: VecDeque<Key>,
    starting: usize,
    descriptors: usize,
    input: usize,
    kept: usize,
}

impl Table {
    /// Whether one more program may be started.
    ///
    /// # Errors
    ///
    /// Which limit does not allow it.
    pub(super) fn check_room(&self, descriptors: usize, input: usize) -> Result<(), Error> {
        if self.descriptors + descriptors > MOST_DESCRIPTORS {
            let running = self.processes.len() - self.results.len() + self.starting;
            return Err(Error::generic(format!(
                "{running} programs started by guest-exec are still running, which is the limit"
            )));
        }
        if self.input + input > MOST_INPUT {
            return Err(Error::generic(format!(
                "programs started by guest-exec have not read {} bytes of their input yet; with {input} more that is \
                 beyond the limit of {MOST_INPUT}",
                self.input
            )));
        }
        Ok(())
    }

    /// Sets aside what a program takes that is about to start.
    pub(super) fn reserve(&mut self, descriptors: usize, input: usize) {
        self.starting += 1;
        self.descriptors += descriptors;
        self.input += input;
    }

    /// A start has come to nothing; gives back what was set aside for it.
    pub(super) fn release(&mut self, descriptors: usize, input: usize) {
        self.starting -= 1;
        self.descriptors -= descriptors;
        self.input -= input;
    }

    /// Takes a program in, with the descriptors and the input that have been reserved. Its start is over by that: the
    /// follower may see its end at once, and has to find that there is nothing left to follow.
    ///
    /// # Errors
    ///
    /// It cannot be watched; the process comes back and the reservation stays with the caller.
    pub(super) fn insert(
        &mut self,
        started: Started,
        input: Vec<u8>,
        descriptors: usize,
    ) -> Result<(), (Child, Errno)> {
        let Started { child, pidfd, input: stdin, out, err } = started;
        let Some(watch) = self.watch.clone() else { return Err((child, Errno::BADF)) };
        let serial = self.last + 1;
        let pid = i64::from(child.pid().as_raw_pid());
        let captured = |pipe: &Option<Pipe>| pipe.as_ref().map(|_| Captured::default());
        let (kept_out, kept_err) = (captured(&out), captured(&err));
        // Nothing to write: closed at once.
        let stdin = stdin.filter(|_| !input.is_empty());
        let pipes = [(Role::Input, stdin), (Role::Out, out), (Role::Err, err)];
        let pipes: Vec<_> = pipes.into_iter().filter_map(|(role, pipe)| Some((Key(serial, role), pipe?))).collect();
        if let Err(errno) = watch_all(&watch, serial, pidfd.as_ref(), &pipes) {
            pidfd.iter().for_each(|pidfd| watch.remove(pidfd));
            pipes.iter().for_each(|(_, pipe)| watch.remove(pipe));
            return Err((child, errno));
        }
        self.last = serial;
        self.own_number(pid, serial);
        if pidfd.is_none() {
            self.unannounced.push(serial);
            // What it does not hear of it has to ask after by the clock.
            watch.ring();
        }
        self.starting -= 1;
        self.pipes.extend(pipes);
        let life = Life::Running(child, pidfd);
        let process = Process { pid, life, descriptors, input, written: 0, out: kept_out, err: kept_err };
        self.processes.insert(serial, process);
        Ok(())
    }

    /// The process id is the program's; the kernel has given it out, so whoever had it before has ended.
    fn own_number(&mut self, pid: i64, serial: u64) {
        if let Some(former) = self.pids.insert(pid, serial) {
            self.forget(former);
        }
    }

    /// What is known of a process id. A program that has ended is forgotten with the answer.
    pub(super) fn ask(&mut self, pid: i64) -> Option<Status> {
        let serial = *self.pids.get(&pid)?;
        match self.processes.get(&serial)?.life {
            Life::Running(..) | Life::Closing(..) => Some(Status::Running),
            Life::Ended(end) => {
                let process = self.forget(serial)?;
                Some(Status::Ended(Outcome { end, out: process.out, err: process.err }))
            }
        }
    }

    /// Does what can be done with a descriptor that is ready. Returns whether a program has ended by that.
    pub(super) fn handle(&mut self, number: u64, piece: &mut [u8], now: Instant) -> bool {
        let key = Key::from_number(number);
        match key.1 {
            Role::Process => self.reap(key.0, now),
            Role::Input => {
                self.feed(key);
                false
            }
            Role::Out | Role::Err => self.drain(key, piece, now),
        }
    }

    /// Does what the clock asks for. Returns whether a program has ended by that.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let mut ended = false;
        for serial in self.unannounced.clone() {
            ended |= self.reap(serial, now);
        }
        for serial in self.closing.clone() {
            match self.processes.get(&serial).map(|process| &process.life) {
                Some(Life::Closing(end, quiet, latest)) if now >= *quiet.min(latest) => {
                    let end = *end;
                    self.finish(serial, end);
                    ended = true;
                }
                _ => {}
            }
        }
        ended
    }

    /// When [`Table::tick`] has something to do next.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let closing = self.closing.iter().filter_map(|serial| match self.processes.get(serial)?.life {
            Life::Closing(_, quiet, latest) => Some(quiet.min(latest)),
            Life::Running(..) | Life::Ended(_) => None,
        });
        let asked_after = (!self.unannounced.is_empty()).then(|| now + STEP);
        closing.chain(asked_after).min()
    }

    /// Whether there is nothing to follow.
    pub(super) fn is_idle(&self) -> bool {
        self.starting == 0 && self.pipes.is_empty() && self.processes.len() == self.results.len()
    }

    /// Asks whether the process has ended, and if so reaps it.
    fn reap(&mut self, serial: u64, now: Instant) -> bool {
        let Some(process) = self.processes.get_mut(&serial) else { return false };
        let Life::Running(child, pidfd) = &mut process.life else { return false };
        let end = match child.try_wait() {
            Ok(None) => return false,
            Ok(Some(status)) => match status.code() {
                Some(code) => End::Exited(code),
                None => End::Killed(status.signal().unwrap_or_default()),
            },
            Err(_) => {
                log::warn!("somebody else has taken the exit status of process {}", process.pid);
                End::Exited(255)
            }
        };
        if let (Some(watch), Some(pidfd)) = (&self.watch, pidfd) {
            watch.remove(pidfd);
        }
        process.life = Life::Closing(end, now + QUIET, now + PATIENCE);
        self.unannounced.retain(|other| *other != serial);
        // Nobody that matters reads it any more.
        self.close(Key(serial, Role::Input));
        if self.has_output(serial) {
            self.closing.push(serial);
            return false;
        }
        self.finish(serial, end);
        true
    }

    /// Writes what standard input takes, and closes it when that is all or nobody wants it.
    fn feed(&mut self, key: Key) {
        let (Some(process), Some(pipe)) = (self.processes.get_mut(&key.0), self.pipes.get(&key)) else { return };
        while let Some(rest) = process.input.get(process.written..).filter(|rest| !rest.is_empty()) {
            match pipe.write(rest) {
                Flow::Bytes(count) => process.written += count,
                Flow::Later => return,
                Flow::Over => break,
            }
        }
        self.close(key);
    }

    /// Reads some of what there is. Returns whether a program has ended by that.
    fn drain(&mut self, key: Key, piece: &mut [u8], now: Instant) -> bool {
        for _ in 0..TURN {
            let Some(pipe) = self.pipes.get_mut(&key) else { return false };
            match pipe.read(piece) {
                Flow::Bytes(count) => {
                    if count == piece.len() {
                        pipe.widen();
                    }
                    self.keep(key, piece.get(..count).unwrap_or_default(), now);
                    // A pipe that was emptied is not asked again in vain.
                    if count < piece.len() {
                        return false;
                    }
                }
                Flow::Later => return false,
                Flow::Over => {
                    self.close(key);
                    return self.output_closed(key.0);
                }
            }
        }
        false
    }

    /// A pipe of a program has been closed: if the process had ended, that may have been all.
    fn output_closed(&mut self, serial: u64) -> bool {
        match self.processes.get(&serial).map(|process| &process.life) {
            Some(Life::Closing(end, ..)) if !self.has_output(serial) => {
                let end = *end;
                self.finish(serial, end);
                true
            }
            _ => false,
        }
    }

    fn has_output(&self, serial: u64) -> bool {
        [Role::Out, Role::Err].iter().any(|role| self.pipes.contains_key(&Key(serial, *role)))
    }

    /// Keeps what has been read from a stream, as far as the limits go. What nobody will ask for is dropped.
    fn keep(&mut self, key: Key, bytes: &[u8], now: Instant) {
        let Some(process) = self.processes.get_mut(&key.0) else { return };
        if let Life::Closing(_, quiet, _) = &mut process.life {
            *quiet = now + QUIET;
        }
        let Some(stream) = process.stream(key.1) else { return };
        // Once something is missing, all that follows would stand in the wrong place.
        if stream.truncated {
            return;
        }
        let part = bytes.get(..CAPTURE_MAX.saturating_sub(stream.bytes.len())).unwrap_or(bytes);
        stream.truncated = part.len() < bytes.len();
        let (has, needs) = (stream.bytes.capacity(), stream.bytes.len() + part.len());
        let grows = if needs > has { needs.max(has * 2).min(CAPTURE_MAX) - has } else { 0 };
        let fits = self.make_room(grows, key.0);
        let Some(stream) = self.processes.get_mut(&key.0).and_then(|process| process.stream(key.1)) else { return };
        if !fits {
            stream.truncated = true;
            return;
        }
        stream.bytes.reserve_exact(has + grows - stream.bytes.len());
        stream.bytes.extend_from_slice(part);
        self.kept += stream.bytes.capacity().saturating_sub(has);
    }

    /// Forgets unfetched results until `bytes` more can be kept for program `serial`; whether they can.
    fn make_room(&mut self, bytes: usize, serial: u64) -> bool {
        while self.kept + bytes > MOST_KEPT {
            let has_some = |other: &&u64| self.processes.get(other).is_some_and(|process| process.kept() > 0);
            let Some(oldest) = self.results.iter().filter(|other| **other != serial).find(has_some).copied() else {
                return false;
            };
            self.drop_result(oldest);
        }
        true
    }

    /// From now on the program counts as ended.
    fn finish(&mut self, serial: u64, end: End) {
        self.closing.retain(|other| *other != serial);
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.life = Life::Ended(end);
        self.descriptors -= std::mem::take(&mut process.descriptors);
        let before = process.kept();
        for stream in [&mut process.out, &mut process.err].into_iter().flatten() {
            stream.bytes.shrink_to_fit();
        }
        self.kept -= before - process.kept();
        self.results.push_back(serial);
        self.leave_pipes(serial);
        while self.results.len() > MOST_RESULTS {
            let Some(oldest) = self.results.front().copied() else { break };
            self.drop_result(oldest);
        }
    }

    /// The output that a program leaves open is nobody's concern but that of whoever writes to it.
    fn leave_pipes(&mut self, serial: u64) {
        for role in [Role::Out, Role::Err] {
            let key = Key(serial, role);
            if self.pipes.contains_key(&key) && !self.left.contains(&key) {
                self.left.push_back(key);
            }
        }
        while self.left.len() > MOST_LEFT {
            let Some(oldest) = self.left.front().copied() else { break };
            self.close(oldest);
        }
    }

    fn close(&mut self, key: Key) {
        if let Some(pipe) = self.pipes.remove(&key) {
            if let Some(watch) = &self.watch {
                watch.remove(&pipe);
            }
        }
        self.left.retain(|other| *other != key);
        if let (Role::Input, Some(process)) = (key.1, self.processes.get_mut(&key.0)) {
            self.input -= std::mem::take(&mut process.input).len();
        }
    }

    fn drop_result(&mut self, serial: u64) {
        if let Some(process) = self.forget(serial) {
            log::debug!("the result of process {} is dropped: nobody has fetched it", process.pid);
        }
    }

    /// Takes a program out whose process has ended. Its pipes stay open for those who write to them.
    fn forget(&mut self, serial: u64) -> Option<Process> {
        let process = self.processes.remove(&serial)?;
        self.descriptors -= process.descriptors;
        self.kept -= process.kept();
        self.results.retain(|other| *other != serial);
        self.closing.retain(|other| *other != serial);
        if self.pids.get(&process.pid) == Some(&serial) {
            self.pids.remove(&process.pid);
        }
        self.leave_pipes(serial);
        Some(process)
    }
}

/// Watches a program and its pipes; whoever gets the error takes out what has been added.
fn watch_all(watch: &Watch, serial: u64, pidfd: Option<&OwnedFd>, pipes: &[(Key, Pipe)]) -> Result<(), Errno> {
    if let Some(pidfd) = pidfd {
        watch.add(pidfd, Key(serial, Role::Process).to_number(), Interest::Read)?;
    }
    for (key, pipe) in pipes {
        let interest = if key.1 == Role::Input { Interest::Write } else { Interest::Read };
        watch.add(pipe, key.to_number(), interest)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
