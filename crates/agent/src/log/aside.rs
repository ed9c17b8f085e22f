//! A thread for what may have to wait for a disk. Whoever asks it to do something waits for that only a moment. It ends
//! when there is nothing to do, and another one is started.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SendError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long is waited. A disk that works takes far less to take a line into the system's memory.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long the thread waits for something to do.
const IDLE: Duration = Duration::from_secs(5);

/// A stack for a few system calls.
const STACK: usize = 64 << 10;

type Job = Box<dyn FnOnce() + Send>;

/// The thread, if there is one.
#[derive(Debug, Default)]
pub(super) struct Aside {
    jobs: Mutex<Option<Sender<Job>>>,
    busy: Arc<AtomicBool>,
}

/// Ends a job, also one that was never begun.
struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// What has become of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<T> {
    /// It is done, with this result.
    Done(T),
    /// It is still being done.
    Late,
    /// It is not done, since another one still is, or there can be no thread.
    Busy,
}

impl Aside {
    /// Has `work` done, if nothing else is.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Asked<T> {
        if self.busy.swap(true, Ordering::SeqCst) {
            return Asked::Busy;
        }
        let turn = Turn(Arc::clone(&self.busy));
        let (done, wait) = mpsc::channel();
        let job = move || {
            let result = work();
            drop(turn);
            // Nobody may be waiting any more.
            let _ = done.send(result);
        };
        match self.give(Box::new(job)).map(|()| wait.recv_timeout(PATIENCE)) {
            Ok(Ok(result)) => Asked::Done(result),
            Ok(Err(RecvTimeoutError::Timeout)) => Asked::Late,
            // No thread, or it ended at this very moment.
            Ok(Err(RecvTimeoutError::Disconnected)) | Err(_) => Asked::Busy,
        }
    }

    fn give(&self, job: Job) -> io::Result<()> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match &*jobs {
            None => job,
            Some(sender) => match sender.send(job) {
                Ok(()) => return Ok(()),
                Err(SendError(job)) => job,
            },
        };
        let (sender, receiver) = mpsc::channel::<Job>();
        let work = move || {
            job();
            while let Ok(job) = receiver.recv_timeout(IDLE) {
                job();
            }
        };
        thread::Builder::new().name("log".into()).stack_size(STACK).spawn(work)?;
        *jobs = Some(sender);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_not_waited_for_and_nothing_is_queued_behind_it() {
        let aside = Aside::default();
        let (go, wait) = mpsc::channel::<()>();
        let late = aside.run(move || wait.recv().unwrap());
        assert_eq!(late, Asked::Late);
        assert_eq!(aside.run(|| 1), Asked::Busy);
        go.send(()).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while aside.run(|| ()) == Asked::Busy {
            assert!(std::time::Instant::now() < until);
        }
    }
}
