//! The signals that end a freeze in good order.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Failure;

/// Signals that were caught.
#[derive(Debug)]
pub(super) struct Signals {
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// Catches them from now on, except a HUP that whoever started us wants to have ignored (`nohup`).
    pub(super) fn catch() -> Result<Self, Failure> {
        let signals = Signals { last: Arc::default() };
        let ignored = ignored_signals();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && ignored & (1 << (signal - 1)) != 0 {
                continue;
            }
            flag::register_usize(signal, Arc::clone(&signals.last), signal as usize)
                .map_err(|error| Failure::Host(format!("cannot catch signals: {}", error.kind())))?;
        }
        Ok(signals)
    }

    /// The last one, once.
    pub(super) fn take(&self) -> Option<u8> {
        u8::try_from(self.last.swap(0, Ordering::SeqCst)).ok().filter(|signal| *signal != 0)
    }
}

/// The signals that this process ignores, one bit each; none if the system does not tell.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
