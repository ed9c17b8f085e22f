//! A thread for what may have to wait for a disk. Whoever asks it to do something waits for that only a moment.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

/// How long is waited. A disk that works takes far less to take a line into the system's memory.
const PATIENCE: Duration = Duration::from_millis(50);

/// A stack for a few system calls.
const STACK: usize = 64 << 10;

type Job = Box<dyn FnOnce() + Send>;

/// The thread.
#[derive(Debug)]
pub(super) struct Aside {
    jobs: Sender<Job>,
    busy: Arc<AtomicBool>,
}

/// What has become of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<T> {
    /// It is done, with this result.
    Done(T),
    /// It is still being done.
    Late,
    /// It is not done, since another one still is.
    Busy,
}

impl Aside {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no other thread.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel::<Job>();
        let work = move || receiver.iter().for_each(|job| job());
        thread::Builder::new().name("log".into()).stack_size(STACK).spawn(work)?;
        Ok(Aside { jobs, busy: Arc::default() })
    }

    /// Has `work` done, if nothing else is.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Asked<T> {
        if self.busy.swap(true, Ordering::SeqCst) {
            return Asked::Busy;
        }
        let busy = Arc::clone(&self.busy);
        let (done, wait) = mpsc::channel();
        let job = move || {
            let result = work();
            busy.store(false, Ordering::SeqCst);
            // Nobody may be waiting any more.
            let _ = done.send(result);
        };
        // It never goes: the other end is there as long as the thread is.
        let _ = self.jobs.send(Box::new(job));
        wait.recv_timeout(PATIENCE).map_or(Asked::Late, Asked::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_not_waited_for_and_nothing_is_queued_behind_it() {
        let aside = Aside::start().unwrap();
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
