//! A guest that is watched: its own thread takes its samples, so that no other guest can delay them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::rates::Usage;
use super::sample::{Probe, Sample};
use crate::exit::Failure;
use crate::target::Target;

/// How many values of the past are kept.
const HISTORY: usize = 256;

/// A guest that is watched.
#[derive(Debug)]
pub(crate) struct Guest {
    name: String,
    /// How old a sample may become.
    patience: Duration,
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
    stop: Stop,
}

/// What is known of a guest.
#[derive(Debug, Default, Clone)]
pub(crate) struct State {
    /// The newest sample, kept when later ones fail.
    pub(crate) sample: Option<Arc<Sample>>,
    /// What the two newest samples tell.
    pub(crate) usage: Option<Arc<Usage>>,
    /// Why there is no newer sample.
    pub(crate) failure: Option<Arc<Failure>>,
    /// How many samples were tried.
    pub(crate) polls: u64,
    /// How many of them failed.
    pub(crate) failed: u64,
    /// How often which command failed in samples that did not.
    pub(crate) command_failures: BTreeMap<&'static str, u64>,
    /// How busy the processors were, 0 to 1, the newest last.
    pub(crate) history: VecDeque<f64>,
    /// The highest rate of an interface so far, in bytes a second.
    pub(crate) peak: f64,
}

/// Whether a guest answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was not asked long enough to tell.
    Waiting,
    /// What is known of it is fresh.
    Fresh,
    /// It has not answered for so long.
    Silent(Duration),
}

impl Guest {
    /// Starts a thread that has a sample taken at each interval. A guest whose newest sample is older than `patience`
    /// counts as silent, although its question may still be open.
    pub(crate) fn watch(target: &Target, mut probe: Probe, interval: Duration, patience: Duration) -> Arc<Self> {
        let guest = Arc::new(Guest {
            name: target.name().to_owned(),
            patience,
            started: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
            stop: Stop::default(),
        });
        let watched = Arc::clone(&guest);
        // It is not joined: nothing waits for a guest, not even the end of the program.
        thread::spawn(move || {
            let mut next = Instant::now();
            loop {
                watched.record(probe.take().map_err(Failure::Agent));
                // No sample is made up for that was missed.
                next = (next + interval).max(Instant::now());
                if watched.stop.wait(next.saturating_duration_since(Instant::now())) {
                    return;
                }
            }
        });
        guest
    }

    /// Its name in the output.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Ends its thread, once the question that is open is answered or given up.
    pub(crate) fn unwatch(&self) {
        self.stop.set();
    }

    /// What is known of it.
    pub(crate) fn state(&self) -> State {
        self.lock().clone()
    }

    /// Waits until so many samples were tried, or the time is over; whether they were.
    pub(crate) fn wait(&self, polls: u64, limit: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |state| state.polls < polls);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Whether it answers.
    pub(crate) fn standing(&self, state: &State) -> Standing {
        let since = state.sample.as_ref().map_or(self.started, |sample| sample.at);
        let silent = since.elapsed();
        if state.failure.is_some() || silent > self.patience {
            Standing::Silent(silent)
        } else if state.sample.is_some() {
            Standing::Fresh
        } else {
            Standing::Waiting
        }
    }

    fn record(&self, result: Result<Sample, Failure>) {
        let mut state = self.lock();
        state.polls += 1;
        match result {
            Ok(sample) => {
                for (command, _) in &sample.failures {
                    *state.command_failures.entry(command).or_default() += 1;
                }
                let usage = Usage::between(state.sample.as_deref(), &sample);
                state.history.extend(usage.cpu.map(|cpu| cpu.busy));
                let excess = state.history.len().saturating_sub(HISTORY);
                state.history.drain(..excess);
                let rates = usage.interfaces.iter().flat_map(|interface| [interface.received, interface.sent]);
                state.peak = rates.fold(state.peak, f64::max);
                state.usage = Some(Arc::new(usage));
                state.sample = Some(Arc::new(sample));
                state.failure = None;
            }
            Err(failure) => {
                state.failed += 1;
                state.failure = Some(Arc::new(failure));
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// A thread that panicked has left nothing half done in there.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request to end that wakes whoever waits.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Requests the end.
    pub(crate) fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for so long; whether the end was requested.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_set, limit, |is_set| !*is_set);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
