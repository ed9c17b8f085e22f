//! Worker threads. Each conversation has one, started when first needed and ended when idle. A thread that hangs
//! is left behind: it is counted, its late result is dropped, and it ends when whatever held it lets go.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use qga_proto::envelope;
use qga_proto::error::Error;
use qga_proto::frame::Document;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::platform::linux::errno::{Context, ErrnoText};

/// How long a worker waits for more work before it ends.
const IDLE: Duration = Duration::from_secs(5);

/// Most threads that may be left behind at one time. Each holds a stack and whatever its command holds.
pub const STUCK_MAX: usize = 8;

/// How many more there may be for commands that a frozen guest cannot do without.
pub const STUCK_SPARE: usize = 4;

/// Address space for a worker's stack; only touched pages count.
const STACK: usize = 1 << 20;

/// A piece of work: runs on the worker, returns the reply.
pub type Job = Box<dyn FnOnce() -> Answer + Send>;

/// Takes back what a command has done that nobody hears of. It may block.
pub type Undo = Box<dyn FnOnce() + Send>;

/// What a job ends with.
#[derive(Default)]
pub struct Answer {
    /// What is to be sent.
    pub reply: Vec<u8>,
    /// What is to be done should it not be sent.
    pub undo: Option<Undo>,
    /// The message that was answered, for whoever has a use for its memory.
    pub request: Option<Document>,
}

impl From<Vec<u8>> for Answer {
    fn from(reply: Vec<u8>) -> Self {
        Answer { reply, undo: None, request: None }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("reply", &self.reply.len()).field("undo", &self.undo.is_some()).finish()
    }
}

/// How much a job is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It is refused when [`STUCK_MAX`] threads are left behind.
    Common,
    /// It may have one of the [`STUCK_SPARE`] besides.
    Spare,
}

/// Names one job for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A job that ended.
#[derive(Debug)]
pub struct Done {
    /// Which conversation asked for it.
    pub session: u64,
    /// Which job it is.
    pub ticket: Ticket,
    /// What is to be sent.
    pub answer: Answer,
}

/// Starts workers, collects what they return, and knows those left behind.
#[derive(Debug)]
pub struct Executor {
    results: Arc<Results>,
    next: u64,
    stuck: BTreeMap<Ticket, Stuck>,
    /// No more jobs are taken.
    closed: bool,
}

#[derive(Debug)]
struct Stuck {
    command: &'static str,
    since: Instant,
}

#[derive(Debug)]
struct Results {
    done: Mutex<Vec<Done>>,
    /// Becomes readable when there is something in `done`.
    wake: OwnedFd,
}

/// A conversation's thread.
#[derive(Debug)]
pub struct Worker {
    slot: Arc<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    state: Mutex<SlotState>,
    changed: Condvar,
}

#[derive(Default)]
struct SlotState {
    job: Option<(u64, Ticket, Job)>,
    /// Nobody will send another job.
    closed: bool,
    /// The thread has ended, or is about to without looking again.
    ended: bool,
}

impl fmt::Debug for SlotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotState").field("closed", &self.closed).field("ended", &self.ended).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor {
    /// An executor without any thread.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let results = Arc::new(Results { done: Mutex::default(), wake });
        Ok(Executor { results, next: 0, stuck: BTreeMap::new(), closed: false })
    }

    /// Readable when [`Executor::collect`] has something.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.results.wake.as_fd()
    }

    /// Starts `job` on the conversation's worker, which is made if there is none.
    ///
    /// # Errors
    /// Too many threads are left behind, there can be no other thread, or the last job has been started.
    pub fn start(&mut self, session: u64, worker: &mut Option<Worker>, need: Need, job: Job) -> Result<Ticket, Error> {
        if self.closed {
            return Err(Error::generic("the agent is about to end"));
        }
        let ticket = self.ticket();
        let mut job = (session, ticket, job);
        if let Some(worker) = worker {
            match worker.give(job) {
                Ok(()) => return Ok(ticket),
                Err(back) => job = back,
            }
        }
        let most = match need {
            Need::Common => STUCK_MAX,
            Need::Spare => STUCK_MAX + STUCK_SPARE,
        };
        if self.stuck.len() >= most {
            return Err(self.all_stuck());
        }
        *worker = Some(self.spawn(job)?);
        Ok(ticket)
    }

    /// Starts `job` on a thread of its own, however many are left behind, and takes no other job from now on.
    ///
    /// # Errors
    /// There can be no other thread.
    pub fn start_last(&mut self, session: u64, job: Job) -> Result<(), Error> {
        self.closed = true;
        let job = (session, self.ticket(), job);
        // Its thread ends with it.
        self.spawn(job).map(drop)
    }

    /// Whether the last job has been started.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    fn spawn(&self, job: (u64, Ticket, Job)) -> Result<Worker, Error> {
        let slot = Arc::new(Slot::default());
        lock(&slot.state).job = Some(job);
        let shared = (Arc::clone(&slot), Arc::clone(&self.results));
        thread::Builder::new()
            .name("worker".into())
            .stack_size(STACK)
            .spawn(move || work(&shared.0, &shared.1))
            .context(|| "cannot start a thread for the command".into())?;
        Ok(Worker { slot })
    }

    /// Leaves a worker behind with the job it is running.
    pub fn abandon(&mut self, worker: Worker, ticket: Ticket, command: &'static str, since: Instant) {
        log::warn!("{command} has been running for {} s; it is left behind", since.elapsed().as_secs());
        drop(worker);
        self.stuck.insert(ticket, Stuck { command, since });
    }

    /// What has ended since the last call. Jobs that were left behind are taken out here and nobody hears of them.
    pub fn collect(&mut self) -> Vec<Done> {
        let mut counter = [0; 8];
        // Nothing to read is fine: the list below is what counts.
        let _ = rustix::io::read(&self.results.wake, &mut counter);
        let mut done = std::mem::take(&mut *lock(&self.results.done));
        done.retain_mut(|done| match self.stuck.remove(&done.ticket) {
            Some(stuck) => {
                log::info!("{} ended after {} s", stuck.command, stuck.since.elapsed().as_secs());
                undo(std::mem::take(&mut done.answer));
                false
            }
            None => true,
        });
        done
    }

    /// How many threads are left behind: those whose end [`Executor::collect`] has not seen yet.
    pub fn left_behind(&self) -> usize {
        self.stuck.len()
    }

    /// The refusal that names every command that still hangs.
    fn all_stuck(&self) -> Error {
        let names: Vec<_> = self
            .stuck
            .values()
            .map(|stuck| format!("{} for {} s", stuck.command, stuck.since.elapsed().as_secs()))
            .collect();
        Error::generic(format!("too many commands are still blocked: {}", names.join(", ")))
    }
}

/// Has taken back, on a thread of its own, what a job did whose answer is not sent.
pub fn undo(answer: Answer) {
    let Some(undo) = answer.undo else { return };
    let started = thread::Builder::new().name("undo".into()).stack_size(STACK).spawn(undo);
    if let Err(error) = started {
        log::warn!("what a command did that nobody waits for any more stays: {}", error.errno_text());
    }
}

impl Worker {
    fn give(&self, job: (u64, Ticket, Job)) -> Result<(), (u64, Ticket, Job)> {
        let mut state = lock(&self.slot.state);
        if state.ended {
            return Err(job);
        }
        state.job = Some(job);
        // Let go first: on one processor the worker runs at once, and would have to wait for it again.
        drop(state);
        self.slot.changed.notify_one();
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        lock(&self.slot.state).closed = true;
        self.slot.changed.notify_one();
    }
}

fn work(slot: &Slot, results: &Results) {
    loop {
        let mut state = lock(&slot.state);
        if state.job.is_none() && !state.closed {
            state = slot.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner).0;
        }
        let Some((session, ticket, job)) = state.job.take() else {
            // Also after a wake-up without a reason; the next job makes a new thread.
            state.ended = true;
            return;
        };
        drop(state);
        // Dispatch answers for a command that panics. Without an answer for the rest the conversation would wait for ever.
        let answer = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| {
            log::error!("a request failed unexpectedly");
            let mut reply = Vec::new();
            envelope::failure(&mut reply, &Error::generic("the request failed unexpectedly"), None);
            reply.into()
        });
        lock(&results.done).push(Done { session, ticket, answer });
        // The counter cannot overflow in practice, and a full one is readable all the same.
        let _ = rustix::io::write(&results.wake, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for_result(executor: &mut Executor) -> Done {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            if let Some(done) = executor.collect().pop() {
                return done;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("no result");
    }

    #[test]
    fn a_job_that_panics_has_a_result_and_its_worker_goes_on() {
        let mut executor = Executor::new().unwrap();
        let mut worker = None;
        let ticket = executor.start(1, &mut worker, Need::Common, Box::new(|| panic!("on purpose"))).unwrap();
        let done = wait_for_result(&mut executor);
        assert_eq!(done.ticket, ticket);
        let text = String::from_utf8(done.answer.reply).unwrap();
        assert!(text.contains("GenericError") && text.ends_with("}\n"), "{text}");
        executor.start(1, &mut worker, Need::Common, Box::new(|| b"fine".to_vec().into())).unwrap();
        assert_eq!(wait_for_result(&mut executor).answer.reply, b"fine");
    }

    #[test]
    fn the_last_job_is_done_although_as_many_as_may_be_are_stuck_and_nothing_is_after_it() {
        let mut executor = Executor::new().unwrap();
        let gate = Arc::new(Mutex::new(()));
        let shut = gate.lock().unwrap();
        for session in 0..STUCK_MAX as u64 {
            let (mut worker, gate) = (None, Arc::clone(&gate));
            let job = Box::new(move || {
                drop(gate.lock());
                Answer::default()
            });
            let ticket = executor.start(session, &mut worker, Need::Common, job).unwrap();
            executor.abandon(worker.unwrap(), ticket, "test-wait", Instant::now());
        }
        let refused = executor.start(100, &mut None, Need::Common, Box::new(Answer::default)).unwrap_err();
        assert!(refused.desc.starts_with("too many commands are still blocked"), "{refused}");
        executor.start_last(0, Box::new(|| b"thawed".to_vec().into())).unwrap();
        assert_eq!(wait_for_result(&mut executor).answer.reply, b"thawed");
        drop(shut);
        let refused = executor.start(100, &mut None, Need::Common, Box::new(Answer::default)).unwrap_err();
        assert_eq!(refused.desc, "the agent is about to end");
    }
}
