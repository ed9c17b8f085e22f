//! The guests that are watched, and those that come and go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::exit::Failure;
use crate::monitor::{Guest, Probe};
use crate::output::Printer;
use crate::target::Target;

/// Time beyond interval and limit after which a sample is too old to be shown.
const GRACE: Duration = Duration::from_secs(2);

/// The guests that are watched.
#[derive(Debug)]
pub(crate) struct Watch {
    interval: Duration,
    limit: Duration,
    reads_files: bool,
    guests: Mutex<Vec<(Target, Arc<Guest>)>>,
    /// How often the list of machines could not be read.
    pub(crate) list_failures: AtomicU64,
    /// Whether the last time was one of them.
    is_list_lost: AtomicBool,
}

impl Watch {
    /// Nobody yet.
    pub(crate) fn new(interval: Duration, limit: Duration, reads_files: bool) -> Self {
        Watch {
            interval,
            limit,
            reads_files,
            guests: Mutex::default(),
            list_failures: AtomicU64::new(0),
            is_list_lost: AtomicBool::new(false),
        }
    }

    /// Watches exactly these: begins with those that are new, and forgets those that are gone.
    pub(crate) fn update(&self, targets: &[Target]) {
        self.is_list_lost.store(false, Ordering::Relaxed);
        let mut guests = self.lock();
        guests.retain(|(target, guest)| {
            let stays = targets.contains(target);
            if !stays {
                guest.unwatch();
            }
            stays
        });
        for target in targets {
            if !guests.iter().any(|(known, _)| known == target) {
                let probe = Probe::new(target.clone(), self.limit, self.reads_files);
                let patience = self.interval + self.limit + GRACE;
                guests.push((target.clone(), Guest::watch(target, probe, self.interval, patience)));
            }
        }
    }

    /// Those that are watched now.
    pub(crate) fn guests(&self) -> Vec<Arc<Guest>> {
        self.lock().iter().map(|(_, guest)| Arc::clone(guest)).collect()
    }

    /// The list of machines could not be read: those that are known stay, and it is said once.
    pub(crate) fn list_failed(&self, failure: &Failure, printer: &Printer) {
        self.list_failures.fetch_add(1, Ordering::Relaxed);
        if !self.is_list_lost.swap(true, Ordering::Relaxed) {
            printer.complain(None, failure);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Target, Arc<Guest>)>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
