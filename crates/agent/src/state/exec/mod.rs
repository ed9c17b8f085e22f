//! The programs that the host has started, by process id, and what they have left behind.
//!
//! One thread, the follower, feeds and reads all of them and reaps each when it ends. It is there while there is
//! something to follow and a moment longer, and sleeps until something happens.
//!
//! Rules for what nobody fetches, or nobody reads, or never ends:
//!
//! - A program has ended when its process has and its captured output is closed. If something in the background keeps
//!   the output open, it has ended when nothing has come for [`QUIET`] after the process's end, and at the latest
//!   [`PATIENCE`] after it. What comes until the result is fetched is still in it.
//! - After that its output is read and thrown away, so that whatever writes there is not disturbed; but for the last
//!   [`MOST_LEFT`] such pipes only, the oldest is closed.
//! - Input that has not been read when the process ends is thrown away.
//! - Of the results nobody has fetched, the last [`MOST_RESULTS`] are kept. All captured output together takes at most
//!   [`MOST_KEPT`] bytes: when more comes, the oldest unfetched results that have output go, and when there are none
//!   of those, the output that is coming is cut.
//! - Running programs are never given up. There may be as many as [`MOST_DESCRIPTORS`] allows; beyond that and beyond
//!   [`MOST_INPUT`] no program is started.
//! - A process id belongs to the last program that got it: when the kernel gives out the number of an unfetched result
//!   again, that result goes.

mod follower;
mod process;
mod table;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qga_proto::error::{Error, Result};

use crate::platform::linux::child;
use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::spawn::{Program, Started};
pub use process::{Captured, End, Outcome};
use table::Table;

/// How long nothing must have come from a process that has ended until what others keep open is not waited for.
pub const QUIET: Duration = Duration::from_secs(1);

/// How long what comes from others after a process's end is waited for at most.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Most pipes that are read on behalf of programs that have ended.
pub const MOST_LEFT: usize = 64;

/// Most results that are kept for the host to fetch.
pub const MOST_RESULTS: usize = 1000;

/// Most memory for captured output: that of two programs which fill both of their streams.
pub const MOST_KEPT: usize = 64 << 20;

/// Most memory for input that programs have not read yet; a single program's always fits.
pub const MOST_INPUT: usize = 64 << 20;

/// Most descriptors for running programs: one for each, and one for each pipe. A third of the 1,024 that a process
/// usually has; the host's open files may be half of them.
pub const MOST_DESCRIPTORS: usize = 320;

/// How long a request for the status of a running program waits for its end. A host that starts something short and
/// asks at once gets the result, and one that asks without a pause keeps the agent less busy.
pub const STATUS_WAIT: Duration = Duration::from_millis(20);

/// All programs.
#[derive(Debug, Default)]
pub struct Exec {
    shared: Arc<Shared>,
}

/// What the follower and the commands share.
#[derive(Debug, Default)]
struct Shared {
    table: Mutex<Table>,
    /// Some program has ended.
    ended: Condvar,
}

/// What is known of a program.
#[derive(Debug, PartialEq, Eq)]
pub enum Status {
    /// It runs.
    Running,
    /// It has ended; this is forgotten now.
    Ended(Outcome),
}

impl Exec {
    /// Starts a program and returns its process id.
    ///
    /// # Errors
    ///
    /// The program cannot be started, or a limit has been reached.
    pub fn start(&self, program: &Program<'_>, input: Vec<u8>) -> Result<i64> {
        let place = self.reserve(program.descriptors(), input.len())?;
        // No lock is held: the file system of the program may hang.
        let started = program.start()?;
        place.take(started, input)
    }

    /// How a program fares. If it runs, waits for its end for `patience`. One that has ended is forgotten.
    ///
    /// # Errors
    ///
    /// There is no such program.
    pub fn status(&self, pid: i64, patience: Duration) -> Result<Status> {
        let until = Instant::now() + patience;
        let mut table = self.shared.lock();
        loop {
            match table.ask(pid) {
                None => return Err(Error::generic(format!("PID {pid} does not exist"))),
                Some(Status::Running) => {}
                Some(ended) => return Ok(ended),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Status::Running);
            }
            table = self.shared.ended.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes sure that there is room for one more program, and somebody to follow it.
    fn reserve(&self, descriptors: usize, input: usize) -> Result<Place<'_>> {
        let mut table = self.shared.lock();
        table.check_room(descriptors, input)?;
        if table.watch.is_none() {
            table.watch = Some(follower::start(&self.shared).map_err(cannot_follow)?);
        }
        table.reserve(descriptors, input);
        Ok(Place { shared: &self.shared, descriptors, input, is_taken: false })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for a program that is about to start.
#[derive(Debug)]
struct Place<'a> {
    shared: &'a Shared,
    descriptors: usize,
    input: usize,
    /// It is the program's now.
    is_taken: bool,
}

impl Place<'_> {
    /// Hands a program over to the follower.
    fn take(mut self, started: Started, input: Vec<u8>) -> Result<i64> {
        let pid = i64::from(started.child.pid().as_raw_pid());
        let mut table = self.shared.lock();
        match table.insert(started, input, self.descriptors) {
            Ok(()) => {
                self.is_taken = true;
                Ok(pid)
            }
            Err((child, errno)) => {
                drop(table);
                child::kill_and_reap(child.pid());
                Err(cannot_follow(errno))
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_taken {
            return;
        }
        let mut table = self.shared.lock();
        table.release(self.descriptors, self.input);
        // The follower may have waited for this start alone.
        if let Some(watch) = &table.watch {
            watch.ring();
        }
    }
}

fn cannot_follow(error: impl ErrnoText) -> Error {
    Error::generic(format!("cannot follow the program: {}", error.errno_text()))
}

#[cfg(test)]
mod tests;
